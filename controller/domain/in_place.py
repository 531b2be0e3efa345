"""Updates of a base with the engine plugin: both versions in each server, and one flip of the name that clients use.

The label that the route selects does not change, so there is no gap, with one replica neither; what runs ends on the
version that it began with. All pods flip in one pass, after every one of them has proven the new version.
"""

from __future__ import annotations

from controller.api.status import BackendKind
from controller.domain.actions import RemoveLabel, UnloadAdapter
from controller.domain.backends import digests_with_clients, holds, is_proven, is_staged, switching_to, usable_pods
from controller.domain.draft import Draft
from controller.domain.draining import still_runs
from controller.domain.pod_steps import flip, free_slots, is_labelled, serve_from, stage, unload_after_delay
from controller.domain.snapshot import SHORT, PodFacts, hex_of


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
        serve_from(d, pod, front)
    elif is_staged(d.seen, pod, front):
        flip(d, pod, front)
    else:
        stage(d, pod, front)
        _give_way(d, pod, front)
    if wanted is not None and wanted != front:
        stage(d, pod, wanted)


def _front(d: Draft, wanted: str | None) -> str | None:
    """What clients of this base get: the target of a switch that was decided, else what serves, else what comes."""
    if (target := switching_to(d)) is not None:
        return target
    served = d.served
    if served is not None and served.kind is BackendKind.ADAPTER and wanted is not None:
        return served.id
    return wanted


def _give_way(d: Draft, pod: PodFacts, front: str | None) -> None:
    """A pod that cannot follow to the version for clients leaves the route, once others are there."""
    if front is None or not is_labelled(pod) or is_proven(d.seen, pod, front):
        return
    if any(is_proven(d.seen, p, front) for p in usable_pods(d.seen)):
        d.do(RemoveLabel(f"pod {pod.name} does not follow to {hex_of(front)[:SHORT]}", pod.name))


def _drop_others(d: Draft, pod: PodFacts, front: str | None, wanted: str | None) -> None:
    """Versions that nobody needs give their slots back, when their last request has ended. Not the old one of a switch
    that is not proven: it is the way back."""
    has_front = front is None or holds(d.seen, pod, front) or is_staged(d.seen, pod, front)
    needed = (front, wanted, *digests_with_clients(d)) if has_front or free_slots(d, pod) > 0 else (front,)
    keep = {d.seen.engine_name(digest) for digest in needed if digest is not None}
    for name in sorted(pod.adapters or {}):
        ours = name.startswith(f"{d.seen.model_name}@")
        if ours and name not in keep and not still_runs(d, pod, name):
            d.do(UnloadAdapter(f"{name} on pod {pod.name} is not needed any more", pod.name, name))


def _take_out(d: Draft, pod: PodFacts) -> None:
    if is_labelled(pod):
        d.do(RemoveLabel(f"pod {pod.name} holds what nobody needs any more", pod.name))
    else:
        unload_after_delay(d, pod)
