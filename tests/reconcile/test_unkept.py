"""A controller that is newer than the CRD: the API server prunes fields of its status, and answers 200."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from controller.reconcile.unkept import explanation, unkept
from controller.runtime.resources import SERVICES
from controller.runtime.worker import Result
from tests.builders import release
from tests.reconcile.cluster import Cluster, import_summary
from tests.reconcile.test_board import Shown
from tests.reconcile.test_capacity_life import Scaling, replicas, scaling, settled
from tests.reconcile.test_life import serve_adapter, until_job

pytestmark = pytest.mark.slow

STATUS = "/adapterreleases/support-bot/status"
TOLD = (
    "An action was refused: remember all of the status: the CRD does not have status.observedRetry, "
    "so it is older than this controller. Apply the CRD of the controller's version."
)


@pytest.fixture
def world() -> Iterator[Scaling]:
    with scaling() as made:
        yield made


def before(world: Cluster, *fields: str) -> None:
    """The CRD is of a time in which it did not have them."""
    world.api.etcd.unknown = {"adapterreleases": list(fields)}


def writes(world: Cluster, passes: int) -> int:
    """Of the status."""
    count = world.api.count("PUT", path=STATUS)
    for _ in range(passes):
        world.reconcile()
        world.settle()
        world.now += timedelta(seconds=1)
    return world.api.count("PUT", path=STATUS) - count


def told(world: Cluster) -> list[str]:
    return [message for _, reason, message in world.events if reason == "ActionRefused"]


def mending(world: Cluster) -> bool:
    return any(key[2] == "Mending" for key in Shown(world.board).of("waiting_for_people"))


def test_a_release_is_served_and_its_status_not_written_again_and_again(world: Scaling) -> None:
    before(world, "observedRetry")
    world.apply(release())
    serve_adapter(world)
    writes(world, 10)
    assert writes(world, 10) == 0
    assert "observedRetry" not in world.release()["status"]


def test_a_person_is_told_what_is_lost_and_what_to_do_and_again_after_a_while(world: Scaling) -> None:
    before(world, "observedRetry")
    world.apply(release())
    serve_adapter(world)
    writes(world, 10)
    assert told(world) == [TOLD]
    assert mending(world)
    world.now += timedelta(minutes=10)
    assert writes(world, 5) == 1, "the CRD may be there by now"
    assert told(world) == [TOLD, TOLD]


def test_when_the_crd_is_applied_all_is_remembered_and_nothing_more_is_told(world: Scaling) -> None:
    before(world, "observedRetry")
    world.apply(release())
    serve_adapter(world)
    writes(world, 10)
    before(world)
    world.now += timedelta(minutes=10)
    assert writes(world, 5) == 1
    assert world.release()["status"]["observedRetry"] == ""
    world.now += timedelta(minutes=10)
    assert writes(world, 5) == 0
    assert told(world) == [TOLD]
    assert not mending(world)


def test_what_else_changes_is_written_at_once(world: Scaling) -> None:
    before(world, "observedRetry")
    world.apply(release())
    serve_adapter(world)
    writes(world, 10)
    world.restart("pod-0")
    assert writes(world, 10) > 0


def test_a_decision_that_is_lost_is_not_made_as_fast_as_it_goes(world: Scaling) -> None:
    """That the base is to be scaled down: it is never remembered, so it is never done."""
    settled(world)
    before(world, "base")
    writes(world, 10)
    assert writes(world, 10) == 0
    assert world.reconcile() == Result(1.0)
    assert replicas(world) == 2


def test_the_route_moves_by_what_is_stored(world: Scaling) -> None:
    """Not in the same pass, by a decision of which a part was lost."""
    before(world, "observedRetry")
    world.apply(release())
    world.finish_job(until_job(world, "import"), import_summary())
    world.run(lambda: world.step() == "Switching")
    assert "support-bot" not in world.names(SERVICES)
    world.run(lambda: world.serving() is not None)


def test_fields_are_found_at_every_depth_and_named_once_for_a_list() -> None:
    written = {"a": 1, "b": {"c": 1, "d": {"e": 1}}, "f": [{"g": 1, "h": 1}, {"g": 2, "h": 2}], "i": ["x"]}
    stored = {"a": 1, "b": {"d": {}}, "f": [{"g": 1}, {"g": 2}], "i": ["x"]}
    assert unkept(written, stored) == {("b", "c"), ("b", "d", "e"), ("f", "h")}
    assert unkept(written, written) == frozenset()


def test_many_fields_are_counted() -> None:
    assert "status.a, status.b, status.c and 2 more, so" in explanation([(name,) for name in "edcba"])
