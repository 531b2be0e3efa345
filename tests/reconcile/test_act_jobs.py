"""Ending a job whose result nobody waits for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from controller.api.v1alpha1 import RETRY_ANNOTATION
from controller.domain.actions import EndJob, EnsureJob
from controller.domain.snapshot import JobKind
from controller.errors import LeadershipLost
from controller.reconcile.caches import RELEASES
from controller.reconcile.turn import StaleRelease
from controller.runtime.resources import JOBS
from tests.builders import release
from tests.reconcile.cluster import KEY, NAMESPACE, Cluster, cluster

JOB = "support-bot-import-ffffffff"
END = EndJob("why", JOB)


@pytest.fixture
def world() -> Iterator[Cluster]:
    with cluster() as made:
        made.add_base()
        made.apply(release())
        made.actor(EnsureJob("why", JobKind.IMPORT, "f" * 64), made.turn())
        yield made


def test_a_job_that_runs_is_deleted_and_that_can_be_repeated(world: Cluster) -> None:
    for _ in range(2):
        world.actor(END, world.turn())
    assert world.names(JOBS) == []


def test_a_job_that_has_ended_meanwhile_keeps_its_result(world: Cluster) -> None:
    done = {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    world.api.patch(JOBS.path(NAMESPACE, JOB, "status"), done)
    world.actor(END, world.turn())
    assert world.names(JOBS) == [JOB]


def test_a_job_of_somebody_else_is_not_deleted(world: Cluster) -> None:
    world.api.create(JOBS.path(NAMESPACE), {"metadata": {"name": "theirs"}})
    world.actor(EndJob("why", "theirs"), world.turn())
    assert "theirs" in world.names(JOBS)


def test_no_job_is_deleted_by_a_plan_for_an_older_release(world: Cluster) -> None:
    turn = world.turn()
    world.api.patch(RELEASES.path(*KEY), {"metadata": {"annotations": {RETRY_ANNOTATION: "1"}}})
    with pytest.raises(StaleRelease):
        world.actor(END, turn)
    assert world.names(JOBS) == [JOB]


def test_no_job_is_deleted_by_one_who_no_longer_leads(world: Cluster) -> None:
    turn = world.turn()
    world.leading = False
    with pytest.raises(LeadershipLost):
        world.actor(END, turn)
    assert world.names(JOBS) == [JOB]
