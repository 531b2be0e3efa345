"""What was reported and when, as the judge asks for it. Pure; knows nothing of requests.

A turn is one time that an event was made to happen, and lasts until the next one.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from bench.no_request_lost.records import BEGAN, KILLED, KILLING, LEFT, REPORTED, ROUTE, Mark, State


@dataclass(frozen=True)
class Turn:
    """One time that an event was made to happen, until the next turn."""

    event: str
    began: float
    ends: float
    marks: tuple[Mark, ...]

    @property
    def reported(self) -> Mark | None:
        return next((m for m in self.marks if m.kind == REPORTED), None)

    def replaced(self, timeline: Timeline) -> dict[str, str]:
        """What of the state before differs from what was reported in this turn; empty: nothing moved."""
        before, reported = timeline.reported_before(self.began), self.reported
        if before is None or reported is None or reported.state is None:
            return {}
        after = reported.state
        sides = {"version": (before.version, after.version), "kind": (before.kind, after.kind)}
        return {name: was for name, (was, now) in sides.items() if was != now}

    @property
    def switched(self) -> float | None:
        """When new requests began to go elsewhere: the route, where it was changed, else the report."""
        if self.reported is None:
            return None
        moved = [m.at for m in self.marks if m.kind == ROUTE and m.at <= self.reported.at]
        return moved[0] if moved else self.reported.at

    @property
    def route(self) -> float | None:
        """When the route was pointed elsewhere."""
        return next((m.at for m in self.marks if m.kind == ROUTE), None)


@dataclass(frozen=True)
class Timing:
    """One turn: seconds from the change (`kubectl patch`) until the route pointed elsewhere, until no new connection
    was answered by the old backend, and until the release's status said so. None: it did not happen, or does not show.
    """

    event: str
    route: float | None
    moved: float | None
    reported: float | None


@dataclass(frozen=True)
class Kill:
    """A server's process: when its end was ordered, when the order was carried out, and when its pod left the route."""

    ordered: float
    done: float
    left: float


class Timeline:
    """The marks, in order, and what they say about a moment."""

    def __init__(self, marks: Sequence[Mark]) -> None:
        self.marks = sorted(marks, key=lambda m: m.at)
        self._states = [m for m in self.marks if m.kind == REPORTED and m.state is not None]
        self._times = [m.at for m in self._states]
        self._begins = [m.at for m in self.marks if m.kind == BEGAN]
        self.kills = self._kills()

    def _kills(self) -> list[Kill]:
        ordered, done, left = ([m.at for m in self.marks if m.kind == kind] for kind in (KILLING, KILLED, LEFT))
        return [Kill(*times) for times in zip(ordered, done, left, strict=False)]

    def states(self) -> list[State]:
        return [m.state for m in self._states if m.state is not None]

    def reported_before(self, when: float) -> State | None:
        index = bisect.bisect_right(self._times, when) - 1
        return self._states[index].state if index >= 0 else None

    def allowed(self, start: float, end: float) -> list[State]:
        """Who may answer a request of that time."""
        first = max(bisect.bisect_right(self._times, start) - 1, 0)
        after = bisect.bisect_right(self._times, end)
        reported, coming = self.states()[first:after], self._states[after : after + 1]
        return reported + [m.state for m in coming if m.state is not None and self._begun(m.at) <= end]

    def _begun(self, reported: float) -> float:
        """When the cluster was told to do what was reported then."""
        return max((at for at in self._begins if at <= reported), default=float("-inf"))

    def turns(self) -> list[Turn]:
        began = [m for m in self.marks if m.kind == BEGAN]
        ends = [m.at for m in began[1:]] + [float("inf")]
        return [Turn(m.text, m.at, end, self._between(m.at, end)) for m, end in zip(began, ends, strict=False)]

    def _between(self, begin: float, end: float) -> tuple[Mark, ...]:
        return tuple(m for m in self.marks if begin <= m.at < end)

    def row_of(self, when: float) -> str:
        """The event that was last made to happen; before the first, the first."""
        began = [m for m in self.marks if m.kind == BEGAN]
        index = bisect.bisect_right([m.at for m in began], when) - 1
        return began[max(index, 0)].text if began else ""
