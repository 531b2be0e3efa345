"""What is counted of a status write: switches by their cause, steps that ended. Nothing twice."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from controller.api.reasons import Reason
from controller.api.status import AdapterReleaseStatus, HistoryEntry, RolloutStatus, Step
from controller.reconcile.happenings import SWITCHES, Happenings, happenings
from tests.builders import A1, D1, T0, adapter, artifact
from tests.domain.lives import break_it, observing, promoted, serving_v1
from tests.domain.test_shifting import at
from tests.domain.turns import run, settle
from tests.domain.world import World


def status(rollout: RolloutStatus | None = None, *history: tuple[int, str, str]) -> AdapterReleaseStatus:
    backends = {"Adapter": adapter(D1), "Artifact": artifact(A1)}
    entries = [
        HistoryEntry(revision=revision, backend=backends[kind], since=T0, reason=reason)
        for revision, kind, reason in history
    ]
    return AdapterReleaseStatus(rollout=rollout or RolloutStatus(), history=entries)


def rollout(step: Step, **more: Any) -> RolloutStatus:
    return RolloutStatus(step=step, started_at=T0, deadline=T0, **more)


FIRST = (1, "Adapter", "FirstLoad")


def test_a_new_entry_of_the_history_is_a_switch() -> None:
    before, after = status(None, FIRST), status(None, (2, "Artifact", "Promoted"), FIRST)
    assert happenings(status(), before, T0).switch == ("Adapter", "FirstLoad")
    assert happenings(before, after, T0).switch == ("Artifact", "Promoted")


def test_an_entry_that_was_there_is_none() -> None:
    assert happenings(status(None, FIRST), status(None, FIRST), T0) == Happenings()
    longer = status(None, (2, "Artifact", "Promoted"), FIRST)
    assert happenings(longer, status(None, (2, "Artifact", "Promoted")), T0).switch is None


def test_a_rollback_by_itself_says_what_was_wrong() -> None:
    going_back = rollout(Step.ROLLING_BACK, reason="ChecksFailed")
    before, after = status(going_back, FIRST), status(None, (2, "Adapter", "RolledBack"), FIRST)
    assert happenings(before, after, T0).switch == ("Adapter", "ChecksFailed")


@pytest.mark.parametrize(
    "after",
    [
        RolloutStatus(),
        rollout(Step.VALIDATING),
        rollout(Step.BUILDING, inputs="others"),
        RolloutStatus(step=Step.BUILDING, started_at=T0 + timedelta(seconds=9), inputs="x"),
        rollout(Step.BUILDING, inputs="x", target=adapter(D1)),
    ],
)
def test_a_step_has_ended_when_another_begins_or_the_same_begins_anew(after: RolloutStatus) -> None:
    before = status(rollout(Step.BUILDING, inputs="x"))
    ended = happenings(before, status(after), T0 + timedelta(seconds=90)).ended
    assert ended == (Step.BUILDING, 90)


def test_a_step_that_goes_on_has_not_ended() -> None:
    before = status(rollout(Step.BUILDING, inputs="x"))
    after = status(rollout(Step.BUILDING, inputs="x", progress="merge 40 %", failures=1))
    assert happenings(before, after, T0).ended is None
    assert happenings(status(), before, T0).ended is None, "nor has being idle"


def test_a_clock_that_went_back_makes_no_negative_time() -> None:
    before = status(rollout(Step.BUILDING))
    assert happenings(before, status(), T0 - timedelta(seconds=5)).ended == (Step.BUILDING, 0)


# -- in lives


def counted(world: World, rounds: int = 120) -> tuple[Counter[tuple[str, str]], Counter[str]]:
    """Of every status that was written, as the reconciler sees it."""
    switches, steps = Counter[tuple[str, str]](), Counter[str]()
    before = world.status
    for _ in run(world, rounds):
        found = happenings(before, world.status, world.now)
        switches.update([found.switch] if found.switch else [])
        steps.update([str(found.ended[0])] if found.ended else [])
        before = world.status
    return switches, steps


def failing() -> World:
    world = settle(observing(), 3)
    break_it(world)
    return world


LIVES = [
    (lambda: World(), {("Adapter", "FirstLoad"): 1}),
    (failing, {("Adapter", "ChecksFailed"): 1}),
    (lambda: promoted().edit(stage="Experimental"), {("Adapter", "RolledBackByUser"): 1}),
    (lambda: serving_v1(plugin=True).set_version(2), {("Adapter", "AdapterUpdated"): 1}),
    (lambda: settle(settle(at(50), 5).pass_time(26 * 3600), 1), {}),
]


@pytest.mark.parametrize(("life", "wanted"), LIVES)
def test_each_switch_of_a_life_is_counted_once(life: Any, wanted: dict[tuple[str, str], int]) -> None:
    switches, _ = counted(life())
    assert switches == wanted


def test_the_steps_of_a_promotion_end_once_each() -> None:
    _, steps = counted(serving_v1().promote())
    assert steps == dict.fromkeys(("Building", "Starting", "Validating", "Switching", "Observing"), 1)


def test_every_switch_that_can_be_has_a_counter_before_it_happens() -> None:
    causes = {cause for _, cause in SWITCHES}
    assert causes <= {str(reason) for reason in Reason}
    assert {s for life, wanted in LIVES for s in wanted} <= set(SWITCHES)
    assert len(set(SWITCHES)) == len(SWITCHES)
