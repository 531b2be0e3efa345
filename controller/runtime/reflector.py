"""Informer: keeps a local copy of a collection by list and watch, and tells handlers what changes.

The client library's informer reconnects thousands of times in a few seconds when a server is down or
closes its watches at once, and never notices a connection that has gone silent. Here every attempt is
spaced by backoff unless the last watch lived, and silence is bounded. Knows no object's meaning.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from controller.errors import ApiError, ConnectionLost, Gone, TooManyRequests
from controller.runtime.backoff import Backoff
from controller.runtime.client import KubeClient
from controller.runtime.indexer import Change, Indexer
from controller.runtime.metrics import REFLECTOR_ERRORS, REFLECTOR_LISTS, REFLECTOR_WATCHES
from controller.runtime.resources import Object, Resource, key_of
from controller.runtime.watch import Watch

log = logging.getLogger(__name__)

# Where we were is still there, and everything in one list is what such a server needs least. Not so after a 5xx: it
# is also what a server answers whose etcd was restored to before our version, and it would for ever.
_KEEP_VERSION = (ConnectionLost, TooManyRequests)

Handler = Callable[[Object | None, Object | None], None]
"""Called with (old, new) in the informer's thread: only enqueue a key there. None: was added or deleted."""


def without_managed_fields(obj: dict[str, Any]) -> dict[str, Any]:
    """Half of a typical object, read by nobody here."""
    obj["metadata"].pop("managedFields", None)
    return obj


class Informer:
    """Lists, watches from there, and relists when the version is too old (410) or the server errs.

    A watch that ended in peace, or because the server was too busy or could not be reached, is resumed. Silence is
    noticed `read_slack` seconds after the time at which the server should have ended the watch: at most
    watch_timeout + read_slack seconds.
    """

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        namespace: str | None = None,
        label_selector: str | None = None,
        *,
        watch_timeout: float = 120.0,
        read_slack: float = 15.0,
        healthy_after: float = 5.0,
        backoff: Backoff | None = None,
        transform: Callable[[dict[str, Any]], Object] = without_managed_fields,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self.indexer = Indexer()
        self.name = resource.plural
        self._client = client
        self._path = resource.path(namespace)
        self._label_selector = label_selector
        self._watch_timeout = watch_timeout
        self._read_slack = read_slack
        self._healthy_after = healthy_after
        self._backoff = backoff or Backoff()
        self._transform = transform
        self._clock = clock
        self._handlers: list[Handler] = []
        self._dispatching = threading.RLock()
        self._synced = threading.Event()
        self._stopped = threading.Event()
        self._wait = wait or self._stopped.wait
        self._version: str | None = None
        self._watch: Watch | None = None
        self._last_sync: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"informer-{self.name}", daemon=True)

    def add_handler(self, handler: Handler) -> None:
        """What is in the cache already is reported to the new handler as added, here and now."""
        with self._dispatching:
            self._handlers.append(handler)
            for obj in self.indexer.list():
                self._call(handler, (None, obj))

    def start(self) -> None:
        """Does nothing after `stop`."""
        if not self._stopped.is_set():
            self._thread.start()

    def stop(self, timeout: float = 5.0) -> bool:
        """End the thread; False when it still waits for a server that does not answer (it is a daemon)."""
        self._stopped.set()
        watch = self._watch
        if watch is not None:
            watch.close()
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def has_synced(self) -> bool:
        """Whether the first list is in the cache and was reported to the handlers."""
        return self._synced.is_set()

    def wait_for_sync(self, timeout: float | None = None) -> bool:
        return self._synced.wait(timeout)

    @property
    def last_sync(self) -> float | None:
        """When the server last said anything (a list, an event, a bookmark, a peaceful end), by `clock`."""
        return self._last_sync

    def seconds_since_sync(self) -> float:
        """For readiness: stays below watch_timeout + read_slack in health; infinite before the first list."""
        return float("inf") if self._last_sync is None else self._clock() - self._last_sync

    def _run(self) -> None:
        while not self._stopped.is_set():
            started = self._clock()
            pause = self._attempt()
            if self._clock() - started >= self._healthy_after:
                self._backoff.reset()
                if pause is None:
                    continue
            self._wait(max(pause or 0.0, self._backoff.next()))

    def _attempt(self) -> float | None:
        """One list, if needed, and one watch. None after a peaceful end, else the server's Retry-After."""
        try:
            if self._version is None:
                self._version = self._relist()
            self._follow(self._version)
        except Exception as error:
            if not isinstance(error, _KEEP_VERSION):
                self._version = None
            if not self._stopped.is_set():
                self._report(error)
            return getattr(error, "retry_after", None) or 0.0
        return None

    def _relist(self) -> str:
        REFLECTOR_LISTS.labels(self.name).inc()
        items, version = self._client.list(self._path, label_selector=self._label_selector)
        with self._dispatching:
            for change in self.indexer.replace(self._transform(item) for item in items):
                self._dispatch(change)
        self._last_sync = self._clock()
        self._synced.set()
        return version

    def _follow(self, version: str) -> None:
        REFLECTOR_WATCHES.labels(self.name).inc()
        timeout = max(1, round(self._watch_timeout * random.uniform(0.5, 1.0)))  # noqa: S311 - spreads load
        watch = self._client.watch(
            self._path,
            version,
            timeout,
            label_selector=self._label_selector,
            read_timeout=timeout + self._read_slack,
        )
        self._watch = watch
        if self._stopped.is_set():  # stop() may have looked before the line above
            watch.close()
        for event in watch:
            self._last_sync = self._clock()
            self._take(event["type"], event["object"])
            self._version = event["object"]["metadata"]["resourceVersion"]
        self._last_sync = self._clock()

    def _take(self, kind: str, obj: dict[str, Any]) -> None:
        if kind == "BOOKMARK":
            return
        with self._dispatching:
            change = self.indexer.remove(key_of(obj)) if kind == "DELETED" else self.indexer.put(self._transform(obj))
            if change is not None:
                self._dispatch(change)

    def _dispatch(self, change: Change) -> None:
        for handler in self._handlers:
            self._call(handler, change)

    def _call(self, handler: Handler, change: Change) -> None:
        try:
            handler(*change)
        except Exception:
            log.exception("an event handler failed; the informer goes on", extra={"resource": self.name})

    def _report(self, error: Exception) -> None:
        reason = error.reason if isinstance(error, ApiError) else type(error).__name__
        REFLECTOR_ERRORS.labels(self.name, reason).inc()
        if isinstance(error, Gone):
            log.info("watch too old, listing again", extra={"resource": self.name})
        elif isinstance(error, ApiError):
            log.warning("list or watch failed: %s", error, extra={"resource": self.name, "reason": reason})
        else:
            log.exception("list or watch failed", extra={"resource": self.name})
