"""Canary: how much of the traffic the candidate gets, and when it gets more. Pure: memory, sighting, time -> decision.

Rules, and what broke in other controllers without them:
- more weight only after a check that passed at this weight; what is not known holds (Argo #4479, #1329);
- a step's clock begins when the gateway was seen to have the weight, not when it was written (Argo #4867);
- each step has a deadline in status, and what it ends with is the way back (Flagger #1591, #1450);
- the way back takes the weight from the candidate at once, but never from the only one that answers (Flagger PR 1931).

A step is known by its weight, so steps may be edited while they are gone through. Must not know: how weights get into
an HTTPRoute, and how a sample is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from controller.api.status import CanaryStatus, RolloutStatus, Sample
from controller.api.types import parse_duration
from controller.api.v1alpha1 import Canary, CanaryStep, Rollout

ALL = 100


class Move(StrEnum):
    """What is decided. All but WAIT change the memory first and are carried out by the next plan."""

    WAIT = "Wait"
    NEXT = "Next"
    DONE = "Done"
    ABORT = "Abort"


class Why(StrEnum):
    """Reasons of a decision; the same words as in `api/reasons.py`."""

    SHIFTING = "Shifting"
    PAUSED = "Paused"
    AWAITING_CHECK = "AwaitingCheck"
    AWAITING_APPROVAL = "AwaitingApproval"
    CHECKS_PASSED = "ChecksPassed"
    CHECKS_FAILED = "ChecksFailed"
    BACKEND_UNAVAILABLE = "BackendUnavailable"
    SWITCH_NOT_PROVEN = "SwitchNotProven"
    NO_DATA = "NoData"
    NOT_APPROVED = "NotApproved"


@dataclass(frozen=True)
class Sighting:
    """The HTTPRoute, and who could answer behind it. None: nobody knows."""

    weight: int | None = None  # percent for the candidate, in all its rules, and accepted by every gateway
    problem: str = ""  # why there is no weight to be seen, and what to do
    clean: bool = False  # it is its owner's again: nothing in it is of our doing, or there is none
    stable_ready: bool | None = None  # the route has ready endpoints
    preview_ready: bool | None = None  # NAME-preview has, and they are of the candidate


@dataclass(frozen=True)
class Progress:
    """The memory of the step under way."""

    weight: int
    since: datetime | None
    deadline: datetime
    failures: int = 0  # samples that failed at this weight
    newest: Sample | None = None


@dataclass(frozen=True)
class Decision:
    move: Move
    why: Why
    message: str
    weight: int | None = None  # what the HTTPRoute should give the candidate now; None: leave it as it is
    since: datetime | None = None  # to be remembered with a WAIT
    measuring: bool = False  # the weight is in effect: samples of the candidate count
    paused: bool = False  # it does not go on before a person says so, whatever the checks say
    look_at: datetime | None = None


def first_step(canary: Canary) -> CanaryStep:
    return canary.steps[0]


def next_step(canary: Canary, weight: int) -> CanaryStep | None:
    """The first with more weight; None: all traffic is to be swapped."""
    return next((s for s in canary.steps if s.weight > weight), None)


def step_limit(rollout: Rollout, canary: Canary, step: CanaryStep) -> timedelta:
    """How long the step may take: its pause, or the wait for a person, and as long as a candidate has to come up."""
    return parse_duration(step.pause or canary.approval_deadline) + parse_duration(rollout.progress_deadline)


def progress_of(rollout: RolloutStatus, canary: CanaryStatus, now: datetime) -> Progress:
    """What status remembers. Without a deadline, which is never written, it is over."""
    newest = rollout.samples[-1] if rollout.samples else None
    return Progress(canary.weight, canary.since, rollout.deadline or now, rollout.failures, newest)


def weight_now(decided: int, seen: Sighting) -> int | None:
    """What the HTTPRoute should give the candidate, of which `decided` is 0 on the way back; None: leave it.

    No weight for a backend without a ready endpoint: where one of the two has none, the other gets everything.
    """
    if decided == 0:
        return None if seen.stable_ready is False and seen.preview_ready else 0
    if seen.preview_ready is None:
        return None
    if not seen.preview_ready:
        return 0
    return ALL if seen.stable_ready is False else decided


def decide(
    rollout: Rollout, canary: Canary, artifact: str, progress: Progress, seen: Sighting, now: datetime
) -> Decision:
    """What to do about the candidate `artifact` (its id) at the weight that `progress` remembers."""
    at = f"at {progress.weight} %"
    if progress.failures > rollout.observe.failure_limit:
        said = progress.newest.message if progress.newest else ""
        return Decision(Move.ABORT, Why.CHECKS_FAILED, f"{at}: {said or 'a check failed'}")
    if seen.preview_ready is False:
        return Decision(Move.ABORT, Why.BACKEND_UNAVAILABLE, f"{at}: no pod of the candidate is ready")
    decision = _step(canary, artifact, progress, seen, now)
    if decision.move is Move.WAIT and now >= progress.deadline:
        why = _LATE.get(decision.why, Why.NO_DATA)
        return Decision(Move.ABORT, why, f"{at}, not in time: {decision.message}")
    return decision


_LATE = {Why.SHIFTING: Why.SWITCH_NOT_PROVEN, Why.AWAITING_APPROVAL: Why.NOT_APPROVED}


def _step(canary: Canary, artifact: str, progress: Progress, seen: Sighting, now: datetime) -> Decision:
    weight = weight_now(progress.weight, seen)
    if not seen.weight == weight == progress.weight:
        return _shift(progress, seen, weight)
    at, since = f"at {progress.weight} %", progress.since or now
    ends = _pause_ends(canary, artifact, progress.weight, since)
    if ends is not None and now < ends:
        why, message = Why.PAUSED, f"{at} until {ends:%Y-%m-%dT%H:%M:%SZ}"
    elif not _passed_since(progress.newest, since):
        why, message = Why.AWAITING_CHECK, f"{at} until a check passes"
    elif ends is None:
        why, message = (
            Why.AWAITING_APPROVAL,
            f"{at} until a person goes on: {how_to_approve(artifact, progress.weight)}",
        )
    else:
        return _go_on(canary, progress)
    look_at = progress.deadline if ends is None or ends <= now else min(ends, progress.deadline)
    return Decision(Move.WAIT, why, message, weight, since, measuring=True, paused=ends is None, look_at=look_at)


def _shift(progress: Progress, seen: Sighting, weight: int | None) -> Decision:
    """The weight is not in effect. The clock begins anew where another one was seen, not where none could be."""
    message = f"moving {progress.weight} % of the traffic to the candidate"
    if seen.stable_ready is False:
        message += "; all of it for now, since no other pod is ready"
    message += f": {seen.problem}" if seen.problem else ""
    since = progress.since if seen.weight in (None, progress.weight) else None
    return Decision(Move.WAIT, Why.SHIFTING, message, weight, since, look_at=progress.deadline)


def _go_on(canary: Canary, progress: Progress) -> Decision:
    following = next_step(canary, progress.weight)
    if following is None:
        return Decision(Move.DONE, Why.CHECKS_PASSED, f"passed at {progress.weight} %: all traffic is to be swapped")
    return Decision(Move.NEXT, Why.CHECKS_PASSED, f"passed at {progress.weight} %: {following.weight} % comes next")


def _pause_ends(canary: Canary, artifact: str, weight: int, since: datetime) -> datetime | None:
    """None: when a person says so. A step that was edited away has no pause left."""
    approved = canary.approved
    if approved is not None and approved.artifact == artifact and approved.weight >= weight:
        return since
    step = next((s for s in canary.steps if s.weight == weight), None)
    if step is None:
        return since
    return since + parse_duration(step.pause) if step.pause is not None else None


def _passed_since(newest: Sample | None, since: datetime) -> bool:
    """An older pass does not count, and neither does one that was followed by a sample without data."""
    return newest is not None and newest.verdict == "Pass" and newest.at > since


def how_to_approve(artifact: str, weight: int) -> str:
    """What a person writes."""
    return f"set spec.rollout.canary.approved to {{artifact: {artifact}, weight: {weight}}}"
