"""Backends: which one should serve, and which ones could, right now. Pure questions, no decisions."""

from __future__ import annotations

from controller.api.status import Backend, BackendKind, HistoryEntry, Step
from controller.api.v1alpha1 import Stage
from controller.domain.draft import Draft
from controller.domain.draining import is_draining
from controller.domain.snapshot import SHORT, PodFacts, Snapshot, hex_of


def adapter_backend(digest: str) -> Backend:
    return Backend(kind=BackendKind.ADAPTER, id=digest)


def artifact_backend(artifact_id: str) -> Backend:
    return Backend(kind=BackendKind.ARTIFACT, id=artifact_id)


def imported_adapter(d: Draft) -> Backend | None:
    """What was imported, as the base's pods would serve it; None: nothing was, or vLLM cannot serve it."""
    adapter = d.status.adapter
    return adapter_backend(adapter.digest) if adapter is not None and not adapter.merge_only else None


def routed_artifact(seen: Snapshot) -> Backend | None:
    """The artifact that the route selects, proven or not."""
    selector = dict(seen.route.selector) if seen.route else {}
    known = [artifact_backend(merged.artifact_id) for merged in seen.merged]
    return next((b for b in known if seen.selector_for(b) == selector), None)


def usable_pods(seen: Snapshot) -> list[PodFacts]:
    return [p for p in seen.base_pods if p.usable]


def holds(seen: Snapshot, pod: PodFacts, digest: str) -> bool:
    return seen.held_digest(pod) == hex_of(digest)


def name_is_taken(seen: Snapshot) -> bool:
    """Another release, or the base itself, answers to the model name: whatever holds it is not ours."""
    return bool(seen.rivals) or (seen.base is not None and seen.model_name in seen.base.served_names)


def refuses(pod: PodFacts, digest: str) -> bool:
    """The server said no to this version, and would say it again."""
    return pod.load_failure is not None and pod.load_failure.permanent and pod.load_failure.digest == digest


def is_proven(seen: Snapshot, pod: PodFacts, digest: str) -> bool:
    """The pod is in, or would be in, the route for this digest: labelled after a probe, and not lying."""
    labelled = pod.loaded_label == hex_of(digest)[:SHORT] and (pod.routed_label or not seen.in_place)
    return pod.usable and labelled and (pod.adapters is None or holds(seen, pod, digest))


def proven_pods(seen: Snapshot, digest: str) -> list[PodFacts]:
    return [p for p in seen.base_pods if is_proven(seen, p, digest)]


def is_staged(seen: Snapshot, pod: PodFacts, digest: str) -> bool:
    """The version was proven beside the one that serves."""
    root = (pod.adapters or {}).get(seen.engine_name(digest))
    return root is not None and root == seen.root_for(adapter_backend(digest))


def can_answer(seen: Snapshot, backend: Backend) -> bool:
    """At least one pod would answer if the route pointed there now."""
    return bool(pods_of(seen, backend))


def pods_of(seen: Snapshot, backend: Backend) -> list[PodFacts]:
    if backend.kind is BackendKind.ADAPTER:
        return proven_pods(seen, backend.id)
    merged = seen.merged_for(backend.id)
    return [p for p in merged.pods if p.usable] if merged and merged.available > 0 else []


def can_take_over(seen: Snapshot, backend: Backend, served: Backend | None) -> bool:
    """Enough of it is up to carry the traffic: all replicas of an artifact, half of the base's pods for an update."""
    if backend.kind is BackendKind.ARTIFACT:
        merged = seen.merged_for(backend.id)
        return merged is not None and merged.available >= max(1, merged.replicas) and can_answer(seen, backend)
    proven = len(proven_pods(seen, backend.id))
    updating = served is not None and served.kind is BackendKind.ADAPTER and served != backend
    if not updating:
        return proven > 0
    usable = usable_pods(seen)
    if seen.in_place:
        return _can_be_flipped(seen, usable, backend.id)
    if len(usable) == 1 and is_staged(seen, usable[0], backend.id):
        return True
    return proven >= quota(len(usable))


def _can_be_flipped(seen: Snapshot, usable: list[PodFacts], digest: str) -> bool:
    """Every pod that takes the version has it, loaded and proven; those that refuse it, or are mute, are few."""
    ready = _with_version(seen, usable, digest)
    to_come = [p for p in usable if p not in ready and p.adapters is not None and not refuses(p, digest)]
    return not to_come and len(ready) >= quota(len(usable))


