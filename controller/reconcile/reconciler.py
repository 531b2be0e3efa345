"""One screen: observe -> plan -> act -> write the status -> tell -> look again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Protocol

from controller.api.reasons import Reason
from controller.api.v1alpha1 import API_VERSION, KIND
from controller.domain.plan import Note, Plan
from controller.domain.snapshot import Snapshot
from controller.errors import NotFound
from controller.reconcile.act import Act, carry_out
from controller.reconcile.failures import Refusals
from controller.reconcile.status import WriteStatus
from controller.reconcile.turn import Turn
from controller.runtime.resources import Key, Object
from controller.runtime.worker import Result

# Seconds after which vLLM is asked for the effect of what was just done there.
_LOOK_SOON = 0.05


class Recorder(Protocol):
    """What `EventRecorder` offers."""

    def event(self, obj: Object, kind: str, reason: str, message: str) -> None: ...


class Reconciler:
    """Called by the workers with a key. Raises what failed; the queue tries again with backoff."""

    def __init__(
        self,
        observe: Callable[[Key], Snapshot | None],
        plan: Callable[[Snapshot, datetime], Plan],
        act: Act,
        write_status: WriteStatus,
        recorder: Recorder,
        now: Callable[[], datetime],
    ) -> None:
        self._observe = observe
        self._plan = plan
        self._act = act
        self._write_status = write_status
        self._recorder = recorder
        self._now = now
        self._refusals = Refusals()

    def __call__(self, key: Key) -> Result:
        snapshot = self._observe(key)
        if snapshot is None:
            self._refusals.forget(key)
            return Result()
        now = self._now()
        plan = self._plan(snapshot, now)
        turn = Turn.of(snapshot)
        outcome = carry_out(plan.actions, turn, self._act)
        news = self._refusals.news(key, outcome.refused, now)
        self._tell([Note("Warning", Reason.ACTION_REFUSED, message) for message in news], snapshot)
        if plan.status != snapshot.release.status:
            try:
                self._write_status(plan.status, turn)
            except NotFound:  # its last finalizer has just gone
                return Result()
            self._tell(plan.notes, snapshot)
        if outcome.errors:
            raise outcome.errors[0]
        if outcome.unseen:
            return Result(_LOOK_SOON)
        return Result(plan.requeue_after.total_seconds() if plan.requeue_after is not None else None)

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
