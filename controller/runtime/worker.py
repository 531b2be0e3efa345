"""Workers: threads that take keys from the queue and reconcile them.

Whatever a reconciliation raises is counted, logged and retried with backoff; nothing kills a worker.
Knows no Kubernetes object.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

from controller.errors import AdapterReleaseError
from controller.runtime import logs
from controller.runtime.metrics import (
    ACTIVE_WORKERS,
    MAX_WORKERS,
    RECONCILE_ERRORS,
    RECONCILE_SECONDS,
    RECONCILE_TOTAL,
)
from controller.runtime.resources import Key
from controller.runtime.workqueue import K, WorkQueue

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """When to reconcile the key again: in `requeue_after` seconds, or None: when something changes."""

    requeue_after: float | None = None


class Workers(Generic[K]):
    """`count` threads that call `reconcile(key)`; never two at once for the same key."""

    def __init__(
        self,
        name: str,
        queue: WorkQueue[K],
        reconcile: Callable[[K], Result],
        count: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._queue = queue
        self._reconcile = reconcile
        self._clock = clock
        self._stopping = threading.Event()
        self._lifecycle = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-worker-{number}", daemon=True) for number in range(count)
        ]
        for outcome in ("success", "requeue_after", "error"):
            RECONCILE_TOTAL.labels(name, outcome)
        RECONCILE_ERRORS.labels(name)
        MAX_WORKERS.labels(name).set(count)
        self._active = ACTIVE_WORKERS.labels(name)

    def start(self) -> None:
        """Does nothing after `stop`: a slow start must not outlive lost leadership."""
        with self._lifecycle:
            if not self._stopping.is_set():
                for thread in self._threads:
                    thread.start()

    def stop(self, timeout: float = 5.0) -> bool:
        """Take no more keys and wait for the running reconciliations; False when one is still at it."""
        with self._lifecycle:
            self._stopping.set()
        self._queue.shut_down()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while not self._stopping.is_set():
            key = self._queue.get()
            if key is None:
                return
            try:
                if not self._stopping.is_set():
                    self._process(key)
            finally:
                self._queue.done(key)

    def _process(self, key: K) -> None:
        started = self._clock()
        self._active.inc()
        with logs.scope(controller=self._name, **_fields(key), reconcileID=uuid.uuid4().hex[:12]):
            try:
                outcome = self._settle(key, self._reconcile(key))
            except Exception as error:
                outcome = self._fail(key, error)
            finally:
                self._active.dec()
        RECONCILE_SECONDS.labels(self._name).observe(self._clock() - started)
        RECONCILE_TOTAL.labels(self._name, outcome).inc()

    def _settle(self, key: K, result: Result) -> str:
        self._queue.forget(key)
        if result.requeue_after is None:
            return "success"
        self._queue.add_after(key, result.requeue_after)
        return "requeue_after"

    def _fail(self, key: K, error: Exception) -> str:
        RECONCILE_ERRORS.labels(self._name).inc()
        delay = self._queue.add_rate_limited(key, at_least=getattr(error, "retry_after", None) or 0.0)
        if isinstance(error, AdapterReleaseError):
            log.warning("reconciliation failed: %s", error, extra={"reason": error.reason, "retryIn": round(delay, 3)})
        else:
            log.exception("reconciliation failed", extra={"retryIn": round(delay, 3)})
        return "error"


def _fields(key: object) -> dict[str, str]:
    """Of the log: whose reconciliation it is."""
    parts = {"namespace": key.namespace, "name": key.name} if isinstance(key, Key) else {}
    return {"key": str(key), **parts}
