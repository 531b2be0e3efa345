"""What the controller does to the world, with the guards of reconcile/act.py, and the invariants at each action.

`Broken` is raised where an invariant of the design does not hold; its number is in the message. An action that was
planned from an old view of the release is stale: what takes something away is fenced by act.py, so it does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from controller.api.reasons import Reason
from controller.api.status import AdapterReleaseStatus, Backend, BackendKind, Rejected, Step
from controller.api.types import parse_duration
from controller.api.v1alpha1 import RETRY_ANNOTATION
from controller.domain import actions as act
from controller.domain.capacity import who_needs_base
from controller.domain.inputs import build_attempt, build_inputs, spec_inputs, validate_inputs
from controller.domain.snapshot import JobFacts, JobState, LoadFailure, PodFacts, Snapshot, artifact_label, hex_of
from tests.domain.world import ARTIFACT, ROUTE, ROUTED, BasePod, Broken, Job, Merged, World

UNROUTE_DELAY = timedelta(seconds=5)
DRAIN_LIMIT = timedelta(minutes=10)


def do(world: World, action: act.Action, seen: Snapshot) -> None:
    """Carry out one action and look whether it cost clients their answers."""
    before = world.answering()
    _can_be_served(world, action)
    # After a replacement on the only pod the route follows with the next action.
    right = _takes_a_lying_label_off(action, seen) or isinstance(action, act.ReplaceAdapter)
    right = right or _knows_another_port(world, action, seen)
    excused = world.deleted_at is not None or right
    _DEEDS[type(action)](world, action, seen)
    if before and not world.answering() and world.served is not None and not excused:
        raise Broken(f"1/4: {type(action).__name__} left the route without an answer: {action.why}")


def _can_be_served(world: World, action: act.Action) -> None:
    digest = getattr(action, "digest", None)
    if isinstance(action, act.SwitchRoute) and action.backend.kind is BackendKind.ADAPTER:
        digest = action.backend.id
    if digest in world.merge_only:
        raise Broken(f"1: {type(action).__name__} of an adapter that vLLM cannot serve")


def stale(world: World, seen: Snapshot) -> bool:
    return seen.release.metadata.resource_version != str(world.revision)


def write_status(world: World, status: AdapterReleaseStatus, seen: Snapshot) -> bool:
    """False: somebody else has written since."""
    if stale(world, seen):
        return False
    if status != world.status:
        if AdapterReleaseStatus.model_validate(status.to_wire()) != status:
            raise Broken("8: the memory is not what is read back after a restart")
        _check_memory(world, world.status, status)
        world.status = status
        world.revision += 1
    return True


def _check_memory(world: World, old: AdapterReleaseStatus, new: AdapterReleaseStatus) -> None:
    if new.rollout.step is not Step.IDLE and new.rollout.deadline is None:
        raise Broken(f"6: step {new.rollout.step} has no deadline")
    for rejected in new.rollout.rejected:
        if rejected not in old.rollout.rejected:
            _check_cause(world, old, rejected)
    if old.serving is not None and new.serving is None:
        raise Broken("1: what serves was forgotten")
    if new.serving is not None and (old.serving is None or new.serving.revision != old.serving.revision):
        if not world.was_proven(new.serving.backend):
            raise Broken(f"1: {new.serving.backend} is said to serve, but never answered")
        if world.answers_wrong or not _endpoints_are_of(world, new.serving.backend):
            raise Broken("1: the switch was believed, although the route did not answer rightly")
        if _old_version_answers(world, new.serving.backend):
            raise Broken("1: the switch was reported while a pod in the route still gave another version")
    key = spec_inputs(world.release())
    _check_rejections(world, old, new, key)
    _readmit(world, old, new, key)
    world.spec_rejections |= {(r.id, key) for r in new.rollout.rejected if r.id and r.inputs == key}


def _endpoints_are_of(world: World, backend: Backend) -> bool:
    """Those that lag behind may have become right meanwhile: their pods were updated."""
    if world.slow_endpoints is None:
        return True
    return set(world.endpoints()) <= set(world.routed_pods(world.snapshot().selector_for(backend)))


def _old_version_answers(world: World, backend: Backend) -> bool:
    """Somebody who asks after the switch was reported may still get another version."""
    if backend.kind is BackendKind.ARTIFACT or world.slow_endpoints is not None:
        return False
    routed = [world.pods[name] for name in world.routed_pods() if name in world.pods]
    return any((world.root(p) or "").rpartition("/")[2] != hex_of(backend.id) for p in routed if not p.mute)


def _check_rejections(world: World, old: AdapterReleaseStatus, new: AdapterReleaseStatus, key: str) -> None:
    """What the route was taken from by itself is remembered; what is remembered is not tried again."""
    before, rollout = old.rollout, new.rollout
    if rollout.step is Step.ROLLING_BACK and before.step is not Step.ROLLING_BACK and rollout.origin is not None:
        remembered = any(r.id == rollout.origin.id and r.inputs == key for r in rollout.rejected)
        if rollout.origin.kind is BackendKind.ARTIFACT and not remembered:
            raise Broken("5: the release rolls back, and does not remember from what")
    target, origin = rollout.target, rollout.origin
    if rollout.step is not Step.SWITCHING or before.step is Step.SWITCHING or target is None or origin is None:
        return
    if target.kind is origin.kind is BackendKind.ADAPTER and (target.id, key) in world.spec_rejections:
        raise Broken("5: an update that was given up is tried again")


def _readmit(world: World, old: AdapterReleaseStatus, new: AdapterReleaseStatus, key: str) -> None:
    """What serves may come back before anything else answers: then it is not rejected any more."""
    before, after = old.rollout, new.rollout
    if before.step is not Step.ROLLING_BACK or after.step is not Step.IDLE or old.serving != new.serving:
        return
    served = new.serving.backend if new.serving else None
    gone = [r for r in before.rejected if served and (r.id, r.inputs) == (served.id, key) and r not in after.rejected]
    if any(r.reason != Reason.BACKEND_UNAVAILABLE for r in gone):
        raise Broken("5: a rejection was forgotten by itself")
    if gone and all((r.id, r.inputs) != (gone[0].id, key) for r in after.rejected):
        world.spec_rejections.discard((gone[0].id, key))


_LIMITS = {
    Step.IMPORTING: timedelta(minutes=15),
    Step.BUILDING: timedelta(hours=2),
    Step.STARTING: timedelta(minutes=15),
    Step.VALIDATING: timedelta(minutes=30),
}


def _check_cause(world: World, old: AdapterReleaseStatus, rejected: Rejected) -> None:
    """What is given up failed, or had all the time that it was promised."""
    if rejected.reason == Reason.API_KEY_IN_PLAIN_TEXT and world.base is not None and world.base.api_key_is_plain:
        return
    limit = _LIMITS.get(rejected.step)
    began = old.rollout.started_at
    late = limit is not None and began is not None and world.now >= began + limit
    if rejected.step in (Step.IMPORTING, Step.BUILDING) and not late:
        kind = act.JobKind.IMPORT if rejected.step is Step.IMPORTING else act.JobKind.BUILD
        job = world.jobs.get((kind, rejected.inputs))
        if job is None or job.facts.state is JobState.ACTIVE or (job.facts.result and not job.facts.failure):
            raise Broken(f"6: {rejected.reason} before its time, and without a failure")
    if rejected.reason == Reason.CANDIDATE_NOT_READY and not late:
        raise Broken("6: a candidate was given up before its deadline")


def _seen_pod(seen: Snapshot, name: str) -> PodFacts | None:
    return next((p for p in seen.base_pods if p.name == name), None)


def _takes_a_lying_label_off(action: act.Action, seen: Snapshot) -> bool:
    """It was right to do by what was seen; the pod may have changed since."""
    if not isinstance(action, act.RemoveLabel):
        return False
    pod = _seen_pod(seen, action.pod)
    if pod is None or not pod.usable or pod.adapters is None:
        return True
    held = (pod.adapters.get(ROUTE) or "").rpartition("/")[2]
    rollout, served = seen.release.status.rollout, seen.release.status.serving
    known = [served.backend if served else None, rollout.target, rollout.origin]
    if seen.in_place:
        return held not in {hex_of(b.id) for b in known if b is not None}
    return held[:8] != pod.loaded_label


def _knows_another_port(world: World, action: act.Action, seen: Snapshot) -> bool:
    """The base was changed since it was seen; the next look puts that right."""
    adapters = isinstance(action, act.SwitchRoute) and action.backend.kind is BackendKind.ADAPTER
    return adapters and seen.base is not None and world.base is not None and seen.base.port != world.base.port


def _answering_pod(world: World, name: str) -> BasePod | None:
    pod = world.pods.get(name)
    return pod if pod is not None and pod.up and not pod.mute else None


# -- jobs


def _ensure_job(world: World, action: act.EnsureJob, seen: Snapshot) -> None:
    key = (action.kind, action.inputs)
    if key in world.jobs:
        return
    status = seen.release.status
    if action.kind is act.JobKind.VALIDATE:
        if stale(world, seen):
            return
        _lead_preview_to(world, status.artifact.id if status.artifact else "")
    if action.kind is act.JobKind.BUILD and status.artifact and status.artifact.inputs == _build_inputs(seen):
        raise Broken("8: what is built is built again")
    if action.kind is act.JobKind.BUILD and status.adapter is not None:
        build, retry = seen.release.spec.build, seen.release.metadata.annotations.get(RETRY_ANNOTATION, "")
        made_of = f"{status.adapter.digest} {build!r} {retry}"
        if world.builds.setdefault(made_of, action.inputs) != action.inputs:
            raise Broken("8: the same is built again under another name")
    compared = status.artifact.adapter_digest if status.artifact else None
    needed = compared not in world.merge_only
    if action.kind is act.JobKind.VALIDATE and needed and compared not in world.proven_adapters:
        raise Broken("2: an artifact is to be compared with an adapter that never answered")
    world.started[key] = world.started.get(key, 0) + 1
    name = f"{action.kind}-{action.inputs[:8]}"
    made_of = _build_inputs(seen) if action.kind is act.JobKind.BUILD else None
    facts = JobFacts(action.kind, name, action.inputs, JobState.ACTIVE, made_of=made_of or "")
    world.jobs[key] = Job(action.kind, action.inputs, _about(action, seen), facts)


def _end_job(world: World, action: act.EndJob, seen: Snapshot) -> None:
    ended = [k for k, j in world.jobs.items() if j.facts.name == action.job and j.facts.state is JobState.ACTIVE]
    for key in ended:
        if stale(world, seen):
            return
        if key[1] in _awaited(world):
            raise Broken(f"8: job {action.job} is ended, and its result is awaited")
        del world.jobs[key], world.started[key]


def _awaited(world: World) -> set[str]:
    """Inputs of the jobs that the world's release needs next."""
    release, base, status = world.release(), world.base, world.status
    spec = release.spec
    if spec.stage == "Experimental" or spec.rollback is not None or base is None or status.adapter is None:
        return set()
    validated = {validate_inputs(release, status.artifact)} if status.artifact else set()
    return {build_attempt(release, base, status.adapter.digest), *validated}