def enough_to_flip(seen: Snapshot, backend: Backend) -> bool:
    """Half of the base's pods have the version: enough where the others do not come in time."""
    usable = usable_pods(seen)
    has_version = _with_version(seen, usable, backend.id) if backend.kind is BackendKind.ADAPTER else []
    return seen.in_place and bool(usable) and len(has_version) >= quota(len(usable))


def can_be_flipped_somewhere(seen: Snapshot, backend: Backend) -> bool:
    return seen.in_place and bool(_with_version(seen, usable_pods(seen), backend.id))


def _with_version(seen: Snapshot, pods: list[PodFacts], digest: str) -> list[PodFacts]:
    return [p for p in pods if holds(seen, p, digest) or is_staged(seen, p, digest)]


def is_given_up(d: Draft, backend: Backend) -> bool:
    """It was tried, and is not tried again by itself. The way back from an artifact to an adapter is never closed."""
    if d.backend_rejection(backend.id) is None:
        return False
    return backend.kind is BackendKind.ARTIFACT or (d.served is not None and d.served.kind is BackendKind.ADAPTER)


def quota(pods: int) -> int:
    """How many of the base's pods are updated before the route moves; never all, unless there is only one."""
    return max(1, pods // 2)


def pinned_revision(d: Draft) -> HistoryEntry | None:
    """The revision that spec.rollback names."""
    rollback = d.seen.release.spec.rollback
    if rollback is None:
        return None
    return next((h for h in d.status.history if h.revision == rollback.revision), None)


def wanted_digest(d: Draft) -> str | None:
    """The version that the base's pods should hold; None: none is needed any more.

    Where the version that serves was lost on all pods, it comes back before anything else goes on.
    """
    served, asked = d.served, _asked_digest(d)
    if (target := switching_to(d)) is not None:
        return target
    if served is None or served.kind is not BackendKind.ADAPTER or asked is None or asked == served.id:
        return asked
    if d.backend_rejection(asked):
        return served.id
    return served.id if not proven_pods(d.seen, served.id) and _may_come_back(d, served.id, asked) else asked


def _may_come_back(d: Draft, lost: str, asked: str) -> bool:
    """Is the lost version the quicker way to an answer? Not where another is up already, or no pod takes it."""
    pods = usable_pods(d.seen)
    if any(holds(d.seen, p, asked) and (p.load_failure is None or p.load_failure.digest != asked) for p in pods):
        return False
    return not pods or not all(refuses(p, lost) for p in pods)


def _asked_digest(d: Draft) -> str | None:
    """The version that the spec asks for; where vLLM cannot serve that, the last that it served: the way back."""
    if d.seen.release.spec.rollback is not None:
        pinned = pinned_revision(d)
        if pinned is None:
            return _served_digest(d)
        return _last_live_digest(d) if pinned.merge_only else pinned.adapter_digest
    if d.status.adapter is None:
        return None
    serving = d.status.serving
    settled = (
        d.seen.release.spec.stage is Stage.STABLE
        and serving is not None
        and serving.settle_at is not None
        and d.now >= serving.settle_at
        and can_answer(d.seen, serving.backend)
        and d.step in (Step.IDLE, Step.IMPORTING)
    )
    return None if settled else _newest_digest(d)


def _served_digest(d: Draft) -> str | None:
    served = d.served
    return served.id if served is not None and served.kind is BackendKind.ADAPTER else _newest_digest(d)


def _newest_digest(d: Draft) -> str | None:
    imported = imported_adapter(d)
    return imported.id if imported is not None else _last_live_digest(d)


def _last_live_digest(d: Draft) -> str | None:
    known = [d.served, *(h.backend for h in d.status.history)]
    return next((b.id for b in known if b is not None and b.kind is BackendKind.ADAPTER), None)


def protected_digests(d: Draft) -> set[str]:
    """Versions that the route reaches, or reached a moment ago: no pod is taken from them but by quota."""
    draining = [x.backend for x in d.rollout.draining if is_draining(d, x)]
    return digests_with_clients(d) | {b.id for b in draining if b.kind is BackendKind.ADAPTER}


def digests_with_clients(d: Draft) -> set[str]:
    """Versions that the route may reach just now: the one that serves, and both of a switch that is not proven."""
    backends = [d.served]
    if d.step in (Step.SWITCHING, Step.ROLLING_BACK):
        backends += [d.rollout.target, d.rollout.origin]
    return {b.id for b in backends if b is not None and b.kind is BackendKind.ADAPTER}


def switching_to(d: Draft) -> str | None:
    """The version that a switch was decided for; None: there is no such switch."""
    target, moving = d.rollout.target, d.step in (Step.SWITCHING, Step.ROLLING_BACK)
    return target.id if moving and target is not None and target.kind is BackendKind.ADAPTER else None
