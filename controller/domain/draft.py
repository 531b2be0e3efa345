"""The plan while it is being made: a copy of the memory (status) and the actions so far.

Two sorts of change: a *decision* (which step, towards what, what serves, what is rejected) is only written down;
it is carried out by the next plan, which reads it. So a crash between the two loses nothing (see plan.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from controller.api.reasons import Reason
from controller.api.status import (
    AdapterReleaseStatus,
    Backend,
    BackendKind,
    HistoryEntry,
    Rejected,
    RolloutStatus,
    Serving,
    Step,
)
from controller.domain.actions import Action
from controller.domain.inputs import spec_inputs
from controller.domain.snapshot import Snapshot

REJECTED_LIMIT = 10


@dataclass
class Draft:
    seen: Snapshot
    now: datetime
    status: AdapterReleaseStatus
    actions: list[Action] = field(default_factory=list)
    wakes: list[datetime] = field(default_factory=list)

    # -- reading
    @property
    def rollout(self) -> RolloutStatus:
        return self.status.rollout

    @property
    def step(self) -> Step:
        return self.status.rollout.step

    @property
    def is_late(self) -> bool:
        """The time of the step under way is over."""
        return self.rollout.deadline is not None and self.now >= self.rollout.deadline

    @property
    def served(self) -> Backend | None:
        return self.status.serving.backend if self.status.serving else None

    def decided(self) -> bool:
        """Does this draft change a decision?"""
        old, new = self.seen.release.status, self.status
        return (old.serving, old.base, _decision(old.rollout)) != (new.serving, new.base, _decision(new.rollout))

    def rejection(self, step: Step, inputs: str, artifact_id: str = "") -> Rejected | None:
        return next(
            (r for r in self.rollout.rejected if r.step is step and r.inputs == inputs and r.id == artifact_id),
            None,
        )

    def backend_rejection(self, backend_id: str) -> Rejected | None:
        """Why this artifact, or this version of the adapter, is not tried again while the spec stays as it is."""
        if not self.rollout.rejected:
            return None
        inputs = spec_inputs(self.seen.release)
        return next((r for r in self.rollout.rejected if r.id == backend_id and r.inputs == inputs), None)

    # -- writing
    def do(self, action: Action) -> None:
        self.actions.append(action)

    def wake_at(self, when: datetime) -> None:
        self.wakes.append(when)

    def update(self, **changes: Any) -> None:
        self.status = self.status.model_copy(update=changes)

    def update_rollout(self, **changes: Any) -> None:
        self.update(rollout=self.rollout.model_copy(update=changes))

    def begin(
        self,
        step: Step,
        limit: timedelta,
        *,
        inputs: str = "",
        reason: str = "",
        target: Backend | None = None,
        origin: Backend | None = None,
    ) -> None:
        """Decide on a step. Its deadline is written down with it."""
        self.update_rollout(
            step=step,
            inputs=inputs,
            reason=reason,
            target=target,
            origin=origin,
            started_at=self.now,
            deadline=self.now + limit,
            counters=None,
            failures=0,
            measured=0,
            samples=[],
            progress="",
            paused=False,
        )

    def rest(self) -> None:
        """Nothing is under way."""
        if self.step is not Step.IDLE:
            self.update_rollout(
                step=Step.IDLE,
                inputs="",
                target=None,
                origin=None,
                started_at=None,
                deadline=None,
                counters=None,
                progress="",
                paused=False,
            )

    def reject(self, step: Step, inputs: str, reason: str, message: str, backend_id: str = "") -> None:
        entry = Rejected(inputs=inputs, step=step, id=backend_id, reason=reason, message=message)
        others = [r for r in self.rollout.rejected if (r.inputs, r.step, r.id) != (inputs, step, backend_id)]
        self.update_rollout(rejected=[*others, entry][-REJECTED_LIMIT:])

    def reject_backend(self, step: Step, backend_id: str, reason: str, message: str) -> None:
        self.reject(step, spec_inputs(self.seen.release), reason, message, backend_id)

    def readmit_backend(self, backend_id: str, reason: str) -> None:
        """What it was rejected for is over."""
        over = (spec_inputs(self.seen.release), backend_id, reason)
        self.update_rollout(rejected=[r for r in self.rollout.rejected if (r.inputs, r.id, r.reason) != over])

    def serve(self, backend: Backend, reason: str, settle_at: datetime | None) -> None:
        """The route was proven to reach the backend."""
        if self.served == backend:
            return
        entry = HistoryEntry(
            revision=(self.status.history[0].revision if self.status.history else 0) + 1,
            backend=backend,
            since=self.now,
            reason=reason,
            version=self.version_of(backend),
            adapter_digest=self._adapter_digest_of(backend),
            merge_only=self._is_merge_only(backend),
            unobserved=self._begins_unobserved(backend, reason),
        )
        self.update(
            serving=Serving(backend=backend, revision=entry.revision, since=self.now, settle_at=settle_at),
            history=self._within_limit([entry, *self.status.history]),
        )

    def note_good_observation(self) -> None:
        """The observation of what serves ended well."""
        newest = [h.model_copy(update={"unobserved": False}) for h in self.status.history[:1]]
        self.update(history=newest + self.status.history[1:])

    @property
    def is_unobserved(self) -> bool:
        """Does an artifact serve whose observation did not end, or not well?"""
        return self.served is not None and any(h.unobserved for h in self.status.history[:1])

    def _begins_unobserved(self, backend: Backend, reason: str) -> bool:
        if backend.kind is BackendKind.ARTIFACT and reason == Reason.PROMOTED:
            return True
        return next((h.unobserved for h in self.status.history if h.backend == backend), False)

    def _within_limit(self, history: list[HistoryEntry]) -> list[HistoryEntry]:
        """The newest, and the one that spec.rollback names: without it nobody knows any more what that is."""
        spec = self.seen.release.spec
        kept = history[: spec.rollout.revision_history_limit + 1]
        return kept + [h for h in history[len(kept) :] if spec.rollback and h.revision == spec.rollback.revision]

    def _adapter_digest_of(self, backend: Backend) -> str:
        if backend.kind is BackendKind.ADAPTER:
            return backend.id
        if self.status.artifact and self.status.artifact.id == backend.id:
            return self.status.artifact.adapter_digest
        return next((h.adapter_digest for h in self.status.history if h.backend == backend), "")

    def _is_merge_only(self, backend: Backend) -> bool:
        if self.status.artifact and self.status.artifact.id == backend.id:
            return self.status.artifact.merge_only
        return any(h.merge_only for h in self.status.history if h.backend == backend)

    def version_of(self, backend: Backend) -> str:
        """Of the adapter, as the spec named it when the backend was made; empty: nobody knows any more."""
        digest = self._adapter_digest_of(backend)
        if self.status.adapter and self.status.adapter.digest == digest:
            return self.status.adapter.version
        return next((h.version for h in self.status.history if h.adapter_digest == digest), "")


def _decision(rollout: RolloutStatus) -> tuple[Any, ...]:
    return (
        rollout.step,
        rollout.inputs,
        rollout.target,
        rollout.origin,
        rollout.deadline,
        tuple(rollout.rejected),
        (rollout.canary.http_route, rollout.canary.weight) if rollout.canary else None,
    )
