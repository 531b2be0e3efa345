"""Leader election by a Lease: of several controllers one works, and it stops before the next one starts.

The client library's LeaseLock never calls its stop callback when the API server is killed, and goes on
leading when the server hangs. Here leadership is a deadline on the monotonic clock, counted from the
moment *before* the last successful renewal was sent, and watched by a thread that makes no requests.

Others take the Lease `lease_duration` after they saw its last change, which is later than that moment.
So there are lease_duration - renew_deadline seconds in which `on_stopped` has to end all work. What was
sent to a server that hangs may still be carried out then; `KubeClient.fenced(elector.remaining)` keeps
every write within the deadline, and writes are repeatable.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from controller.errors import AlreadyExists, ApiError, Conflict, NotFound
from controller.runtime.client import KubeClient
from controller.runtime.lease import LeaseClient, LeaseRecord
from controller.runtime.metrics import LEADER

log = logging.getLogger(__name__)

_LONGEST_WAIT = 1.0  # a signal handler that calls stop() can run between our look and our wait


def _uptime() -> float:
    """Monotonic seconds that also pass while the machine sleeps, when others may take the Lease."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Elector:
    """One candidate. `identity` must differ between processes, also on one host."""

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        name: str,
        identity: str,
        *,
        lease_duration: float = 15.0,
        renew_deadline: float = 10.0,
        retry_period: float = 2.0,
        clock: Callable[[], float] = _uptime,
    ) -> None:
        if not lease_duration > renew_deadline > retry_period > 0:
            raise ValueError("needed: lease_duration > renew_deadline > retry_period > 0")
        self.identity = identity
        self._lease = LeaseClient(client, namespace, name, identity, lease_duration)
        self._lease_duration = lease_duration
        self._renew_deadline = renew_deadline
        self._retry_period = retry_period
        self._clock = clock
        self._changed = threading.Condition()
        self._stop_requested = False
        self._finished = False
        self._deadline: float | None = None  # leading until then
        self._seen: LeaseRecord | None = None
        self._seen_at = 0.0
        self._led = False
        self._campaigner = threading.Thread(target=self._campaign, name="elector", daemon=True)
        self._status = LEADER.labels(name)
        self._status.set(0)

    def run(self, on_started: Callable[[], None], on_stopped: Callable[[], None]) -> bool:
        """Campaign, lead, and return when it is over: True after `stop`, False when leadership was lost.

        `on_started` runs in its own thread once this process leads. `on_stopped` runs in this thread,
        once, only if `on_started` was called, and must end all work before it returns. After False the
        process should exit: it may still have a thread in a request. Can be called once. An exception of
        `on_started` ends the leadership and is raised here.
        """
        self._campaigner.start()
        try:
            if self._wait_to_lead():
                return self._lead(on_started, on_stopped)
            self._release()
            return True
        finally:
            self._finish()

    def stop(self) -> None:
        """End `run`: work stops first, while the Lease is still renewed, then the Lease is released."""
        with self._changed:
            self._stop_requested = True
            self._changed.notify_all()

    def remaining(self) -> float:
        """Seconds of leadership left when nothing more is heard from the server; 0 when not leading."""
        deadline = self._deadline
        return 0.0 if deadline is None else max(0.0, deadline - self._clock())

    def still_leading(self) -> bool:
        """To ask before every write. Needs no other thread to run: it looks at the clock."""
        return self.remaining() > 0.0

    def holder(self) -> str:
        """Who leads, as last seen; empty when nobody."""
        seen = self._seen
        return seen.holder if seen else ""

    def _wait_to_lead(self) -> bool:
        with self._changed:
            while self._deadline is None and not self._stop_requested:
                self._changed.wait(_LONGEST_WAIT)
            return not self._stop_requested

    def _lead(self, on_started: Callable[[], None], on_stopped: Callable[[], None]) -> bool:
        log.info("leading", extra={"identity": self.identity})
        self._status.set(1)
        self._led = True
        failure: list[BaseException] = []

        def begin() -> None:
            try:
                on_started()
            except BaseException as error:  # raised again by the thread that runs the election
                failure.append(error)
                self.stop()

        starter = threading.Thread(target=begin, name="elector-started", daemon=True)
        starter.start()
        kept = self._watch_deadline()
        self._status.set(0)
        if not kept:
            with self._changed:
                self._deadline = None  # also when the server comes back now: this process is done
                self._finished = True
            log.error("leadership lost, stopping all work", extra={"identity": self.identity})
        on_stopped()
        if kept:
            self._release()
        if failure:
            raise failure[0]
        return kept

    def _watch_deadline(self) -> bool:
        """Wait until asked to stop (True) or until the deadline is over (False)."""
        with self._changed:
            while not self._stop_requested:
                left = self.remaining()
                if left <= 0:
                    return False
                self._changed.wait(min(left, _LONGEST_WAIT))
            return self.still_leading()

    def _release(self) -> None:
        self._finish()
        self._campaigner.join(self.remaining())  # a renewal under way would conflict
        seen, left = self._seen, self.remaining()
        self._deadline = None
        if seen is not None and left > 0:
            self._give_back(seen, left)

    def _give_back(self, record: LeaseRecord, timeout: float) -> None:
        try:
            self._lease.release(record, timeout)
            log.info("lease released", extra={"identity": self.identity})
        except ApiError as error:
            log.warning("lease not released, it will expire: %s", error)

    def _finish(self) -> None:
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def _campaign(self) -> None:
        """Acquire and renew in its own thread, so that a request which hangs holds up nothing else."""
        while not self._finished:
            started = self._clock()
            try:
                if self._deadline is None:
                    self._acquire()
                else:
                    self._renew()
            except (Conflict, AlreadyExists, NotFound):
                self._seen = None  # somebody wrote it: read it again
            except ApiError as error:
                log.warning("lease not renewed: %s", error, extra={"leading": self.still_leading()})
            except Exception:
                log.exception("lease not renewed")
            with self._changed:
                pause = self._retry_period * random.uniform(1.0, 1.2)  # noqa: S311 - spreads candidates
                self._changed.wait_for(lambda: self._finished, max(0.0, pause - (self._clock() - started)))

    def _acquire(self) -> None:
        record = self._lease.read(self._renew_deadline / 2)
        if record is None:
            self._seen = None
        elif self._seen is None or record.resource_version != self._seen.resource_version:
            if self._seen is None or record.holder != self._seen.holder:
                log.info("lease seen", extra={"holder": record.holder})
            self._seen, self._seen_at = record, self._clock()
        if record is None or not self._held_by_another(record):
            sent = self._clock()
            self._keep(self._lease.take(record, self._renew_deadline / 2), sent)

    def _held_by_another(self, record: LeaseRecord) -> bool:
        """Counted from when we saw it change, by our clock: the times in a Lease are another machine's."""
        if not record.holder or record.holder == self.identity:
            return False
        return self._clock() < self._seen_at + (record.duration or self._lease_duration)

    def _renew(self) -> None:
        record = self._seen or self._lease.read(self._patience())
        if record is not None and record.holder != self.identity:
            log.error("another process holds the lease", extra={"holder": record.holder})
            with self._changed:
                self._deadline = None
                self._finished = True  # not to be won again by a run that others have seen end
                self._changed.notify_all()
            return
        sent = self._clock()
        if record is None:  # somebody deleted it
            self._keep(self._lease.take(None, self._patience()), sent)
        else:
            self._keep(self._lease.renew(record, self._patience()), sent)

    def _patience(self) -> float:
        """For one request: short enough that after one which hangs another can still save the leadership."""
        return max(0.001, min(self.remaining(), self._renew_deadline / 2))

    def _keep(self, record: LeaseRecord, sent: float) -> None:
        """A write has succeeded: lead until `renew_deadline` after it was sent."""
        with self._changed:
            self._seen = record
            late = self._finished
            if not late:
                self._deadline = sent + self._renew_deadline
                self._changed.notify_all()
        if late and not self._led:  # stop() came first: nobody works under this Lease
            self._give_back(record, self._renew_deadline / 2)
