"""What happened between two statuses of a release: a switch of the route, the end of a step. Pure.

Asked once for each status write that succeeded, so nothing is counted twice: whoever wrote it first has it, and a
write that lost did not happen. Must not know: who counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from controller.api.reasons import Reason
from controller.api.status import AdapterReleaseStatus, BackendKind, RolloutStatus, Step

_BY_ITSELF = (
    *(Reason.CHECKS_FAILED, Reason.NO_DATA, Reason.BACKEND_UNAVAILABLE),
    *(Reason.SWITCH_NOT_PROVEN, Reason.NOT_APPROVED),
)
# Every backend and cause that a switch can have; a counter that is not there before its first event hides it.
SWITCHES: tuple[tuple[str, str], ...] = tuple(
    (str(to), str(cause))
    for to, causes in (
        (BackendKind.ADAPTER, (Reason.FIRST_LOAD, Reason.ADAPTER_UPDATED, Reason.ROLLED_BACK_BY_USER, *_BY_ITSELF)),
        (BackendKind.ARTIFACT, (Reason.PROMOTED, Reason.ROLLED_BACK_BY_USER, *_BY_ITSELF)),
    )
    for cause in causes
)


@dataclass(frozen=True)
class Happenings:
    """`switch`: to what, and why. `ended`: a step, and the seconds that it took."""

    switch: tuple[str, str] | None = None
    ended: tuple[Step, float] | None = None


def happenings(before: AdapterReleaseStatus, after: AdapterReleaseStatus, now: datetime) -> Happenings:
    return Happenings(_switch(before, after), _ended(before.rollout, after.rollout, now))


def _switch(before: AdapterReleaseStatus, after: AdapterReleaseStatus) -> tuple[str, str] | None:
    newest = after.history[0] if after.history else None
    if newest is None or newest.revision <= (before.history[0].revision if before.history else 0):
        return None
    by_itself = newest.reason == Reason.ROLLED_BACK
    return str(newest.backend.kind), str((by_itself and before.rollout.reason) or newest.reason)


def _ended(before: RolloutStatus, after: RolloutStatus, now: datetime) -> tuple[Step, float] | None:
    """Each weight of a canary is a step of its own."""
    if before.step is Step.IDLE or before.started_at is None or _identity(before) == _identity(after):
        return None
    return before.step, max(0.0, (now - before.started_at).total_seconds())


def _identity(rollout: RolloutStatus) -> tuple[object, ...]:
    return rollout.step, rollout.inputs, rollout.target, rollout.started_at
