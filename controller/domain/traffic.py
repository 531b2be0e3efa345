"""Moving traffic: switch, observe, roll back.

Rules, and what broke in other controllers without them:
- a switch ends when the route was proven to reach the target, not when the Service was patched (Argo #4867);
- the way back depends on where the release stands, and the last proven server is never given up (Flagger PR 1931);
- each step has a deadline (Flagger #1591, #1450).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from controller.api.reasons import Reason
from controller.api.status import Backend, BackendKind, Counters, Sample, Step
from controller.api.types import parse_duration
from controller.api.v1alpha1 import NoDataOutcome, Observe
from controller.domain.actions import EnsureMerged, SwitchRoute
from controller.domain.backends import (
    can_answer,
    can_be_flipped_somewhere,
    can_take_over,
    imported_adapter,
    pinned_revision,
    pods_of,
    refuses,
    routed_artifact,
    usable_pods,
)
from controller.domain.canary import Decision, Move
from controller.domain.checks import Reading, read_sample
from controller.domain.departures import leaving
from controller.domain.draft import Draft
from controller.domain.draining import clients_have_left, drain, drain_for_delay
from controller.domain.pod_steps import UNROUTE_DELAY
from controller.domain.shifting import begin_next_step, look_at_canary
from controller.domain.snapshot import SHORT, MergedFacts, RouteFacts, hex_of

SWITCH_DEADLINE = timedelta(seconds=60)
ROLLBACK_DEADLINE = timedelta(seconds=60)
# An artifact that lost all its pods outside of an observation gets this long to come back (a node drain).
UNAVAILABLE_GRACE = timedelta(seconds=30)
SAMPLES_KEPT = 10


def begin_switch(d: Draft, target: Backend, reason: Reason) -> None:
    d.begin(Step.SWITCHING, SWITCH_DEADLINE, reason=reason, target=target, origin=d.served)


def begin_observation(d: Draft, target: Backend, origin: Backend | None) -> None:
    limit = parse_duration(d.seen.release.spec.rollout.observe.duration)
    d.begin(Step.OBSERVING, limit, reason=Reason.PROMOTED, target=target, origin=origin)


def move_traffic(d: Draft) -> None:
    """Carry on with whatever the traffic is doing."""
    _note_absence(d)
    if d.step is Step.SWITCHING:
        _switch(d)
    elif d.step is Step.SHIFTING:
        _shift(d)
    elif d.step is Step.OBSERVING:
        _observe(d)
    elif d.step is Step.ROLLING_BACK:
        _roll_back(d)
    else:
        _watch_what_serves(d)


def route_is_proven(d: Draft, backend: Backend) -> bool:
    """The Service leads to the backend, only its pods are behind it, and one of them answered through it."""
    route = d.seen.route
    if route is None or not _leads_to(d, route, backend) or not route.endpoints:
        return False
    if backend.kind is BackendKind.ADAPTER and _may_come_back_with_another(d, backend):
        return False
    return route.endpoints <= {p.name for p in pods_of(d.seen, backend)} and (
        route.answered_root == d.seen.root_for(backend)
    )


def _may_come_back_with_another(d: Draft, backend: Backend) -> bool:
    """With the engine plugin the route selects no version: a pod that is just not ready would be in it again, with
    the version that it remembers. Its label goes before the switch is believed."""
    others = [p for p in d.seen.base_pods if p.routed_label and not p.deleting]
    return d.seen.in_place and any(p.loaded_label != hex_of(backend.id)[:SHORT] for p in others)


def point_route_at(d: Draft, backend: Backend) -> None:
    """Only at a backend that would answer."""
    route = d.seen.route
    if can_answer(d.seen, backend) and (route is None or not _leads_to(d, route, backend)):
        says = f"point the route at {backend.kind} {backend.id[:19]}"
        d.do(SwitchRoute(says, backend, leaving(d, backend)))


def _leads_to(d: Draft, route: RouteFacts, backend: Backend) -> bool:
    """By its selector, and by its port once a pod was heard there: those of an older base listen where they did."""
    if dict(route.selector) != d.seen.selector_for(backend):
        return False
    if backend.kind is BackendKind.ARTIFACT:
        is_known = bool(d.seen.root_for(backend))  # else its template could not be read
    else:
        is_known = any(p.adapters is not None for p in pods_of(d.seen, backend))
    return route.target_port == d.seen.port_for(backend) or not is_known


def ensure_merged(d: Draft, artifact_id: str, path: str) -> None:
    """Have a Deployment of the artifact. Whether the route points at it is another matter."""
    if d.seen.merged_for(artifact_id) is None:
        d.do(EnsureMerged(f"run a Deployment of artifact {artifact_id[:19]}", artifact_id, path))


def _arrive(d: Draft, target: Backend, reason: str) -> None:
    left = d.served
    rollout = d.seen.release.spec.rollout
    settle_at = d.now + parse_duration(rollout.rollback_window) if target.kind is BackendKind.ARTIFACT else None
    if left is not None and left != target:
        delay = parse_duration(rollout.scale_down_delay) if left.kind is BackendKind.ARTIFACT else UNROUTE_DELAY
        drain(d, left, d.now + delay)
    d.serve(target, reason, settle_at)


def _switch(d: Draft) -> None:
    target, origin = d.rollout.target, d.rollout.origin
    if target is None:
        d.rest()
        return
    if route_is_proven(d, target):
        if not d.is_late and not clients_have_left(d, origin, target):
            return
        _arrive(d, target, d.rollout.reason)
        if target.kind is BackendKind.ARTIFACT and d.rollout.reason == Reason.PROMOTED:
            begin_observation(d, target, origin)
        else:
            d.rest()
        return
    dead = not can_take_over(d.seen, target, origin) and not can_answer(d.seen, target)
    dead = dead and not can_be_flipped_somewhere(d.seen, target)
    if origin is not None and (d.is_late or (dead and can_answer(d.seen, origin))):
        message = f"the route was not proven to reach {target.kind} in time"
        if target.kind is origin.kind is BackendKind.ADAPTER:
            _remember_update(d, target, message)
        _give_up_on(d, target, Reason.SWITCH_NOT_PROVEN, message)
    else:
        if _may_leave(d, target):
            point_route_at(d, target)
        _wake_at_deadline(d)


def _may_leave(d: Draft, target: Backend) -> bool:
    """Where nothing was proven yet, the route may reach an artifact whose first switch made way to this one. It has
    requests too: that it stays for its delay is written down before the route moves."""
    left = routed_artifact(d.seen)
    if d.served is not None or left is None or left == target:
        return True
    stays = d.now + parse_duration(d.seen.release.spec.rollout.scale_down_delay)
    if any(x.backend == left and x.until >= stays for x in d.seen.release.status.rollout.draining):
        return True
    drain(d, left, stays + SWITCH_DEADLINE)
    return False


def first_switch_is_late(d: Draft) -> bool:
    """The route was not proven in time, and nothing has served yet: there is nowhere to go back to."""
    return d.step is Step.SWITCHING and d.served is None and d.is_late


def _remember_update(d: Draft, target: Backend, message: str) -> None:
    """A version that failed goes not back and forth by itself. (The way back from an artifact is never closed.)"""
    pods = usable_pods(d.seen)
    failures = [p.load_failure for p in pods if p.load_failure and refuses(p, target.id)]
    if d.is_late or (failures and len(failures) == len(pods)):
        words = f"the base's pod says: {failures[0].message}" if failures else message
        d.reject_backend(d.step, target.id, Reason.SWITCH_NOT_PROVEN, words)


def _give_up_on(d: Draft, bad: Backend, reason: Reason, message: str) -> None:
    """Decide to go back; the bad artifact is remembered. Without anything to go back to the route stays where it is."""
    if bad.kind is BackendKind.ARTIFACT:
        # else a newer one may be in the making meanwhile
        moving = d.step in (Step.SHIFTING, Step.SWITCHING, Step.OBSERVING)
        d.reject_backend(d.step if moving else Step.IDLE, bad.id, reason, message)
    back = way_back(d, bad)
    if back is not None:
        d.begin(Step.ROLLING_BACK, ROLLBACK_DEADLINE, reason=reason, target=back, origin=bad)
    else:
        d.rest()


def way_back(d: Draft, bad: Backend) -> Backend | None:
    """The first backend that would answer now, else the one that most likely will soon."""
    known = [d.rollout.origin, d.served, imported_adapter(d)]
    known += [h.backend for h in d.status.history]
    candidates = [b for b in known if b is not None and b != bad and not _is_rejected(d, b)]
    for backend in candidates:
        if can_answer(d.seen, backend):
            return backend
    if bad.kind is BackendKind.ADAPTER and can_answer(d.seen, bad):  # it was not proven in time, but all else is down
        return bad
    loadable = [b for b in candidates if not _is_refused(d, b)]
    return next(iter(loadable or candidates), None)


def _is_refused(d: Draft, backend: Backend) -> bool:
    """No pod of the base takes the version."""
    pods = usable_pods(d.seen)
    return backend.kind is BackendKind.ADAPTER and bool(pods) and all(refuses(p, backend.id) for p in pods)


def _is_rejected(d: Draft, backend: Backend) -> bool:
    return backend.kind is BackendKind.ARTIFACT and d.backend_rejection(backend.id) is not None


def _roll_back(d: Draft) -> None:
    target, bad = d.rollout.target, d.rollout.origin
    if target is None:
        d.rest()
    elif route_is_proven(d, target):
        if not d.is_late and (d.rollout.canary is not None or not clients_have_left(d, bad, target)):
            return
        left = d.served
        _arrive(d, target, Reason.ROLLED_BACK)
        if bad is not None and bad not in (target, left):
            drain_for_delay(d, bad)
        d.rest()
    elif d.is_late and not can_answer(d.seen, target):
        _go_another_way_back(d, target, bad)
    else:
        for backend in (target, bad):
            if backend is not None and _has_to_be_up(d, backend, target):
                ensure_merged(d, backend.id, d.seen.root_for(backend))
        point_route_at(d, target)
        _wake_at_deadline(d)


def _has_to_be_up(d: Draft, backend: Backend, target: Backend) -> bool:
    """The way back; and what serves, until that answers: nobody knows whether it ever will."""
    if backend.kind is not BackendKind.ARTIFACT or d.seen.base is None:
        return False
    return backend == target or (backend == d.served and not can_answer(d.seen, target))


def _go_another_way_back(d: Draft, target: Backend, bad: Backend | None) -> None:
    """The target did not answer in time."""
    if bad is not None and _has_come_back(d, bad):
        d.readmit_backend(bad.id, Reason.BACKEND_UNAVAILABLE)
        d.rest()
        return
    again = way_back(d, bad or target) or target
    pinned = pinned_revision(d)
    if pinned is not None and pinned.backend not in (bad, target) and not _is_rejected(d, pinned.backend):
        again = again if can_answer(d.seen, again) else pinned.backend
    d.begin(Step.ROLLING_BACK, ROLLBACK_DEADLINE, reason=d.rollout.reason, target=again, origin=bad)


def _has_come_back(d: Draft, bad: Backend) -> bool:
    """What was left because it did not answer does so again, or the user has asked for another try of it."""
    excused = d.rollout.reason == Reason.BACKEND_UNAVAILABLE or d.backend_rejection(bad.id) is None
    return excused and bad == d.served and can_answer(d.seen, bad)


def _shift(d: Draft) -> None:
    """A canary: what serves goes on serving, and the candidate gets its weight beside it (shifting.py)."""
    target, decision = d.rollout.target, look_at_canary(d)
    if decision is None or target is None:
        d.rest()
        return
    if decision.measuring and _sample_is_taken(d, target):
        decision = look_at_canary(d) or decision
    if decision.move is Move.ABORT:
        _give_up_on(d, target, Reason(decision.why), decision.message)
    elif decision.move is Move.DONE:
        begin_switch(d, target, Reason.PROMOTED)
    elif decision.move is Move.NEXT:
        begin_next_step(d)
    else:
        _go_on_shifting(d, decision)


def _go_on_shifting(d: Draft, decision: Decision) -> None:
    memory = d.rollout.canary
    if memory is not None:
        d.update_rollout(
            canary=memory.model_copy(update={"since": decision.since}),
            progress=decision.message,
            paused=decision.paused,
        )
    if d.served is not None:
        point_route_at(d, d.served)
    if decision.look_at is not None:
        d.wake_at(decision.look_at)


def _sample_is_taken(d: Draft, target: Backend) -> bool:
    observe, merged = d.seen.release.spec.rollout.observe, d.seen.merged_for(target.id)
    due = _next_sample_at(d, observe)
    d.wake_at(max(due, d.now))
    if merged is None or d.now < due:
        return False
    _record(d, observe, merged.counters)
    return True


def _observe(d: Draft) -> None:
    target = d.rollout.target
    merged = d.seen.merged_for(target.id) if target else None
    if target is None or d.served != target:
        d.rest()
    elif merged is None or not can_answer(d.seen, target):
        _give_up_on(d, target, Reason.BACKEND_UNAVAILABLE, "no pod of the merged model is available")
    else:
        point_route_at(d, target)
        _take_sample(d, target, merged)


def _take_sample(d: Draft, target: Backend, merged: MergedFacts) -> None:
    observe = d.seen.release.spec.rollout.observe
    due = _next_sample_at(d, observe)
    if d.now >= due:
        _record(d, observe, merged.counters)
    if d.rollout.failures > observe.failure_limit:
        _give_up_on(d, target, Reason.CHECKS_FAILED, d.rollout.samples[-1].message)
    elif d.is_late:
        _end_observation(d, target, observe)
    else:
        d.wake_at(_next_sample_at(d, observe))
        _wake_at_deadline(d)


def _next_sample_at(d: Draft, observe: Observe) -> datetime:
    if d.rollout.counters is None and not d.rollout.samples:
        return d.now  # the first reading is what the others are compared with
    last = d.rollout.samples[-1].at if d.rollout.samples else d.rollout.started_at or d.now
    return last + parse_duration(observe.interval)


def _record(d: Draft, observe: Observe, counters: Counters | None) -> None:
    last = d.rollout.counters
    if counters is None:
        _add_sample(d, Sample(at=d.now, verdict="NoData", message="the pods' metrics could not be read"))
        return
    if last is None:
        d.update_rollout(counters=counters)
        return
    latency = d.status.artifact.adapter_latency_seconds if d.status.artifact else ""
    reading = read_sample(observe, latency, last, counters)
    _add_sample(d, _sample_of(d, reading))
    d.update_rollout(
        counters=counters,
        failures=d.rollout.failures + bool(reading.failure),
        measured=d.rollout.measured + reading.has_data,
    )


def _sample_of(d: Draft, reading: Reading) -> Sample:
    verdict = "Fail" if reading.failure else "Pass" if reading.has_data else "NoData"
    return Sample(
        at=d.now,
        verdict=verdict,
        requests=reading.requests,
        error_rate="" if reading.error_rate is None else str(reading.error_rate),
        latency_seconds="" if reading.latency_seconds is None else str(reading.latency_seconds),
        message=reading.failure,
    )


def _add_sample(d: Draft, sample: Sample) -> None:
    d.update_rollout(samples=[*d.rollout.samples, sample][-SAMPLES_KEPT:])


def _end_observation(d: Draft, target: Backend, observe: Observe) -> None:
    if d.rollout.measured == 0 and observe.on_missing_data is NoDataOutcome.ROLL_BACK:
        _give_up_on(d, target, Reason.NO_DATA, "the observation ended without data, and onMissingData is RollBack")
    else:
        d.note_good_observation()
        d.rest()


def _note_absence(d: Draft) -> None:
    """Write down since when an artifact that serves does not answer, and forget it when it does.

    No condition says that: Available is False with the first of two replicas that is lost, and True for none at all;
    and a pod that takes the place of a dead one begins anew.
    """
    serving = d.status.serving
    if serving is None or serving.backend.kind is BackendKind.ADAPTER:
        return
    since = None if can_answer(d.seen, serving.backend) else serving.unavailable_since or d.now
    if since != serving.unavailable_since:
        d.update(serving=serving.model_copy(update={"unavailable_since": since}))


def _watch_what_serves(d: Draft) -> None:
    """Outside of a switch: keep the route where it should be, and go back when an artifact stays away."""
    served = d.served
    if served is None:
        return
    if can_answer(d.seen, served):
        point_route_at(d, served)
        return
    if served.kind is BackendKind.ADAPTER:
        return
    nowhere = not usable_pods(d.seen) or way_back(d, served) is None  # a base at zero; an adapter that is only merged
    if nowhere:
        if d.seen.base is not None:
            ensure_merged(d, served.id, d.seen.root_for(served))
        return
    merged = d.seen.merged_for(served.id)
    if merged is None:
        _give_up_on(d, served, Reason.BACKEND_UNAVAILABLE, "the Deployment of the merged model is gone")
        return
    since = d.status.serving.unavailable_since if d.status.serving else None
    ends = (since or d.now) + UNAVAILABLE_GRACE
    if d.now < ends:
        d.wake_at(ends)
        return
    message = "no pod of the merged model has been available for 30 s"
    trouble = merged.trouble
    _give_up_on(d, served, Reason.BACKEND_UNAVAILABLE, f"{message}: {trouble}" if trouble else message)


def _wake_at_deadline(d: Draft) -> None:
    if d.rollout.deadline is not None:
        d.wake_at(d.rollout.deadline)