def _build_inputs(seen: Snapshot) -> str | None:
    adapter = seen.release.status.adapter
    return build_inputs(seen.release, seen.base, adapter.digest) if seen.base and adapter else None


def _about(action: act.EnsureJob, seen: Snapshot) -> str:
    status = seen.release.status
    if action.kind is act.JobKind.IMPORT:
        return seen.release.spec.adapters[0].version
    if action.kind is act.JobKind.BUILD and status.adapter is not None and seen.base is not None:
        if build_attempt(seen.release, seen.base, status.adapter.digest) != action.inputs:
            raise Broken("8: a build for other inputs than the status says")
        return status.adapter.digest
    return status.artifact.id if status.artifact else ""


# -- adapters on pods


def _load(world: World, pod: BasePod, name: str, digest: str, path: str) -> None:
    if hex_of(digest) not in path:
        raise Broken("7: a version is loaded from a path that is not its own")
    if name in pod.adapters:
        return  # act: it is there already, or the name is somebody else's
    if len(pod.adapters) >= world.slots:
        return  # act asks again under a lock; the plan's own fault is found in _load_adapter
    if hex_of(digest) in pod.refuses:
        pod.failure = LoadFailure(digest, "no", True, world.now)
        return
    pod.adapters[name] = path
    _forget_failure(pod, digest)


