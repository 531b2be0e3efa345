"""Updates of a base without the engine plugin: pods leave the route by quota, never the last one, unload, load, return.

With one pod the new version is proven beside the old one, then replaced in place, which leaves a gap of milliseconds.
"""

from __future__ import annotations

from controller.domain.actions import LoadAdapter, RemoveLabel, ReplaceAdapter, SwitchRoute, UnloadAdapter
from controller.domain.backends import (
    adapter_backend,
    is_proven,
    is_staged,
    protected_digests,
    quota,
    refuses,
    switching_to,
    usable_pods,
)
from controller.domain.draft import Draft
from controller.domain.pod_steps import (
    flip,
    free_slots,
    is_labelled,
    may_try,
    path_of,
    serve_from,
    stage,
    unload_after_delay,
)
from controller.domain.snapshot import SHORT, PodFacts, hex_of


def _digest_for(d: Draft, pod: PodFacts, wanted: str | None) -> str | None:
    """What this pod should hold: the wanted version, or the one that serves where the wanted one will not load."""
    if wanted is None or not refuses(pod, wanted):
        return wanted
    serving = [x for x in sorted(protected_digests(d)) if x != wanted]
    return serving[0] if serving else wanted


def advance_pod(d: Draft, pod: PodFacts, wanted: str | None) -> None:
    digest = _digest_for(d, pod, wanted)
    drop_staged(d, pod, digest)
    held = d.seen.held_digest(pod)
    if digest is not None and held == hex_of(digest):
        serve_from(d, pod, digest)
    elif held is None:
        _fill(d, pod, digest)
    elif held == "":
        return  # the name is somebody else's; conditions.py says so
    else:
        _make_room(d, pod, "sha256:" + held, digest)


def drop_staged(d: Draft, pod: PodFacts, digest: str | None) -> None:
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
            flip(d, pod, digest)
        else:
            stage(d, pod, digest)
        return
    if not may_try(d, pod, digest) or free_slots(d, pod) < 1:
        return
    why = f"load {hex_of(digest)[:SHORT]} on pod {pod.name}"
    d.do(LoadAdapter(why, pod.name, d.seen.model_name, digest, path_of(d, digest)))


def _make_room(d: Draft, pod: PodFacts, held: str, digest: str | None) -> None:
    """The pod holds another version than it should."""
    if held in protected_digests(d) and digest is not None:
        _take_by_quota(d, pod, held, digest)
    elif is_labelled(pod):
        d.do(RemoveLabel(f"pod {pod.name} holds {hex_of(held)[:SHORT]}, which no longer serves", pod.name))
    else:
        unload_after_delay(d, pod)


def _take_by_quota(d: Draft, pod: PodFacts, held: str, digest: str) -> None:
    """The version on the pod serves. Take as many pods from it as the quota allows, never the last one."""
    pods = usable_pods(d.seen)
    proven = [p for p in pods if is_proven(d.seen, p, held)]
    if pod not in proven:
        unload_after_delay(d, pod)
        return
    if len(pods) == 1:
        _update_the_only_pod(d, pod, held, digest)
        return
    able = [p for p in pods if not refuses(p, held)]  # one that serves neither version must not stop the others
    taken = len(able) - len(proven) + sum(1 for a in d.actions if isinstance(a, RemoveLabel))
    if taken < quota(len(able)) and len(proven) > 1:
        d.do(RemoveLabel(f"take pod {pod.name} out of the route to update it", pod.name))


def _update_the_only_pod(d: Draft, pod: PodFacts, held: str, digest: str) -> None:
    if not is_staged(d.seen, pod, digest):
        stage(d, pod, digest)
        return
    if switching_to(d) == digest and may_try(d, pod, digest):  # each try leaves a gap
        says = f"{hex_of(held)[:SHORT]} by {hex_of(digest)[:SHORT]}"
        d.do(
            ReplaceAdapter(
                why=f"replace {says} on the base's only pod {pod.name}",
                pod=pod.name,
                engine_name=d.seen.model_name,
                digest=digest,
                path=path_of(d, digest),
                old_path=path_of(d, held),
                staging_name=d.seen.engine_name(digest),
                label=hex_of(digest)[:SHORT],
            )
        )
        # At once: the route selects the label that the pod has just lost.
        d.do(SwitchRoute(f"the route follows: {says}", adapter_backend(digest)))
