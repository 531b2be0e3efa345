"""Which Event object an occurrence belongs to, so that what happens again and again does not fill a namespace.

As client-go's correlator (`tools/record/events_cache.go`) does it: the same message counts up one Event; when one
reason of one object has had more than ten different messages within ten minutes, the next ones are one Event
together. Unlike there, messages that only differ in numbers (restarts, seconds, ports) are not different within those
ten minutes: the Event has the newest. Must not know: how Events are written.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

COMBINED = "(combined from similar events): "
_DIFFERENT = 10
_WITHIN = 600.0  # seconds
_REMEMBERED = 4096
T = TypeVar("T")
_NUMBERS = re.compile(r"\d+")


@dataclass
class Series:
    """One Event object; `name` is empty until it was written."""

    message: str = ""
    name: str = ""
    count: int = 0
    at: float = float("-inf")


@dataclass
class _Group:
    """What was said for one reason of one object."""

    at: float
    shapes: set[str] = field(default_factory=set)


class EventSeries:
    """Of one recorder, in one thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._series: OrderedDict[object, Series] = OrderedDict()
        self._groups: OrderedDict[object, _Group] = OrderedDict()

    def of(self, group: object, message: str) -> Series:
        """The series that the message belongs to, with the message that its Event has from now on."""
        now, shape = self._clock(), _NUMBERS.sub("#", message)
        if self._is_combined(group, shape, now):
            shape, message = "", COMBINED + message
        series = self._series.get((group, shape))
        if series is None or (series.message != message and now > series.at + _WITHIN):
            series = Series()
        series.message, series.at = message, now
        _remember(self._series, (group, shape), series)
        return series

    def _is_combined(self, group: object, shape: str, now: float) -> bool:
        known = self._groups.get(group)
        if known is None or now > known.at + _WITHIN:
            known = _Group(now)
        known.at = now
        if len(known.shapes) <= _DIFFERENT:
            known.shapes.add(shape)
        _remember(self._groups, group, known)
        return len(known.shapes) > _DIFFERENT


def _remember(known: OrderedDict[object, T], key: object, value: T) -> None:
    known[key] = value
    known.move_to_end(key)
    while len(known) > _REMEMBERED:
        known.popitem(last=False)
