"""What vLLM answered to loads that failed, remembered for the very container that answered.

Kept in memory only: after a restart of the controller a load is tried again, which costs one request.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from controller.domain.snapshot import LoadFailure
from controller.runtime.resources import Key

_Container = tuple[Key, str, str]  # release, pod uid, container id
_REMEMBERED = 10_000


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
