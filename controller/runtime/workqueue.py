"""The work queue: keys wait here, each at most once, now or later, and one worker at a time has one.

The semantics are client-go's (`util/workqueue`): a key that is added while it is being processed is
queued again when its worker is done. Knows no keys' meaning.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from itertools import count
from typing import Generic, TypeVar

from controller.runtime.metrics import (
    QUEUE_ADDS,
    QUEUE_DEPTH,
    QUEUE_LATENCY,
    QUEUE_LONGEST,
    QUEUE_RETRIES,
    QUEUE_UNFINISHED,
    QUEUE_WORK,
)

K = TypeVar("K", bound=Hashable)

BASE_DELAY = 0.005
MAX_DELAY = 1000.0


class WorkQueue(Generic[K]):
    """Deduplicating, delaying, with exponential backoff for each key.

    `clock` is monotonic seconds. After `shut_down` nothing is handed out any more: what waits is
    dropped, since keys are hints, and whoever leads next lists everything anew.
    """

    def __init__(
        self,
        name: str,
        *,
        base_delay: float = BASE_DELAY,
        max_delay: float = MAX_DELAY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._base_delay = base_delay
        self._max_delay = max_delay
        self._clock = clock
        self._changed = threading.Condition()
        self._ready: deque[K] = deque()
        self._dirty: dict[K, float] = {}  # wants processing; since when
        self._processing: dict[K, float] = {}  # has a worker; since when
        self._later: list[tuple[float, int, K]] = []
        self._due: dict[K, float] = {}  # the earliest delayed add of a key; others in the heap are stale
        self._order = count()
        self._failures: dict[K, int] = {}
        self._shut_down = False
        self._adds = QUEUE_ADDS.labels(name)
        self._retries = QUEUE_RETRIES.labels(name)
        self._latency = QUEUE_LATENCY.labels(name)
        self._work = QUEUE_WORK.labels(name)
        QUEUE_DEPTH.labels(name).set_function(self.__len__)
        QUEUE_UNFINISHED.labels(name).set_function(lambda: sum(self._running_seconds()))
        QUEUE_LONGEST.labels(name).set_function(lambda: max(self._running_seconds(), default=0.0))

    def __len__(self) -> int:
        """Keys that could be taken now."""
        with self._changed:
            self._promote(self._clock())
            return len(self._ready)

    def add(self, key: K) -> None:
        """Queue the key, unless it waits already."""
        with self._changed:
            self._add(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Queue the key in `seconds`; of several delays the shortest counts."""
        if seconds <= 0:
            return self.add(key)
        with self._changed:
            now = self._clock()
            self._promote(now)  # one whose time has come must not swallow a later one
            due = now + seconds
            if self._shut_down or due >= self._due.get(key, float("inf")):
                return None
            self._due[key] = due
            heapq.heappush(self._later, (due, next(self._order), key))
            self._changed.notify()  # a waiting worker may have to wake earlier than it thinks
            return None

    def add_rate_limited(self, key: K, at_least: float = 0.0) -> float:
        """Queue the key after its backoff: 5 ms, doubled at each call up to 1000 s. Returns the delay."""
        with self._changed:
            failures = self._failures.get(key, 0)
            self._failures[key] = failures + 1
        backoff: float = self._base_delay * 2.0 ** min(failures, 62)
        delay = max(min(backoff, self._max_delay), at_least)
        self._retries.inc()
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """The key went well: its next failure starts at the shortest delay."""
        with self._changed:
            self._failures.pop(key, None)

    def retries(self, key: K) -> int:
        return self._failures.get(key, 0)

    def get(self, timeout: float | None = None) -> K | None:
        """The next key, which is then being processed until `done`; None when time is up or shut down."""
        with self._changed:
            deadline = None if timeout is None else self._clock() + timeout
            while not self._shut_down:
                now = self._clock()
                self._promote(now)
                if self._ready:
                    return self._take(now)
                if deadline is not None and now >= deadline:
                    return None
                self._changed.wait(self._next_wake(now, deadline))
            return None

    def done(self, key: K) -> None:
        """Must follow each `get`. A key that was added in the meantime is queued again."""
        with self._changed:
            started = self._processing.pop(key, None)
            if started is None:
                raise ValueError(f"{key} is not being processed")
            self._work.observe(self._clock() - started)
            if key in self._dirty:
                self._ready.append(key)
                self._changed.notify()

    def shut_down(self) -> None:
        with self._changed:
            self._shut_down = True
            self._ready.clear()
            self._dirty.clear()
            self._later.clear()
            self._due.clear()
            self._changed.notify_all()

    @property
    def is_shut_down(self) -> bool:
        return self._shut_down

    def _add(self, key: K) -> None:
        if self._shut_down or key in self._dirty:
            return
        self._adds.inc()
        self._dirty[key] = self._clock()
        if key not in self._processing:
            self._ready.append(key)
            self._changed.notify()

    def _take(self, now: float) -> K:
        key = self._ready.popleft()
        self._latency.observe(now - self._dirty.pop(key))
        self._processing[key] = now
        if self._ready or self._later:  # another worker takes the next one, or the wait for the next delay
            self._changed.notify()
        return key

    def _promote(self, now: float) -> None:
        """Queue the delayed keys whose time has come."""
        while self._later and self._later[0][0] <= now:
            due, _, key = heapq.heappop(self._later)
            if self._due.get(key) == due:
                del self._due[key]
                self._add(key)

    def _next_wake(self, now: float, deadline: float | None) -> float | None:
        times = [self._later[0][0]] if self._later else []
        if deadline is not None:
            times.append(deadline)
        return max(0.0, min(times) - now) if times else None

    def _running_seconds(self) -> list[float]:
        with self._changed:
            now = self._clock()
            return [now - since for since in self._processing.values()]
