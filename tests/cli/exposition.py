"""What a leading controller serves after releases have lived: every metric of releases is in it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from prometheus_client import generate_latest

from controller.api.status import RolloutStatus, Step
from controller.domain.plan import plan
from controller.domain.snapshot import JobState, StageFacts
from controller.reconcile.board import Board
from controller.runtime.metrics import registry_with
from controller.runtime.resources import Key
from tests.builders import T0
from tests.domain.lives import in_step, promoted, serving_v1
from tests.domain.turns import settle, until
from tests.domain.world import World


def whole_exposition() -> str:
    """As text, one scrape."""
    board = Board(lambda namespace: T0)
    show(board, building(), "building", waits=["Mending"])
    show(board, promoted(), "promoted", seconds={"merge": "11.0"})
    return generate_latest(registry_with(board)).decode()


def building() -> World:
    world = until(serving_v1(plugin=True).promote(), in_step(Step.BUILDING))
    settle(world, 2, slow=True)
    for key, job in world.jobs.items():
        if job.facts.state is JobState.ACTIVE:
            stage = StageFacts("merge", 4, 10, 4)
            world.jobs[key] = replace(job, facts=replace(job.facts, stage=stage))
    return world


def show(
    board: Board,
    world: World,
    name: str,
    waits: tuple[str, ...] | list[str] = (),
    seconds: dict[str, str] | None = None,
) -> None:
    """Put the release of this world on the board, under this name."""
    seen = world.snapshot()
    status = plan(seen, world.now).status
    if status.artifact is not None and seconds is not None:
        status = status.model_copy(update={"artifact": status.artifact.model_copy(update={"build_seconds": seconds})})
    metadata = seen.release.metadata.model_copy(update={"name": name})
    board.looked(replace(seen, release=seen.release.model_copy(update={"metadata": metadata})), status, waits)
    key = Key(metadata.namespace, name)
    before = status.model_copy(
        update={"rollout": RolloutStatus(step=Step.LOADING, started_at=world.now), "history": []}
    )
    board.wrote(key, before, status, world.now + timedelta(seconds=3))
    board.synced(key, world.now)
