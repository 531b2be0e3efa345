"""What went wrong, remembered: vLLM's answers to loads, for the very container that answered; what a person was told.

Kept in memory only: after a restart of the controller a load is tried again, which costs one request, and told again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime, timedelta

from controller.domain.snapshot import LoadFailure
from controller.runtime.resources import Key

_Container = tuple[Key, str, str]  # release, pod uid, container id
_REMEMBERED = 10_000
# Rarer than the events of one release get their tokens back: what is told again must not silence its other warnings.
_TOLD_AGAIN = timedelta(minutes=10)


class LoadFailures:
    """The last failure by release and container. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures: OrderedDict[_Container, LoadFailure] = OrderedDict()

    def record(self, release: Key, pod_uid: str, container_id: str, failure: LoadFailure) -> None:
        key = (release, pod_uid, container_id)
        with self._lock:
            self._failures[key] = failure
            self._failures.move_to_end(key)
            while len(self._failures) > _REMEMBERED:
                self._failures.popitem(last=False)

    def last(self, release: Key, pod_uid: str, container_id: str) -> LoadFailure | None:
        with self._lock:
            return self._failures.get((release, pod_uid, container_id))

    def clear(self, release: Key, pod_uid: str, container_id: str, digest: str) -> None:
        """That version went well. What was said to another one still holds: else both would be loaded in turns."""
        key = (release, pod_uid, container_id)
        with self._lock:
            known = self._failures.get(key)
            if known is not None and known.digest == digest:
                del self._failures[key]


class Told:
    """When a person was last told of something, by release. One thread at a time for the same release."""

    def __init__(self) -> None:
        self._told: dict[Key, dict[str, datetime]] = {}

    def news(self, release: Key, messages: Sequence[str], now: datetime) -> list[str]:
        """Those that are to be told now: the new ones, and the old ones after a while."""
        known = {m: at for m, at in self._told.get(release, {}).items() if now < at + _TOLD_AGAIN}
        fresh = [m for m in dict.fromkeys(messages) if m not in known]
        self._told[release] = known | dict.fromkeys(fresh, now)
        return fresh

    def forget(self, release: Key) -> None:
        self._told.pop(release, None)
