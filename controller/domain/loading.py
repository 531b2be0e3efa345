"""The adapter on the base's pods: which pod loads, is labelled, is taken out, unloads.

A pod is in the route only while it carries the loaded label with the right digest; the label is set after a probe
and taken off as soon as it could lie (KubeAI: a label went on claiming an adapter after the container restarted).
"""

from __future__ import annotations

from datetime import timedelta

from controller.api.status import BackendKind, PodState, Step
from controller.domain.actions import (
    ClearAlias,
    FlipAlias,
    LoadAdapter,
    ProbeAndLabel,
    RemoveLabel,
    ReplaceAdapter,
    StageAdapter,
    SwitchRoute,
    UnloadAdapter,
)
from controller.domain.backends import (
    adapter_backend,
    holds,
    is_proven,
    is_staged,
    name_is_taken,
    protected_digests,
    quota,
    refuses,
    usable_pods,
    wanted_digest,
)
from controller.domain.draft import Draft
from controller.domain.draining import still_runs
from controller.domain.snapshot import SHORT, PodFacts, hex_of

# A pod that left the route may still get requests until every node knows.
UNROUTE_DELAY = timedelta(seconds=5)
# A load that failed for a passing reason is tried again after this.
LOAD_RETRY = timedelta(seconds=30)


def keep_loaded(d: Draft) -> None:
    """Bring every base pod to the version that it should hold, a step a pod at a time."""
    if d.seen.base is None or d.seen.base.problems or name_is_taken(d.seen):
        _take_lying_labels_off(d)
        return
    wanted = wanted_digest(d)
    states = []
    for pod in d.seen.base_pods:
        if _label_lies(d, pod):
            d.do(RemoveLabel(f"pod {pod.name} does not hold what its label says", pod.name))
        elif not pod.usable:
            pass
        elif d.seen.in_place:
            advance_in_place(d, pod, wanted)
        elif pod.adapters is not None:
            _advance_pod(d, pod, _digest_for(d, pod, wanted))
        states.append(_state_of(d, pod, wanted))
    if d.status.adapter is not None and not d.status.adapter.merge_only:
        d.update(adapter=d.status.adapter.model_copy(update={"pods": states}))


def _take_lying_labels_off(d: Draft) -> None:
    for pod in d.seen.base_pods:
        if _label_lies(d, pod):
            d.do(RemoveLabel(f"pod {pod.name} does not hold what its label says", pod.name))


def _label_lies(d: Draft, pod: PodFacts) -> bool:
    if not is_labelled(pod) or pod.deleting:
        return False
    if not pod.ready:
        return True
    if pod.adapters is None:  # it could not be asked: our trouble, not its
        return False
    held = d.seen.held_digest(pod) or ""
    if d.seen.in_place and held in _with_clients(d):
        return False  # an update writes the label after the flip
    return held[:SHORT] != pod.loaded_label


def is_labelled(pod: PodFacts) -> bool:
    return pod.loaded_label is not None or pod.routed_label


def _with_clients(d: Draft) -> set[str]:
    """Hex of the versions that the route may reach just now."""
    backends = [d.served]
    if d.step in (Step.SWITCHING, Step.ROLLING_BACK):
        backends += [d.rollout.target, d.rollout.origin]
    return {hex_of(b.id) for b in backends if b is not None and b.kind is BackendKind.ADAPTER}


# -- with the engine plugin: both versions in each server, and one flip


def advance_in_place(d: Draft, pod: PodFacts, wanted: str | None) -> None:
    """The version for clients under the model name, the wanted one beside it until the switch."""
    front = _front(d, wanted)
    held = d.seen.held_digest(pod)
    if pod.adapters is None or held == "":  # mute, or the name is somebody else's
        _give_way(d, pod, front)
        return
    _drop_others(d, pod, front, wanted)
    if front is None:
        if held is not None:
            _take_out(d, pod)
        return
    if held == hex_of(front):
        _serve_from(d, pod, front)
    elif is_staged(d.seen, pod, front):
        d.do(_flip(d, pod, front))
    else:
        _stage(d, pod, front)
        _give_way(d, pod, front)
    if wanted is not None and wanted != front:
        _stage(d, pod, wanted)