def _flip_alias(world: World, action: act.FlipAlias, seen: Snapshot) -> None:
    pod = _answering_pod(world, action.pod)
    if pod is None or stale(world, seen):
        return
    if not pod.plugin:
        return  # it was made anew without the plugin since
    if pod.adapters.get(action.engine_name) != action.path:
        return  # the plugin: 409
    if pod.routed and ROUTED in (world.selector or {}) and not _is_decided(seen, action.digest):
        raise Broken("1: clients get a version that was not decided on")
    pod.alias = action.engine_name
    if pod.loses_writes:
        return
    pod.remembered = (action.engine_name, action.path)
    if pod.label is not None:
        _label(world, pod, action.label, action.digest)


def _is_decided(seen: Snapshot, digest: str) -> bool:
    rollout, served = seen.release.status.rollout, seen.release.status.serving
    known = [rollout.target if rollout.step in (Step.SWITCHING, Step.ROLLING_BACK) else None]
    return digest in {b.id for b in [*known, served.backend if served else None] if b is not None}


def _clear_alias(world: World, action: act.ClearAlias, seen: Snapshot) -> None:
    pod = _answering_pod(world, action.pod)
    if pod is None or stale(world, seen) or pod.label is not None or pod.routed:
        return  # act's guards
    known = _seen_pod(seen, action.pod)
    if known is not None and _left_just_now(known.unrouted_at, world):
        raise Broken("4: the alias was taken away before the delay was over")
    if _left_just_now(pod.unrouted_at, world):
        return
    pod.alias, pod.remembered, pod.told_away_at = None, None, None


