"""Metrics of a release through its life: real passes against a fake API server and fake vLLMs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta

import pytest

from controller.api.status import AdapterReleaseStatus
from controller.errors import Conflict, PermanentError
from controller.reconcile.board import Board
from controller.reconcile.caches import RELEASES
from controller.reconcile.engines import SECRETS
from controller.reconcile.reconciler import Reconciler
from controller.reconcile.turn import Turn
from controller.reconcile.unkept import Path
from tests.builders import release
from tests.reconcile.cluster import KEY, NAMESPACE, Cluster, cluster, import_summary
from tests.reconcile.test_board import Shown
from tests.reconcile.test_life import promote, serve_adapter, until_job

pytestmark = pytest.mark.slow


@pytest.fixture
def world() -> Iterator[Cluster]:
    with cluster() as made:
        made.add_base(pods=2)
        yield made


def new_leader(world: Cluster) -> Board:
    """The controller is restarted: another board, and a memory of nothing but the status."""
    old, world.board = world.reconciler, Board(world.board._token_changed_at)
    world.reconciler = Reconciler(
        old._observe, old._plan, old._act, old._write_status, world, world.board, lambda: world.now
    )
    return world.board


def test_the_life_of_a_release_is_shown(world: Cluster) -> None:
    world.apply(release().stable())
    serve_adapter(world)
    found = Shown(world.board)
    assert found.of("serving_info") == {(*KEY, "Adapter", "v1", ""): 1}
    assert found.of("base_slots")[NAMESPACE, "tiny-llama", "total"] == 16
    promote(world)
    world.run(lambda: world.step() == "Idle", passes=120)
    found = Shown(world.board)
    assert found.of("serving_info") == {(*KEY, "Artifact", "v1", "a" * 12): 1}
    assert found.of("status_condition")[*KEY, "Promoted", "True", "Promoted"] == 1
    assert found.of("artifact_size_bytes") == {(*KEY, "a" * 12): 1}
    assert found.of("adapter_loaded") == {(*KEY, "pod-0"): 1, (*KEY, "pod-1"): 1}
    assert found.of("base_slots")[NAMESPACE, "tiny-llama", "used"] == 2
    assert found.of("waiting_for_people") == {}
    made_at = world.get(SECRETS, "adapterrelease-engine")["metadata"]["creationTimestamp"]
    token_age = {(NAMESPACE,): datetime.fromisoformat(made_at).timestamp()}
    assert found.of("engine_token_created_timestamp_seconds") == token_age, "it is read for the merged pods anyway"
    assert found.of("last_successful_sync_timestamp_seconds")[tuple(KEY)] > 0
    switches = {key[2:]: value for key, value in found.of("switches_total").items() if value}
    assert switches == {("Adapter", "FirstLoad"): 1, ("Artifact", "Promoted"): 1}
    ended = {key[0]: value for key, value in found.of("step_duration_seconds_count").items() if value}
    assert ended == dict.fromkeys(
        ("Importing", "Loading", "Switching", "Building", "Starting", "Validating", "Observing"), 1
    ) | {"Switching": 2}


def test_a_new_leader_shows_everything_again_after_one_look_and_no_counter_jumps(world: Cluster) -> None:
    world.apply(release().stable())
    serve_adapter(world)
    promote(world)
    world.run(lambda: world.step() == "Idle", passes=120)
    world.reconcile()
    before = Shown(world.board)
    board = new_leader(world)
    assert Shown(board).samples == {}
    world.reconcile()
    after = Shown(board)
    counted = {"switches_total", "last_successful_sync_timestamp_seconds", "waited_for_people_seconds_total"}
    gauges = [
        {k: v for k, v in x.samples.items() if k[0] not in counted and "duration" not in k[0]} for x in (before, after)
    ]
    assert gauges[0] == gauges[1]
    assert set(after.of("switches_total").values()) == {0}
    assert set(after.of("step_duration_seconds_count").values()) == {0}


def test_a_switch_whose_status_write_lost_is_counted_when_it_is_written(world: Cluster) -> None:
    """The pass is repeated, the switch is one."""
    lost = 0

    def lose_once(status: AdapterReleaseStatus, turn: Turn) -> frozenset[Path]:
        nonlocal lost
        if lost == 0 and status.history:
            lost += 1
            raise Conflict("changed")
        return write(status, turn)

    write, world.reconciler._write_status = world.reconciler._write_status, lose_once
    world.apply(release())
    world.finish_job(until_job(world, "import"), import_summary())
    with pytest.raises(Conflict):
        world.run(lambda: world.serving() is not None)
    assert sum(Shown(world.board).of("switches_total").values()) == 0
    world.run(lambda: world.serving() is not None)
    for _ in range(3):
        world.reconcile()
    assert (lost, sum(Shown(world.board).of("switches_total").values())) == (1, 1)


def test_a_pass_that_failed_is_no_sync(world: Cluster) -> None:
    made = release().stable()
    made.wire["spec"]["build"]["podTemplate"] = {"spec": {"containers": [{"name": "job", "env": [{"value": "1"}]}]}}
    world.apply(made)
    serve_adapter(world)
    with suppress(PermanentError):
        world.run(lambda: False)
    synced = Shown(world.board).of("last_successful_sync_timestamp_seconds")[tuple(KEY)]
    world.now += timedelta(seconds=5)
    with pytest.raises(PermanentError):
        world.reconcile()
    found = Shown(world.board)
    assert found.of("last_successful_sync_timestamp_seconds")[tuple(KEY)] == synced
    assert found.of("waiting_for_people") == {(*KEY, "Mending"): 1}


def test_a_release_that_is_deleted_is_not_shown_any_more(world: Cluster) -> None:
    world.apply(release())
    serve_adapter(world)
    world.api.delete(RELEASES.path(*KEY))
    world.run(lambda: not any(p.plural == "adapterreleases" for p in world.api.etcd.objects), passes=90)
    world.reconcile()
    assert not [key for key in Shown(world.board).samples if KEY.name in key]
    assert Shown(world.board).of("base_info") == {}
