"""Canary: the share of the traffic rises with proof alone, falls to nothing at once, and what is not known holds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from controller.api.status import CanaryStatus, RolloutStatus, Sample
from controller.api.v1alpha1 import Canary, CanaryApproval, CanaryStep, Observe, Rollout
from controller.domain.canary import (
    Decision,
    Move,
    Progress,
    Sighting,
    Why,
    decide,
    first_step,
    next_step,
    progress_of,
    step_limit,
    weight_now,
)
from tests.builders import A1, A2, T0

STEPS = [CanaryStep(weight=10, pause="1m"), CanaryStep(weight=50), CanaryStep(weight=100, pause="10s")]
LIMIT = timedelta(minutes=16)


def canary(**changes: Any) -> Canary:
    return Canary(**({"http_route": "bot", "steps": STEPS} | changes))


def sample(seconds: float, verdict: str = "Pass", message: str = "") -> Sample:
    return Sample(at=T0 + timedelta(seconds=seconds), verdict=verdict, message=message)


def seen(weight: int | None = 10, **changes: Any) -> Sighting:
    return Sighting(**({"weight": weight, "stable_ready": True, "preview_ready": True} | changes))


def at_ten(**changes: Any) -> Progress:
    return replace(Progress(10, T0, T0 + LIMIT), **changes)


def decided(
    progress: Progress, sighting: Sighting, seconds: float, spec: Canary | None = None, **observe: Any
) -> Decision:
    rollout = Rollout(strategy="Canary", observe=Observe(**observe))
    return decide(rollout, spec or canary(), A1, progress, sighting, T0 + timedelta(seconds=seconds))


# -- the weight
def test_a_step_begins_by_setting_its_weight_and_measures_nothing_yet() -> None:
    decision = decided(at_ten(since=None), seen(0), 0)
    assert (decision.move, decision.why, decision.weight) == (Move.WAIT, Why.SHIFTING, 10)
    assert not decision.measuring and decision.since is None
    assert decision.look_at == T0 + LIMIT


def test_the_clock_of_a_step_begins_when_the_gateway_has_its_weight() -> None:
    decision = decided(at_ten(since=None), seen(10), 30)
    assert decision.since == T0 + timedelta(seconds=30)
    assert decision.measuring
    assert decision.look_at == T0 + timedelta(seconds=90)


def test_a_weight_that_was_taken_away_is_set_again_and_the_clock_begins_anew() -> None:
    decision = decided(at_ten(newest=sample(50)), seen(0), 65)
    assert (decision.move, decision.weight, decision.since) == (Move.WAIT, 10, None)


def test_a_weight_that_cannot_be_seen_holds_and_the_clock_goes_on() -> None:
    decision = decided(at_ten(newest=sample(65)), seen(None, problem="the gateway is away"), 65)
    assert (decision.move, decision.since, decision.measuring) == (Move.WAIT, T0, False)
    assert "the gateway is away" in decision.message


@pytest.mark.parametrize(
    ("stable", "preview", "weight"),
    [
        (True, True, 10),
        (None, True, 10),
        (False, True, 100),
        (True, False, 0),
        (False, False, 0),
        (True, None, None),
        (False, None, None),
    ],
)
def test_no_weight_goes_to_a_backend_without_ready_endpoints(
    stable: bool | None, preview: bool | None, weight: int | None
) -> None:
    assert weight_now(10, seen(stable_ready=stable, preview_ready=preview)) == weight


@pytest.mark.parametrize(
    ("stable", "preview", "weight"),
    [(True, True, 0), (None, None, 0), (False, False, 0), (False, None, 0), (False, True, None)],
)
def test_the_way_back_takes_all_weight_but_from_the_only_one_that_answers(
    stable: bool | None, preview: bool | None, weight: int | None
) -> None:
    assert weight_now(0, seen(stable_ready=stable, preview_ready=preview)) == weight


def test_a_candidate_that_answers_for_both_does_not_go_on_by_that() -> None:
    decision = decided(at_ten(newest=sample(65)), seen(100, stable_ready=False), 65)
    assert (decision.move, decision.why, decision.weight) == (Move.WAIT, Why.SHIFTING, 100)
    assert "no other pod is ready" in decision.message


# -- going on
def test_a_step_goes_on_when_its_pause_is_over_and_a_check_has_passed() -> None:
    assert decided(at_ten(newest=sample(55)), seen(), 59).why is Why.PAUSED
    decision = decided(at_ten(newest=sample(55)), seen(), 60)
    assert (decision.move, decision.why) == (Move.NEXT, Why.CHECKS_PASSED)
    assert decision.weight is None, "a decision is written down before it is carried out"


@pytest.mark.parametrize("newest", [None, sample(0), sample(-5), sample(59, "NoData"), sample(59, "Fail")])
def test_without_a_check_that_passed_in_the_step_it_holds(newest: Sample | None) -> None:
    decision = decided(at_ten(newest=newest, failures=1), seen(), 70, failure_limit=1)
    assert (decision.move, decision.why) == (Move.WAIT, Why.AWAITING_CHECK)
    assert decision.measuring


def test_the_last_step_ends_with_all_traffic() -> None:
    last = Progress(100, T0, T0 + LIMIT, newest=sample(10))
    assert decided(last, seen(100), 10).move is Move.DONE


def test_a_step_without_a_pause_waits_for_a_person_and_says_what_to_write() -> None:
    progress = replace(at_ten(newest=sample(5)), weight=50)
    decision = decided(progress, seen(50), 600)
    assert (decision.move, decision.why) == (Move.WAIT, Why.AWAITING_APPROVAL)
    assert f"spec.rollout.canary.approved to {{artifact: {A1}, weight: 50}}" in decision.message


@pytest.mark.parametrize(
    ("artifact", "weight", "move"),
    [(A1, 50, Move.NEXT), (A1, 100, Move.NEXT), (A1, 49, Move.WAIT), (A2, 50, Move.WAIT)],
)
def test_a_person_lets_go_on_what_they_have_seen(artifact: str, weight: int, move: Move) -> None:
    spec = canary(approved=CanaryApproval(artifact=artifact, weight=weight))
    assert decided(replace(at_ten(newest=sample(5)), weight=50), seen(50), 6, spec).move is move


def test_an_approval_ends_a_pause_but_replaces_no_check() -> None:
    spec = canary(approved=CanaryApproval(artifact=A1, weight=100))
    assert decided(at_ten(newest=sample(5)), seen(), 6, spec).move is Move.NEXT
    assert decided(at_ten(newest=None), seen(), 6, spec).why is Why.AWAITING_CHECK


def test_steps_may_be_edited_on_the_way() -> None:
    others = canary(steps=[CanaryStep(weight=5, pause="1h"), CanaryStep(weight=20, pause="1h")])
    assert decided(at_ten(newest=sample(5)), seen(), 6, others).move is Move.NEXT
    assert next_step(others, 10) == others.steps[1]
    assert next_step(others, 50) is None
    assert first_step(canary()).weight == 10


# -- the way back
def test_a_check_that_fails_takes_the_way_back_and_says_which() -> None:
    failed = at_ten(failures=1, newest=sample(20, "Fail", "error rate 0.5 is over maxErrorRate 0.01"))
    decision = decided(failed, seen(), 20)
    assert (decision.move, decision.why, decision.weight) == (Move.ABORT, Why.CHECKS_FAILED, None)
    assert "error rate 0.5" in decision.message
    assert decided(failed, seen(), 20, failure_limit=1).move is Move.WAIT


def test_a_candidate_that_dies_takes_the_way_back() -> None:
    decision = decided(at_ten(newest=sample(20)), seen(preview_ready=False), 20)
    assert (decision.move, decision.why) == (Move.ABORT, Why.BACKEND_UNAVAILABLE)


@pytest.mark.parametrize(
    ("progress", "sighting", "why"),
    [
        (at_ten(since=None), seen(0, problem="no gateway"), Why.SWITCH_NOT_PROVEN),
        (at_ten(), seen(None), Why.SWITCH_NOT_PROVEN),
        (at_ten(newest=sample(900, "NoData")), seen(), Why.NO_DATA),
        (replace(at_ten(newest=sample(900)), weight=50), seen(50), Why.NOT_APPROVED),
    ],
)
def test_each_wait_ends_at_its_deadline_with_the_way_back(progress: Progress, sighting: Sighting, why: Why) -> None:
    assert decided(progress, sighting, LIMIT.total_seconds() - 1).move is Move.WAIT
    decision = decided(progress, sighting, LIMIT.total_seconds())
    assert (decision.move, decision.why) == (Move.ABORT, why)


def test_a_step_that_may_go_on_does_so_after_its_deadline_too() -> None:
    late = LIMIT.total_seconds() + 3600  # the controller was away
    assert decided(at_ten(newest=sample(late)), seen(), late).move is Move.NEXT


def test_a_step_has_its_pause_or_the_wait_for_a_person_and_the_time_that_a_candidate_has() -> None:
    spec = canary(approval_deadline="2h")
    rollout = Rollout(strategy="Canary", canary=spec, progress_deadline="15m")
    assert step_limit(rollout, spec, STEPS[0]) == timedelta(minutes=16)
    assert step_limit(rollout, spec, STEPS[1]) == timedelta(hours=2, minutes=15)


# -- a whole canary, with anything happening at any time
@dataclass
class World:
    """A controller that is stopped between any two writes, a gateway that is late, and pods that come and go."""

    spec: Canary
    now: datetime = T0
    written: int = 0  # in the HTTPRoute
    accepted: int | None = 0  # by the gateway
    ready: dict[str, bool | None] = field(default_factory=lambda: {"stable": True, "preview": True})
    rollout: RolloutStatus = field(default_factory=RolloutStatus)
    outcome: Move | None = None
    shares: list[int] = field(default_factory=list)  # that the controller wrote, in order

    def __post_init__(self) -> None:
        self._begin(first_step(self.spec))

    @property
    def memory(self) -> CanaryStatus:
        assert self.rollout.canary is not None
        return self.rollout.canary

    @property
    def seen(self) -> Sighting:
        return Sighting(self.accepted, "", self.written == 0, self.ready["stable"], self.ready["preview"])

    def work(self, writes: int) -> None:
        """One pass that dies after so many writes: first status, then, where nothing was decided, the HTTPRoute."""
        rollout = Rollout(strategy="Canary")
        if self.outcome is not None:
            self._write_weight(weight_now(0, self.seen), writes)
            return
        progress = progress_of(self.rollout, self.memory, self.now)
        decision = decide(rollout, self.spec, A1, progress, self.seen, self.now)
        if writes < 1:
            return
        if decision.move is Move.NEXT:
            assert progress.newest is not None and progress.newest.verdict == "Pass", "no step without a pass"
            following = next_step(self.spec, self.memory.weight)
            assert following is not None
            self._begin(following)
        elif decision.move is not Move.WAIT:
            self.outcome = decision.move
            self._remember(weight=0)
        else:
            self._remember(since=decision.since)
            self._write_weight(decision.weight, writes - 1)

    def judge(self, verdict: str) -> None:
        if self.outcome is None and self.memory.since is not None:
            newest = Sample(at=self.now, verdict=verdict)
            failures = self.rollout.failures + (verdict == "Fail")
            self.rollout = self.rollout.model_copy(update={"samples": [newest], "failures": failures})

    def _begin(self, step: CanaryStep) -> None:
        limit = step_limit(Rollout(strategy="Canary"), self.spec, step)
        memory = CanaryStatus(http_route="bot", artifact=A1, weight=step.weight)
        self.rollout = RolloutStatus(canary=memory, deadline=self.now + limit)

    def _remember(self, **changes: Any) -> None:
        self.rollout = self.rollout.model_copy(update={"canary": self.memory.model_copy(update=changes)})

    def _write_weight(self, weight: int | None, writes: int) -> None:
        if weight is not None and writes > 0:
            self.written = weight
            self.shares.append(weight)


PASSING = ("work", "accept", "time", "Pass")
HAPPENINGS = ("work", "die", "die early", "accept", "time", "Pass", "Fail", "NoData", "away", "lost", "back", "reset")


def happen(world: World, what: str, amount: int) -> None:
    if what == "work":
        world.work(2)
    elif what.startswith("die"):
        world.work(0 if what == "die early" else 1)
    elif what == "accept":
        world.accepted = world.written
    elif what == "time":
        world.now += timedelta(seconds=amount)
    elif what in ("Pass", "Fail", "NoData"):
        world.now += timedelta(seconds=1)
        world.judge(what)
    elif what == "reset":  # its owner applied the HTTPRoute again
        world.written = world.accepted = 0
    else:
        pod = "preview" if amount % 2 else "stable"
        world.ready[pod] = {"away": False, "lost": None, "back": True}[what]


steps_of = st.lists(st.integers(1, 100), min_size=1, max_size=4, unique=True).map(
    lambda weights: [CanaryStep(weight=w, pause="30s") for w in sorted(weights)]
)


@given(steps_of, st.lists(st.tuples(st.sampled_from(HAPPENINGS), st.integers(0, 600)), max_size=60))
def test_whatever_happens_weights_rise_by_the_steps_alone_and_end_at_nothing(
    steps: list[CanaryStep], story: list[tuple[str, int]]
) -> None:
    world = World(canary(steps=steps))
    known = [0, *(s.weight for s in steps)]
    for what, amount in story:
        before, weight, outcome = len(world.shares), world.memory.weight, world.outcome
        happen(world, what, amount)
        for share in world.shares[before:]:
            gated = {0} if not world.ready["preview"] else {100} if world.ready["stable"] is False else {weight}
            assert share in ({0} if outcome else gated)
        if outcome is None and world.outcome is None:
            assert known.index(world.memory.weight) - known.index(weight) in (0, 1), "one step at a time, and up"
    world.ready = {"stable": True, "preview": True}
    world.now += timedelta(days=2)
    for _ in range(2):  # the deadline, and what it ends with
        world.work(2)
        world.accepted = world.written
    event(str(world.outcome))
    if world.outcome is not None:
        world.work(2)
        assert world.written == 0
        assert world.seen.clean
    else:
        assert world.rollout.samples == [] or world.rollout.samples[-1].verdict == "Pass"


@given(steps_of, st.lists(st.sampled_from(["work", "die", "die early"]), max_size=40))
def test_a_controller_that_dies_between_any_two_writes_comes_to_the_same_end(
    steps: list[CanaryStep], deaths: list[str]
) -> None:
    def end_of(world: World, passes: list[str]) -> list[int]:
        for what in passes:
            happen(world, what, 0)
            for then in ("accept", "time", "Pass"):
                happen(world, then, 31)
        return sorted(set(world.shares))

    undisturbed, disturbed = World(canary(steps=steps)), World(canary(steps=steps))
    wanted = end_of(undisturbed, ["work"] * 20)
    assert wanted == [0, *(s.weight for s in steps)]
    assert end_of(disturbed, [*deaths, *["work"] * 20]) == wanted
    assert (disturbed.outcome, disturbed.written) == (undisturbed.outcome, undisturbed.written) == (Move.DONE, 0)
