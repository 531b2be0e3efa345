"""One screen: observe -> plan -> act -> write the status -> tell -> look again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Protocol

from controller.api.reasons import Reason
from controller.api.status import AdapterReleaseStatus
from controller.api.v1alpha1 import API_VERSION, KIND
from controller.domain.notes import Note, awaiting_approval, refusal
from controller.domain.people import Wait, waits_for_people
from controller.domain.plan import Plan
from controller.domain.snapshot import Snapshot
from controller.errors import NotFound
from controller.reconcile.act import Act, carry_out
from controller.reconcile.failures import Told
from controller.reconcile.status import WriteStatus
from controller.reconcile.turn import Turn
from controller.reconcile.unkept import Unkept, explanation
from controller.runtime.resources import Key, Object
from controller.runtime.worker import Result

# Seconds after which vLLM is asked for the effect of what was just done there.
_LOOK_SOON = 0.05
# Seconds, at least, when a decision may not have been kept: it would be made, and lost, as fast as it goes.
_LOOK_AGAIN = 1.0


class Recorder(Protocol):
    """What `EventRecorder` offers."""

    def event(self, obj: Object, kind: str, reason: str, message: str) -> None: ...


class Account(Protocol):
    """What `Board` offers: who is told how each release stands, for metrics."""

    def looked(self, seen: Snapshot, status: AdapterReleaseStatus, waits: Collection[str]) -> None: ...
    def wrote(self, key: Key, before: AdapterReleaseStatus, after: AdapterReleaseStatus, now: datetime) -> None: ...
    def synced(self, key: Key, now: datetime) -> None: ...
    def gone(self, key: Key) -> None: ...


class Reconciler:
    """Called by the workers with a key. Raises what failed; the queue tries again with backoff."""

    def __init__(
        self,
        observe: Callable[[Key], Snapshot | None],
        plan: Callable[[Snapshot, datetime], Plan],
        act: Act,
        write_status: WriteStatus,
        recorder: Recorder,
        account: Account,
        now: Callable[[], datetime],
    ) -> None:
        self._observe = observe
        self._plan = plan
        self._act = act
        self._write_status = write_status
        self._recorder = recorder
        self._account = account
        self._now = now
        self._done = Told()
        self._refused = Told()
        self._asked = Told()
        self._unkept = Unkept()

    def __call__(self, key: Key) -> Result:
        snapshot = self._observe(key)
        return self._forget(key) if snapshot is None else self._turn(key, snapshot)

    def _turn(self, key: Key, snapshot: Snapshot) -> Result:
        now = self._now()
        plan = self._plan(snapshot, now)
        turn = Turn.of(snapshot)
        outcome = carry_out(plan.actions, turn, self._act, self._done.news(key, [a.why for a in plan.actions], now))
        self._tell_refused(outcome.refused, turn, now)
        try:
            is_kept = self._remember(plan, turn, now)
        except NotFound:  # its last finalizer has just gone
            return self._forget(key)
        self._account_for(snapshot, plan.status, now, bool(outcome.refused) or not is_kept)
        if outcome.errors:
            raise outcome.errors[0]
        self._account.synced(key, now)
        if plan.moves_route and is_kept:
            return self._turn(key, turn.with_status(plan.status))
        if outcome.unseen:
            return Result(_LOOK_SOON)
        if plan.requeue_after is None:
            return Result()
        return Result(max(plan.requeue_after.total_seconds(), 0.0 if is_kept else _LOOK_AGAIN))

    def _remember(self, plan: Plan, turn: Turn, now: datetime) -> bool:
        """Write the status, if that changes anything. False: the API server does not keep all of it."""
        key, before = turn.key, turn.snapshot.release.status
        if plan.status == before:
            return True
        if not self._unkept.is_all(key, before, plan.status, now):
            self._unkept.note(key, self._write_status(plan.status, turn), now)
            self._tell(plan.notes, turn.snapshot)
        fields = self._unkept.of(key)
        self._tell_refused([explanation(fields)] if fields else [], turn, now)
        return not fields

    def _account_for(self, snapshot: Snapshot, status: AdapterReleaseStatus, now: datetime, refused: bool) -> None:
        """`status` is stored."""
        key, waits = Turn.of(snapshot).key, waits_for_people(snapshot, status, now, refused)
        self._account.looked(snapshot, status, waits)
        self._account.wrote(key, snapshot.release.status, status, now)
        asked = [awaiting_approval(status)] if Wait.APPROVAL in waits else []
        news = self._asked.news(key, asked, now)
        self._tell([Note("Normal", Reason.SHIFTING, message) for message in news], snapshot)

    def _forget(self, key: Key) -> Result:
        """There is no such release."""
        for memory in (self._done, self._refused, self._asked, self._unkept):
            memory.forget(key)
        self._account.gone(key)
        return Result()

    def _tell_refused(self, messages: Sequence[str], turn: Turn, now: datetime) -> None:
        """What a person has to mend."""
        news = self._refused.news(turn.key, messages, now)
        self._tell([Note("Warning", Reason.ACTION_REFUSED, refusal(message)) for message in news], turn.snapshot)

    def _tell(self, notes: Iterable[Note], snapshot: Snapshot) -> None:
        meta = snapshot.release.metadata
        reference = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
        }
        for note in notes:
            self._recorder.event(reference, note.type, note.reason, note.message)
