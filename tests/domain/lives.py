"""Lives of releases, each come so far, on the small cluster of world.py."""

from __future__ import annotations

from collections.abc import Callable

from controller.api.status import Step
from controller.domain.snapshot import hex_of
from tests.builders import artifact
from tests.domain.turns import run, settle, until
from tests.domain.world import World, adapter_digest, digest_of

V1, V2, V3 = (adapter_digest(n) for n in (1, 2, 3))
M1, M2 = (digest_of("artifact", digest) for digest in (V1, V2))


def serving_v1(pods: int = 2, slots: int = 4, plugin: bool = False) -> World:
    return settle(World(pods, slots, plugin=plugin), 12)


def promoted(pods: int = 2, slots: int = 4, plugin: bool = False) -> World:
    """v1 is merged, has the traffic, and the observation is over; the adapter is still loaded behind it."""
    return settle(serving_v1(pods, slots, plugin).promote(), 90)


def in_step(step: Step) -> Callable[[World], bool]:
    return lambda world: world.status.rollout.step is step


def observing() -> World:
    return until(serving_v1().promote(), in_step(Step.OBSERVING))


def rolling_back_to_nothing() -> World:
    """The merged model died after the adapter behind it was unloaded, and no base pod takes that again."""
    world = settle(promoted().pass_time(3600), 15)
    for pod in world.pods.values():
        pod.refuses = {hex_of(V1)}
    world.merged_goes(M1, available=False)
    world.merged[M1].never_starts = True
    return settle(until(world, in_step(Step.ROLLING_BACK)), 5)


def revision_does_not_start() -> World:
    """A user names the revision of the first artifact, and its image cannot be pulled."""
    world = settle(promoted().set_version(2), 120)
    revision = next(h.revision for h in world.history if h.backend == artifact(M1))
    world.edit(rollback={"revision": revision})
    until(world, lambda w: M1 in w.merged)
    world.merged[M1].never_starts, world.merged[M1].trouble = True, "pod m: ImagePullBackOff"
    world.merged[M1].available = False
    return settle(world, 40, tick=30)


def switched_in_vain(world: World) -> World:
    """Promoted again; the route reaches another model, and goes back."""
    until(world.promote(), in_step(Step.SWITCHING))
    world.answers_wrong = True
    until(world, in_step(Step.ROLLING_BACK))
    world.answers_wrong = False
    return until(world, in_step(Step.IDLE))


def labels(world: World) -> list[str | None]:
    return [pod.label for pod in world.pods.values()]


def steps_of(world: World, rounds: int) -> list[Step]:
    """The steps that it goes through, each once."""
    seen: list[Step] = []
    for done in run(world, rounds):
        if done.status.rollout.step not in seen[-1:]:
            seen.append(done.status.rollout.step)
    return seen


def break_it(world: World, artifact_id: str = M1) -> None:
    world.merged[artifact_id].errors += 1000
    world.merged[artifact_id].requests += 1000