def _front(d: Draft, wanted: str | None) -> str | None:
    """What clients of this base get: the target of a switch that was decided, else what serves, else what comes."""
    target, served = d.rollout.target, d.served
    if d.step in (Step.SWITCHING, Step.ROLLING_BACK) and target and target.kind is BackendKind.ADAPTER:
        return target.id
    if served is not None and served.kind is BackendKind.ADAPTER and wanted is not None:
        return served.id
    return wanted


def _flip(d: Draft, pod: PodFacts, digest: str) -> FlipAlias:
    short = hex_of(digest)[:SHORT]
    why = f"clients of pod {pod.name} get {short} from now on"
    name = d.seen.engine_name(digest)
    return FlipAlias(why, pod.name, name, digest, _path(d, digest), short, d.version_of(adapter_backend(digest)))


def _stage(d: Draft, pod: PodFacts, digest: str) -> None:
    if holds(d.seen, pod, digest) or is_staged(d.seen, pod, digest) or not _may_try(d, pod, digest):
        return
    planned = sum(1 for a in d.actions if isinstance(a, StageAdapter) and a.pod == pod.name)
    if _free_slots(d, pod) - planned >= 1:
        why = f"prove {hex_of(digest)[:SHORT]} on pod {pod.name}"
        d.do(StageAdapter(why, pod.name, d.seen.engine_name(digest), digest, _path(d, digest)))


def _give_way(d: Draft, pod: PodFacts, front: str | None) -> None:
    """A pod that cannot follow to the version for clients leaves the route, once others are there."""
    if front is None or not is_labelled(pod) or is_proven(d.seen, pod, front):
        return
    if any(is_proven(d.seen, p, front) for p in usable_pods(d.seen)):
        d.do(RemoveLabel(f"pod {pod.name} does not follow to {hex_of(front)[:SHORT]}", pod.name))


def _drop_others(d: Draft, pod: PodFacts, front: str | None, wanted: str | None) -> None:
    """Versions that nobody needs give their slots back, when their last request has ended."""
    has_front = front is None or holds(d.seen, pod, front) or is_staged(d.seen, pod, front)
    keep = {d.seen.engine_name(x) for x in ((front, wanted) if has_front or _free_slots(d, pod) > 0 else (front,)) if x}
    for name in sorted(pod.adapters or {}):
        if not name.startswith(f"{d.seen.model_name}@") or name in keep:
            continue
        if still_runs(d, pod, name):
            continue
        d.do(UnloadAdapter(f"{name} on pod {pod.name} is not needed any more", pod.name, name))


def _take_out(d: Draft, pod: PodFacts) -> None:
    if is_labelled(pod):
        d.do(RemoveLabel(f"pod {pod.name} holds what nobody needs any more", pod.name))
    else:
        _unload_after_delay(d, pod)


# -- without it: pod by pod


def _digest_for(d: Draft, pod: PodFacts, wanted: str | None) -> str | None:
    """What this pod should hold: the wanted version, or the one that serves where the wanted one will not load."""
    if wanted is None or not refuses(pod, wanted):
        return wanted
    serving = [x for x in sorted(protected_digests(d)) if x != wanted]
    return serving[0] if serving else wanted


def _advance_pod(d: Draft, pod: PodFacts, digest: str | None) -> None:
    _drop_staged(d, pod, digest)
    held = d.seen.held_digest(pod)
    if digest is not None and held == hex_of(digest):
        _serve_from(d, pod, digest)
    elif held is None:
        _fill(d, pod, digest)
    elif held == "":
        return  # the name is somebody else's; conditions.py says so
    else:
        _make_room(d, pod, "sha256:" + held, digest)


