"""Steps that one base pod can take, with the engine plugin or without. Must not know: which pod's turn it is."""

from __future__ import annotations

from datetime import timedelta

from controller.domain.actions import ClearAlias, FlipAlias, ProbeAndLabel, StageAdapter, UnloadAdapter
from controller.domain.backends import adapter_backend, holds, is_proven, is_staged, protected_digests
from controller.domain.draft import Draft
from controller.domain.snapshot import SHORT, PodFacts, hex_of

# A pod that left the route may still get requests until every node knows.
UNROUTE_DELAY = timedelta(seconds=5)
# A load that failed for a passing reason is tried again after this.
LOAD_RETRY = timedelta(seconds=30)


def is_labelled(pod: PodFacts) -> bool:
    return pod.loaded_label is not None or pod.routed_label


def path_of(d: Draft, digest: str) -> str:
    return d.seen.root_for(adapter_backend(digest))


def free_slots(d: Draft, pod: PodFacts) -> int:
    """Names that the server can still take. Above --max-cpu-loras vLLM answers 200 and silently evicts another."""
    if d.seen.base is None or pod.adapters is None:
        return 0
    return d.seen.base.max_cpu_loras - len(pod.adapters)


def may_try(d: Draft, pod: PodFacts, digest: str) -> bool:
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


def stage(d: Draft, pod: PodFacts, digest: str) -> None:
    """Load and prove the version under its own name, if there is a slot."""
    if holds(d.seen, pod, digest) or is_staged(d.seen, pod, digest) or not may_try(d, pod, digest):
        return
    planned = sum(1 for a in d.actions if isinstance(a, StageAdapter) and a.pod == pod.name)
    if free_slots(d, pod) - planned >= 1:
        why = f"prove {hex_of(digest)[:SHORT]} on pod {pod.name}"
        d.do(StageAdapter(why, pod.name, d.seen.engine_name(digest), digest, path_of(d, digest)))


def flip(d: Draft, pod: PodFacts, digest: str) -> None:
    short = hex_of(digest)[:SHORT]
    why = f"clients of pod {pod.name} get {short} from now on"
    name = d.seen.engine_name(digest)
    version = d.version_of(adapter_backend(digest))
    d.do(FlipAlias(why, pod.name, name, digest, path_of(d, digest), short, version))


def serve_from(d: Draft, pod: PodFacts, digest: str) -> None:
    if not is_proven(d.seen, pod, digest):
        short, version = hex_of(digest)[:SHORT], d.version_of(adapter_backend(digest))
        why = f"pod {pod.name} holds {short}: probe it and let it into the route"
        d.do(ProbeAndLabel(why, pod.name, d.seen.model_name, digest, path_of(d, digest), short, version))


def unload_after_delay(d: Draft, pod: PodFacts) -> None:
    ends = pod.unrouted_at + UNROUTE_DELAY if pod.unrouted_at else d.now
    if d.now >= ends and pod.plugin is not None:
        d.do(ClearAlias(f"pod {pod.name} has left the route", pod.name))
    elif d.now >= ends:
        d.do(UnloadAdapter(f"pod {pod.name} has left the route", pod.name, d.seen.model_name))
    else:
        d.wake_at(ends)