def _tell_routed(world: World, action: act.TellRouted, seen: Snapshot) -> None:
    server = _hearing(world).get(action.pod)
    if server is None or (not action.routed and server.told_away_at is not None):
        return
    server.told_away_at = None if action.routed else world.now


def _hearing(world: World) -> dict[str, BasePod | Merged]:
    """Servers that can be told something, by their pods' names."""
    merged = {f"merged-{m.uid}": m for m in world.merged.values() if m.available}
    return {**{p.name: p for p in world.pods.values() if not p.mute}, **merged}


def _nothing(world: World, action: act.Action, seen: Snapshot) -> None:
    """It costs nobody an answer."""


def _slot_was_free(action: act.LoadAdapter | act.StageAdapter, seen: Snapshot) -> None:
    pod = _seen_pod(seen, action.pod)
    held = len(pod.adapters or {}) if pod else 0
    if seen.base is not None and held >= seen.base.max_cpu_loras:
        raise Broken(f"a load on {action.pod} would evict another adapter")


def _load_adapter(world: World, action: act.LoadAdapter | act.StageAdapter, seen: Snapshot) -> None:
    _slot_was_free(action, seen)
    if pod := _answering_pod(world, action.pod):
        _load(world, pod, action.engine_name, action.digest, action.path)


def _replace_adapter(world: World, action: act.ReplaceAdapter, seen: Snapshot) -> None:
    pod = _answering_pod(world, action.pod)
    if pod is None or stale(world, seen) or pod.adapters.get(action.staging_name) != action.path:
        return
    if len([p for p in seen.base_pods if p.usable]) > 1:
        raise Broken("1: the version on a pod was replaced in place although there are others")
    if pod.failure is not None and pod.failure.digest == action.digest and pod.failure.permanent:
        raise Broken("5: a replacement that failed, and left a gap, is tried again by itself")
    if pod.replacing_fails or hex_of(action.digest) in pod.refuses:
        pod.failure = LoadFailure(action.digest, "no", True, world.now)
        return  # the old version is put back
    pod.adapters[action.engine_name] = action.path
    del pod.adapters[action.staging_name]
    _label(world, pod, action.label, action.digest)