def _serve_from(d: Draft, pod: PodFacts, digest: str) -> None:
    if not is_proven(d.seen, pod, digest):
        why = f"pod {pod.name} holds {hex_of(digest)[:SHORT]}: probe it and let it into the route"
        d.do(ProbeAndLabel(why, pod.name, d.seen.model_name, digest, _path(d, digest), hex_of(digest)[:SHORT]))


def _drop_staged(d: Draft, pod: PodFacts, digest: str | None) -> None:
    """Staging names give their slots back, but for the version that is still on its way."""
    on_its_way = digest is not None and not is_proven(d.seen, pod, digest)
    keep = d.seen.engine_name(digest) if digest is not None and on_its_way else None
    for name in sorted(pod.adapters or {}):
        if name.startswith(f"{d.seen.model_name}@") and name != keep:
            d.do(UnloadAdapter(f"{name} on pod {pod.name} is not needed any more", pod.name, name))


def _fill(d: Draft, pod: PodFacts, digest: str | None) -> None:
    if digest is None:
        return
    if pod.plugin is not None:
        if is_staged(d.seen, pod, digest):
            d.do(_flip(d, pod, digest))
        else:
            _stage(d, pod, digest)
        return
    if not _may_try(d, pod, digest) or _free_slots(d, pod) < 1:
        return
    why = f"load {hex_of(digest)[:SHORT]} on pod {pod.name}"
    d.do(LoadAdapter(why, pod.name, d.seen.model_name, digest, _path(d, digest)))


def _may_try(d: Draft, pod: PodFacts, digest: str) -> bool:
    failure = pod.load_failure
    if failure is None:
        return True
    if failure.digest == digest and failure.permanent:
        return False
    if failure.digest != digest and failure.digest not in protected_digests(d):
        return True
    # It failed for a passing reason, or refuses both this version and the one that serves: ask, but not all the time.
    d.wake_at(failure.at + LOAD_RETRY)
    return d.now >= failure.at + LOAD_RETRY


def _make_room(d: Draft, pod: PodFacts, held: str, digest: str | None) -> None:
    """The pod holds another version than it should."""
    if held in protected_digests(d) and digest is not None:
        _take_by_quota(d, pod, held, digest)
    elif is_labelled(pod):
        d.do(RemoveLabel(f"pod {pod.name} holds {hex_of(held)[:SHORT]}, which no longer serves", pod.name))
    else:
        _unload_after_delay(d, pod)


def _unload_after_delay(d: Draft, pod: PodFacts) -> None:
    ends = pod.unrouted_at + UNROUTE_DELAY if pod.unrouted_at else d.now
    if d.now >= ends and pod.plugin is not None:
        d.do(ClearAlias(f"pod {pod.name} has left the route", pod.name))
    elif d.now >= ends:
        d.do(UnloadAdapter(f"pod {pod.name} has left the route", pod.name, d.seen.model_name))
    else:
        d.wake_at(ends)


def _take_by_quota(d: Draft, pod: PodFacts, held: str, digest: str) -> None:
    """The version on the pod serves. Take as many pods from it as the quota allows, never the last one."""
    pods = usable_pods(d.seen)
    proven = [p for p in pods if is_proven(d.seen, p, held)]
    if pod not in proven:
        _unload_after_delay(d, pod)
        return
    if len(pods) == 1:
        _update_the_only_pod(d, pod, held, digest)
        return
    able = [p for p in pods if not refuses(p, held)]  # one that serves neither version must not stop the others
    taken = len(able) - len(proven) + sum(1 for a in d.actions if isinstance(a, RemoveLabel))
    if taken < quota(len(able)) and len(proven) > 1:
        d.do(RemoveLabel(f"take pod {pod.name} out of the route to update it", pod.name))


