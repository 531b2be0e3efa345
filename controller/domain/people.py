"""What a release waits for that only a person can do. It does not go on by itself until then. Pure.

Must not know: how people are told, and how long they take.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from controller.api.status import AdapterReleaseStatus
from controller.domain.canary import Move, Why
from controller.domain.conditions import blocker, standing_rejection
from controller.domain.draft import Draft
from controller.domain.shifting import look_at_canary
from controller.domain.snapshot import Snapshot


class Wait(StrEnum):
    """What is waited for."""

    APPROVAL = "Approval"  # spec.rollout.canary.approved, at a step of a canary that has no pause
    DECISION = "Decision"  # something was rejected: another spec, or the retry annotation
    MENDING = "Mending"  # the base, a name, a key or a quota has to be put right first; a condition or an event says it


def waits_for_people(
    seen: Snapshot, status: AdapterReleaseStatus, now: datetime, refused: bool = False
) -> tuple[Wait, ...]:
    """`status` is what the plan made of what was `seen`; `refused`: the API server refused an action of the plan."""
    if seen.release.metadata.deletion_timestamp:
        return ()
    d = Draft(seen, now.replace(microsecond=0), status)
    waits = {
        Wait.APPROVAL: _awaits_approval(d),
        Wait.DECISION: standing_rejection(d) is not None,
        # A step that goes on after its deadline has nothing better to do: it will not end by itself.
        Wait.MENDING: refused or blocker(d) is not None or d.is_late,
    }
    return tuple(wait for wait, holds in waits.items() if holds)


def _awaits_approval(d: Draft) -> bool:
    decision = look_at_canary(d)
    return decision is not None and (decision.move, decision.why) == (Move.WAIT, Why.AWAITING_APPROVAL)
