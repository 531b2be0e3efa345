"""Events on Kubernetes objects, written by a thread of their own: they never block or fail the caller.

Repeated and similar events count up one Event object (event_series.py); an object that gets too many gets silence, as
in client-go (`tools/record`): a burst of 25, then one every 5 minutes. Unlike there, each reason has a budget of its
own: what goes well must not silence what goes wrong, nor one trouble another. Knows no reasons; callers bring them.
"""

from __future__ import annotations

import logging
import queue
import socket
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from controller.errors import AlreadyExists, ApiError, NotFound, TransientError
from controller.runtime import logs
from controller.runtime.backoff import Backoff
from controller.runtime.client import KubeClient
from controller.runtime.event_series import EventSeries, Series
from controller.runtime.metrics import EVENTS_DROPPED, EVENTS_SENT
from controller.runtime.resources import EVENTS, Object

log = logging.getLogger(__name__)

_REMEMBERED = 4096
_TRIES = 5
_MESSAGE_LIMIT = 1024


@dataclass(frozen=True)
class _Occurrence:
    reference: tuple[tuple[str, str], ...]
    kind: str
    reason: str
    message: str
    time: str
    scope: Mapping[str, str]  # of the log, where it was recorded

    @property
    def group(self) -> tuple[object, ...]:
        return (self.reference, self.kind, self.reason)


class TokenBucket:
    """`burst` tokens at once, one more every `interval` seconds."""

    def __init__(self, burst: int, interval: float, clock: Callable[[], float]) -> None:
        self._burst = burst
        self._interval = interval
        self._clock = clock
        self._tokens = float(burst)
        self._at = clock()

    def take(self) -> bool:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) / self._interval)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class EventRecorder:
    """`component` names the controller in `kubectl get events`."""

    def __init__(
        self,
        client: KubeClient,
        component: str,
        *,
        capacity: int = 1000,
        burst: int = 25,
        interval: float = 300.0,
        backoff: Callable[[], Backoff] = Backoff,
        clock: Callable[[], float] = time.monotonic,
        instance: str | None = None,
    ) -> None:
        self._client = client
        self._component = component
        self._instance = instance or socket.gethostname()
        self._burst = burst
        self._interval = interval
        self._backoff = backoff
        self._clock = clock
        self._pending: queue.Queue[_Occurrence | None] = queue.Queue(capacity)
        self._buckets: OrderedDict[object, TokenBucket] = OrderedDict()
        self._series = EventSeries(clock)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def event(self, obj: Object, kind: str, reason: str, message: str) -> None:
        """Record on `obj` (an object or a reference) an event of kind "Normal" or "Warning".

        Returns at once. Dropped and counted when too many wait or after `stop`. What looks like a credential is
        struck out: who may read Events may not always read Secrets.
        """
        if self._stopped.is_set():
            return self._drop("Stopped")
        said = logs.redact(message)[:_MESSAGE_LIMIT]
        occurrence = _Occurrence(_reference(obj), kind, reason, said, _timestamp(), logs.current())
        try:
            self._pending.put_nowait(occurrence)
        except queue.Full:
            self._drop("QueueFull")
        return None

    def stop(self, timeout: float = 5.0) -> bool:
        """Write what waits, for at most `timeout` seconds; False when something was left."""
        self._stopped.set()
        try:
            self._pending.put(None, timeout=timeout)
        except queue.Full:
            return False
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (occurrence := self._pending.get()) is not None:
            try:
                if self._bucket(occurrence).take():
                    self._send(occurrence)
                else:
                    self._drop("RateLimited")
            except Exception as error:
                self._drop("Failed")
                with logs.scope(**occurrence.scope):
                    log.warning("event not written: %s", error, extra={"event": occurrence.reason})

    def _send(self, occurrence: _Occurrence) -> None:
        backoff, series = self._backoff(), self._series.of(occurrence.group, occurrence.message)
        name = _name(occurrence)  # the same at each try: an answer that was lost makes no second Event
        for left in reversed(range(_TRIES)):
            try:
                self._write(occurrence, series, name)
                EVENTS_SENT.labels(self._component).inc()
                return
            except TransientError as error:
                if left == 0:
                    raise
                retry_after = error.retry_after if isinstance(error, ApiError) else None
                self._stopped.wait(max(backoff.next(), retry_after or 0.0))

    def _write(self, occurrence: _Occurrence, series: Series, name: str) -> None:
        namespace, message = dict(occurrence.reference).get("namespace") or "default", series.message[:_MESSAGE_LIMIT]
        if series.name:
            try:
                patch = {"count": series.count + 1, "lastTimestamp": occurrence.time, "message": message}
                self._client.merge_patch(EVENTS.path(namespace, series.name), patch)
                series.count += 1
                return
            except NotFound:  # events live for an hour
                series.name = ""
        with suppress(AlreadyExists):
            self._client.create(EVENTS.path(namespace), self._event(occurrence, namespace, name, message))
        series.name, series.count = name, 1

    def _event(self, occurrence: _Occurrence, namespace: str, name: str, message: str) -> dict[str, Any]:
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"namespace": namespace, "name": name},
            "involvedObject": dict(occurrence.reference),
            "type": occurrence.kind,
            "reason": occurrence.reason,
            "message": message,
            "count": 1,
            "firstTimestamp": occurrence.time,
            "lastTimestamp": occurrence.time,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": self._instance,
        }

    def _bucket(self, occurrence: _Occurrence) -> TokenBucket:
        key = occurrence.group
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = TokenBucket(self._burst, self._interval, self._clock)
            self._buckets[key] = bucket
        self._buckets.move_to_end(key)
        while len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        return bucket

    def _drop(self, reason: str) -> None:
        EVENTS_DROPPED.labels(self._component, reason).inc()


def _reference(obj: Object) -> tuple[tuple[str, str], ...]:
    """The involvedObject: of an object with metadata, or of what is a reference already."""
    source = obj.get("metadata") or obj
    fields = {
        "apiVersion": obj.get("apiVersion"),
        "kind": obj.get("kind"),
        "namespace": source.get("namespace"),
        "name": source.get("name"),
        "uid": source.get("uid"),
    }
    return tuple((name, value) for name, value in fields.items() if value)


def _name(occurrence: _Occurrence) -> str:
    return f"{dict(occurrence.reference)['name'][:200].rstrip('.-')}.{uuid.uuid4().hex[:16]}"


def _timestamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
