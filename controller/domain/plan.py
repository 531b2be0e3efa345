"""The decision: a snapshot and the time in, actions and the next memory out. Pure: no clock, no I/O.

Rule that makes crashes harmless: **a plan that changes a decision does nothing else.** The decision (which step,
towards what, what serves, what is rejected) is written to status first; the next plan reads it and acts. So the
controller may die between any two writes, and a second controller with an old view loses at the status write.
Where the decision is to move the route, clients wait for it: it may be acted on as soon as it is written, by what was
seen for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.api.status import AdapterReleaseStatus, Step
from controller.api.v1alpha1 import FINALIZER, RETRY_ANNOTATION
from controller.domain.actions import (
    Action,
    AddFinalizer,
    EnsurePluginObjects,
    RemoveFinalizer,
    RemoveLabel,
    ScaleBase,
)
from controller.domain.capacity import give_base_back, keep_base
from controller.domain.cleanup import clean_up
from controller.domain.conditions import blocker, conclude
from controller.domain.departures import tell_routing
from controller.domain.draft import Draft
from controller.domain.loading import forget, keep_loaded
from controller.domain.notes import Note, notes
from controller.domain.pipeline import advance
from controller.domain.shifting import give_back, keep_weights
from controller.domain.snapshot import Snapshot
from controller.domain.traffic import move_traffic

BUSY_POLL = timedelta(seconds=1)  # vLLM and jobs' progress send no events
IDLE_POLL = timedelta(seconds=15)
FORGET_DEADLINE = timedelta(seconds=60)
_MOVING = (Step.SWITCHING, Step.ROLLING_BACK)


@dataclass(frozen=True)
class Plan:
    actions: tuple[Action, ...]
    status: AdapterReleaseStatus
    requeue_after: timedelta | None
    notes: tuple[Note, ...] = ()
    moves_route: bool = False
    """It was decided, just now, to move the route: plan again as soon as that is written, without another look."""


def plan(snapshot: Snapshot, now: datetime) -> Plan:
    """What to do about one release. `now` is UTC with whole seconds or finer; status keeps whole seconds."""
    now = now.replace(microsecond=0)
    draft = Draft(snapshot, now, snapshot.release.status)
    if snapshot.release.metadata.deletion_timestamp:
        return _plan_deletion(draft)
    if FINALIZER not in snapshot.release.metadata.finalizers:
        draft.do(AddFinalizer("adapters must be unloaded before the release goes"))
    if snapshot.lacks_plugin_objects:
        draft.do(EnsurePluginObjects("the base's pods start with the engine plugin"))
    if snapshot.name not in snapshot.services_taken:  # somebody else's: there is no route
        move_traffic(draft)
        advance(draft)
        keep_loaded(draft)
        tell_routing(draft)
        clean_up(draft)
        keep_base(draft)
        keep_weights(draft)
    return _finish(draft)


def _plan_deletion(draft: Draft) -> Plan:
    release = draft.seen.release
    if FINALIZER not in release.metadata.finalizers:
        return Plan((), release.status, None)
    if give_base_back(draft) and not _patience_is_over(draft):
        pass
    elif forget(draft) & give_back(draft):
        given_back = [a for a in draft.actions if isinstance(a, ScaleBase)]
        draft.actions = [*given_back, RemoveFinalizer("nothing of the release is left on the base's pods")]
    elif _patience_is_over(draft):
        draft.do(RemoveFinalizer("a server of the base does not say what it holds, or does not unload"))
    _conclude(draft)
    return Plan(tuple(draft.actions), draft.status, BUSY_POLL)


def _patience_is_over(draft: Draft) -> bool:
    """Counted from the last pod that left the route: after an absence of the controller there is all to do yet."""
    if any(isinstance(a, RemoveLabel) for a in draft.actions):
        return False
    asked = datetime.fromisoformat((draft.seen.release.metadata.deletion_timestamp or "").replace("Z", "+00:00"))
    left_route = [p.unrouted_at for p in draft.seen.base_pods if p.unrouted_at is not None]
    return draft.now >= max([asked, *left_route]) + FORGET_DEADLINE


def _finish(draft: Draft) -> Plan:
    _conclude(draft)
    old, decided = draft.seen.release.status, draft.decided()
    return Plan(
        actions=() if decided else tuple(draft.actions),
        status=draft.status,
        requeue_after=timedelta(0) if decided else _next_look(draft),
        notes=notes(old, draft.status) if draft.status != old else (),
        moves_route=decided and draft.step in _MOVING and draft.step is not old.rollout.step,
    )


def _conclude(draft: Draft) -> None:
    """What is said of all this, and of which spec and which try it is said."""
    meta = draft.seen.release.metadata
    draft.update(
        conditions=conclude(draft),
        observed_generation=meta.generation,
        observed_retry=meta.annotations.get(RETRY_ANNOTATION, ""),
    )


def _next_look(draft: Draft) -> timedelta:
    busy = draft.step is not Step.IDLE or draft.actions or (blocker(draft) is None and draft.served is None)
    poll = BUSY_POLL if busy else IDLE_POLL
    until_wake = [w - draft.now for w in draft.wakes if w > draft.now]
    return min([poll, *until_wake])