def _probe_and_label(world: World, action: act.ProbeAndLabel, seen: Snapshot) -> None:
    pod = _answering_pod(world, action.pod)
    if pod is not None and pod.listed.get(action.engine_name) == action.path:
        _label(world, pod, action.label, action.digest)


def _label(world: World, pod: BasePod, label: str, digest: str) -> None:
    pod.label, pod.routed, pod.unrouted_at = label, True, None
    _forget_failure(pod, digest)
    world.proven_adapters.add(digest)


def _forget_failure(pod: BasePod, digest: str) -> None:
    if pod.failure is not None and pod.failure.digest == digest:
        pod.failure = None


def _remove_label(world: World, action: act.RemoveLabel, seen: Snapshot) -> None:
    pod = world.pods.get(action.pod)
    if pod is not None and (pod.label is not None or pod.routed) and not stale(world, seen):
        pod.label, pod.routed, pod.unrouted_at = None, False, world.now


def _left_just_now(unrouted_at: datetime | None, world: World) -> bool:
    return unrouted_at is not None and world.now - unrouted_at < UNROUTE_DELAY


def _unload_adapter(world: World, action: act.UnloadAdapter, seen: Snapshot) -> None:
    pod = _answering_pod(world, action.pod)
    if pod is None or stale(world, seen):
        return
    if action.engine_name == ROUTE:
        if world.rivals:
            raise Broken("1: another release's adapter was unloaded")
        if pod.label is not None:
            return  # act's guard
        known = _seen_pod(seen, action.pod)
        if known is not None and _left_just_now(known.unrouted_at, world):
            raise Broken("4: unloaded before the delay was over")
        if _left_just_now(pod.unrouted_at, world):
            return  # act's guard: somebody else took it out since
    elif not action.engine_name.startswith(f"{ROUTE}@"):
        raise Broken(f"{action.engine_name} is not ours to unload")
    elif action.engine_name == pod.alias:
        return  # the plugin does not let go what clients get
    elif action.engine_name in pod.running and (known := _seen_pod(seen, action.pod)):
        _has_had_its_time(world, action.engine_name, known)
    pod.adapters.pop(action.engine_name, None)


def _has_had_its_time(world: World, engine_name: str, known: PodFacts) -> None:
    draining = [x for x in world.status.rollout.draining if f"{ROUTE}@{hex_of(x.backend.id)[:12]}" == engine_name]
    seen_running = known.plugin is not None and known.plugin.in_flight.get(engine_name)
    rollout = world.status.rollout
    origin = rollout.origin.id if rollout.step is Step.SWITCHING and rollout.origin is not None else ""
    if seen_running and origin and engine_name == f"{ROUTE}@{hex_of(origin)[:12]}":
        raise Broken("4: the version that serves was unloaded before the switch was proven")
    if seen_running and any(world.now < x.until + DRAIN_LIMIT for x in draining):
        raise Broken("4: a version was unloaded while requests ran on it")


# -- Deployments and the route


def _ensure_merged(world: World, action: act.EnsureMerged, seen: Snapshot) -> None:
    canary = seen.release.status.rollout.canary
    if canary is None or canary.artifact == action.artifact_id:
        if stale(world, seen):
            return
        _lead_preview_to(world, action.artifact_id)
    if action.artifact_id in world.merged or seen.base is None:
        return
    if (action.artifact_id, spec_inputs(seen.release)) in world.spec_rejections and not stale(world, seen):
        served = world.served is not None and world.served.id == action.artifact_id
        if not served:
            raise Broken("5: a rejected artifact is tried again")
    world.counter += 1
    world.merged[action.artifact_id] = Merged(action.artifact_id, f"m{world.counter}", port=seen.base.port)
    world.merged[action.artifact_id].plugin = seen.base.has_plugin  # (in truth always; here both are tried)


