"""What is told of a change: one note for each condition that changed, as a sentence. A note becomes an Event.

The list of what is told is in docs/reasons.md. Must not know: why a condition is as it is, and where notes go.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.api.reasons import Reason
from controller.api.sentences import AWAITING_APPROVAL, BEGINNINGS, OPENINGS, REFUSED
from controller.api.status import AdapterReleaseStatus, Condition

_WARNINGS = frozenset({"AdapterImported", "AdapterLoaded", "ArtifactBuilt", "Validated", "Ready"})
_AS_IT_SHOULD_BE = (Reason.MERGED_ONLY, Reason.UNLOADED)


@dataclass(frozen=True)
class Note:
    """Something that happened; it becomes an Event."""

    type: str  # Normal or Warning
    reason: str
    message: str


def notes(old: AdapterReleaseStatus, new: AdapterReleaseStatus) -> tuple[Note, ...]:
    """One for each condition whose status or reason changed, but for those that repeat another's words."""
    before = {c.type: (c.status, c.reason) for c in old.conditions}
    changed = [c for c in new.conditions if before.get(c.type) != (c.status, c.reason) and _worth_an_event(c)]
    said = {(c.reason, c.message): c for c in reversed(changed)}  # the first of those that say the same
    return tuple(Note(_severity(c), c.reason, _sentence(c, new)) for c in changed if said[c.reason, c.message] is c)


def refusal(message: str) -> str:
    """Of an action that cannot be carried out, and will be tried again."""
    return _ended(f"{REFUSED}: {message}")


def awaiting_approval(status: AdapterReleaseStatus) -> str:
    """Of a step of a canary that waits for a person."""
    return _ended(f"{AWAITING_APPROVAL} {status.rollout.progress}")


def _sentence(condition: Condition, status: AdapterReleaseStatus) -> str:
    if condition.type == "Progressing":
        until = f", until {status.rollout.deadline:%Y-%m-%dT%H:%M:%SZ} at the latest" if status.rollout.deadline else ""
        return _ended(BEGINNINGS[condition.reason] + until)
    opening = OPENINGS[condition.type, condition.status]
    return _ended(f"{opening}: {condition.message}" if condition.message else opening)


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _worth_an_event(condition: Condition) -> bool:
    if condition.type == "Progressing":
        return condition.status == "True"
    told = (condition.type, condition.status) in OPENINGS
    return told and condition.reason not in ("NotRequested", "Pending")


def _severity(condition: Condition) -> str:
    failed = condition.status == "False" and condition.reason not in _AS_IT_SHOULD_BE
    if condition.type == "Degraded" or (condition.type in _WARNINGS and failed):
        return "Warning"
    return "Normal"
