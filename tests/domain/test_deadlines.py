"""Every waiting step has a deadline in status, and an outcome."""

from __future__ import annotations

import pytest

from controller.api.status import Step
from tests.domain.lives import in_step, serving_v1
from tests.domain.turns import quiet, settle, until
from tests.domain.world import World


@pytest.mark.parametrize(
    ("step", "limit", "reason"),
    [
        (Step.IMPORTING, 15 * 60, "ImportDeadlineExceeded"),
        (Step.BUILDING, 2 * 3600, "BuildDeadlineExceeded"),
        (Step.VALIDATING, 30 * 60, "ValidationInconclusive"),
    ],
)
def test_a_job_that_never_ends_is_given_up_at_its_deadline(step: Step, limit: int, reason: str) -> None:
    world = World() if step is Step.IMPORTING else serving_v1().promote()
    before = {Step.IMPORTING: "none", Step.BUILDING: "none", Step.VALIDATING: "build"}[step]
    if before == "build":
        until(world, lambda w: w.status.artifact is not None)
    until(world, in_step(step), slow=True)
    rollout = world.status.rollout
    assert rollout.started_at is not None and rollout.deadline is not None
    assert (rollout.deadline - rollout.started_at).total_seconds() == limit
    settle(world.pass_time(limit - 30), 10, slow=True)
    assert world.status.rollout.step is step, "not before its time"
    settle(world, 40, slow=True)
    assert world.status.rollout.step is Step.IDLE
    assert [r.reason for r in world.status.rollout.rejected] == [reason]
    assert world.reason("Degraded") == ("True", reason)
    quiet(world)


def test_the_deadline_of_a_switch_is_a_minute() -> None:
    world = until(serving_v1().set_version(2), in_step(Step.SWITCHING))
    rollout = world.status.rollout
    assert rollout.started_at is not None and rollout.deadline is not None
    assert (rollout.deadline - rollout.started_at).total_seconds() == 60