def _point_preview(world: World, action: act.PointPreview, seen: Snapshot) -> None:
    if not stale(world, seen):
        _lead_preview_to(world, action.artifact_id)


def _lead_preview_to(world: World, artifact_id: str) -> None:
    before = world.merged.get(world.preview or "")
    if world.weight and world.preview != artifact_id and before is not None and before.available:
        raise Broken("2: NAME-preview was pointed elsewhere while an HTTPRoute sends requests there")
    world.preview = artifact_id


def _scale_base(world: World, action: act.ScaleBase, seen: Snapshot) -> None:
    if world.base is None or world.base.replicas != action.seen:
        return  # act: somebody was quicker
    if action.replicas == 0:
        if stale(world, seen) or who_needs_base([world.release()], world.base_services(), world.now):
            return  # act's guards
        if any(p.running for p in world.pods.values() if not p.mute):
            _has_drained(world)
        world.base_had = action.seen
    elif world.base_had not in (None, action.replicas):
        raise Broken("8: the base gets another number of replicas than it had")
    else:
        world.base_had = None
    world.scale_base(action.replicas)


def _has_drained(world: World) -> None:
    draining = [x for x in world.status.rollout.draining if x.backend.kind is BackendKind.ADAPTER]
    if any(world.now < x.until + DRAIN_LIMIT for x in draining):
        raise Broken("4: the base was scaled to zero while requests ran on it")


def _delete_merged(world: World, action: act.DeleteMerged, seen: Snapshot) -> None:
    merged = world.merged.get(action.artifact_id)
    if merged is None or merged.uid != action.uid or stale(world, seen):
        return
    if (world.selector or {}).get(ARTIFACT) == artifact_label(action.artifact_id):
        raise Broken("4: the routed Deployment was deleted")
    canary = world.status.rollout.canary
    if world.weight and canary is not None and canary.artifact == action.artifact_id:
        raise Broken("4: a Deployment was deleted while an HTTPRoute sends requests to it")
    left = world.left_route_at.get(action.artifact_id)
    if left is not None and world.now - left < parse_duration(world.release().spec.rollout.scale_down_delay):
        raise Broken("4: a Deployment was deleted before scaleDownDelay was over")
    running = any(p.plugin and p.plugin.in_flight for m in seen.merged if m.uid == merged.uid for p in m.pods)
    if running and left is not None and world.now - left < DRAIN_LIMIT:
        raise Broken("4: a Deployment was deleted while requests ran on it")
    del world.merged[action.artifact_id]


def _switch_route(world: World, action: act.SwitchRoute, seen: Snapshot) -> None:
    for name in action.leaving:
        _tell_routed(world, act.TellRouted(action.why, name, False), seen)
    backend, selector = action.backend, seen.selector_for(action.backend)
    port_is_known = seen.base is not None or seen.merged_for(backend.id) is not None
    if stale(world, seen) or not port_is_known or ROUTE in world.services_taken:
        return
    if backend.kind is BackendKind.ARTIFACT:
        _artifact_may_have_traffic(world, backend.id)
    if not _was_up(seen, action):
        raise Broken("1: the route was pointed at a backend that was seen to be down")
    if not world.routed_pods(selector):
        return  # act's guard: it has gone down since
    if backend.kind is BackendKind.ADAPTER and backend.id not in world.proven_adapters:
        raise Broken("1: the route points at an adapter that never answered")
    if world.selector and (old := world.selector.get(ARTIFACT)) and world.selector != selector:
        for artifact_id in world.merged:
            if artifact_label(artifact_id) == old:
                world.left_route_at[artifact_id] = world.now
    if backend.kind is BackendKind.ARTIFACT:
        world.left_route_at.pop(backend.id, None)
    _who_loses_the_route_was_told(world, selector, seen)
    if world.endpoints_lag:
        world.slow_endpoints = world.endpoints()
    world.selector, world.target_port = selector, seen.port_for(backend)