def _update_the_only_pod(d: Draft, pod: PodFacts, held: str, digest: str) -> None:
    staging = d.seen.engine_name(digest)
    if not is_staged(d.seen, pod, digest):
        if _may_try(d, pod, digest) and _free_slots(d, pod) >= 1:
            why = f"prove {hex_of(digest)[:SHORT]} on pod {pod.name} beside what serves"
            d.do(StageAdapter(why, pod.name, staging, digest, _path(d, digest)))
        return
    target = adapter_backend(digest)
    switching = d.step in (Step.SWITCHING, Step.ROLLING_BACK) and d.rollout.target == target
    if switching and _may_try(d, pod, digest):  # each try leaves a gap
        says = f"{hex_of(held)[:SHORT]} by {hex_of(digest)[:SHORT]}"
        d.do(
            ReplaceAdapter(
                why=f"replace {says} on the base's only pod {pod.name}",
                pod=pod.name,
                engine_name=d.seen.model_name,
                digest=digest,
                path=_path(d, digest),
                old_path=_path(d, held),
                staging_name=staging,
                label=hex_of(digest)[:SHORT],
            )
        )
        # At once: the route selects the label that the pod has just lost.
        d.do(SwitchRoute(f"the route follows: {says}", target))


def _free_slots(d: Draft, pod: PodFacts) -> int:
    """Names that the server can still take. Above --max-cpu-loras vLLM answers 200 and silently evicts another."""
    if d.seen.base is None or pod.adapters is None:
        return 0
    return d.seen.base.max_cpu_loras - len(pod.adapters)


def lacks_slot(d: Draft) -> bool:
    """Is there a pod that waits for a slot?"""
    wanted = wanted_digest(d)
    if wanted is None or d.seen.base is None:
        return False
    return any(
        not holds(d.seen, p, wanted)
        and not is_staged(d.seen, p, wanted)
        and _needs_slot(d, p)
        and _free_slots(d, p) < 1
        for p in usable_pods(d.seen)
        if p.adapters is not None
    )


def _needs_slot(d: Draft, pod: PodFacts) -> bool:
    return d.seen.in_place or d.seen.held_digest(pod) is None or len(usable_pods(d.seen)) == 1


def _path(d: Draft, digest: str) -> str:
    return d.seen.root_for(adapter_backend(digest))


def _state_of(d: Draft, pod: PodFacts, wanted: str | None) -> PodState:
    if not pod.usable:
        return PodState(name=pod.name, state="NotReady")
    if wanted is not None and is_proven(d.seen, pod, wanted):
        return PodState(name=pod.name, state="Loaded")
    if wanted is not None and pod.load_failure is not None and pod.load_failure.digest == wanted:
        return PodState(name=pod.name, state="Failed", message=pod.load_failure.message[:512])
    return PodState(name=pod.name, state="Unloaded" if wanted is None else "Loading", message=pod.ask_problem[:512])


def forget(d: Draft) -> bool:
    """The release is being deleted: out of the route, then unload. True when nothing of it is left on any pod."""
    left = False
    for pod in d.seen.base_pods:
        if pod.deleting:
            continue
        if is_labelled(pod):
            left = True
            d.do(RemoveLabel(f"the release is deleted: take pod {pod.name} out of the route", pod.name))
        elif not name_is_taken(d.seen):
            left = (_unload_all(d, pod) if pod.usable else _may_hold(pod)) or left
    return not left


def _may_hold(pod: PodFacts) -> bool:
    """A server that is not ready is not asked. It keeps what it has loaded, unless it never ran."""
    return bool(pod.container_id)


def _unload_all(d: Draft, pod: PodFacts) -> bool:
    """False: the pod has nothing of the release. Who cannot be asked may have."""
    before = len(d.actions)
    _drop_staged(d, pod, None)
    held = d.seen.held_digest(pod)
    if held:
        _unload_after_delay(d, pod)
    return bool(held) or pod.adapters is None or len(d.actions) > before