def _who_loses_the_route_was_told(world: World, selector: dict[str, str], seen: Snapshot) -> None:
    """By then: who moves the route may be killed the next moment."""
    if seen.route is None or dict(seen.route.selector) != world.selector:
        return  # heard late: a later pass tells
    servers = _hearing(world)
    pods = (*seen.base_pods, *(p for m in seen.merged for p in m.pods))
    heard = {p.name for p in pods if p.plugin is not None and p.plugin.is_declared}
    for name in set(world.routed_pods()) - set(world.routed_pods(selector)):
        if name in heard and name in servers and servers[name].told_away_at is None:
            raise Broken(f"2: the route was taken from {name} before its clients were asked to connect anew")


def _set_weight(world: World, action: act.SetWeight, seen: Snapshot) -> None:
    if stale(world, seen) or world.http_route_is_frozen:
        return
    canary = seen.release.status.rollout.canary
    if canary is None or canary.http_route != action.http_route:
        raise Broken("canary: weights of an HTTPRoute that is not remembered: nobody would give it back")
    if action.weight > world.weight:
        _artifact_may_have_traffic(world, canary.artifact)
    if action.weight == 0 and world.weight and not _selects(world, canary.artifact):
        world.left_route_at[canary.artifact] = world.now
    world.weight = action.weight
    if not world.gateway_is_late:
        world.accepted = action.weight


def _selects(world: World, artifact_id: str) -> bool:
    return (world.selector or {}).get(ARTIFACT) == artifact_label(artifact_id)


def _artifact_may_have_traffic(world: World, artifact_id: str) -> None:
    if artifact_id not in world.passed:
        raise Broken("2/3: traffic to an artifact without a Pass verdict")
    rejected = (artifact_id, spec_inputs(world.release())) in world.spec_rejections
    already = world.served is not None and world.served.id == artifact_id
    if rejected and not already:
        raise Broken("5: traffic to a rejected artifact")


def _was_up(seen: Snapshot, action: act.SwitchRoute) -> bool:
    backend = action.backend
    if backend.kind is BackendKind.ARTIFACT:
        return any(m.available for m in seen.merged if m.artifact_id == backend.id)
    staged = f"{ROUTE}@{hex_of(backend.id)[:12]}"
    return any(
        p.usable and (p.loaded_label == hex_of(backend.id)[:8] or staged in (p.adapters or {})) for p in seen.base_pods
    )


def _add_finalizer(world: World, action: act.AddFinalizer, seen: Snapshot) -> None:
    world.finalizer = True


def _remove_finalizer(world: World, action: act.RemoveFinalizer, seen: Snapshot) -> None:
    world.finalizer = False


_DEEDS: dict[type[act.Action], Callable[[World, Any, Snapshot], None]] = {
    act.AddFinalizer: _add_finalizer,
    act.RemoveFinalizer: _remove_finalizer,
    act.EnsureJob: _ensure_job,
    act.EndJob: _end_job,
    act.LoadAdapter: _load_adapter,
    act.StageAdapter: _load_adapter,
    act.ReplaceAdapter: _replace_adapter,
    act.FlipAlias: _flip_alias,
    act.ClearAlias: _clear_alias,
    act.TellRouted: _tell_routed,
    act.EnsurePluginObjects: _nothing,
    act.ProbeAndLabel: _probe_and_label,
    act.RemoveLabel: _remove_label,
    act.UnloadAdapter: _unload_adapter,
    act.EnsureMerged: _ensure_merged,
    act.DeleteMerged: _delete_merged,
    act.SwitchRoute: _switch_route,
    act.PointPreview: _point_preview,
    act.SetWeight: _set_weight,
    act.ScaleBase: _scale_base,
}
