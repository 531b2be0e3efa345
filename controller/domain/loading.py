"""The adapter on the base's pods: which pod loads, is labelled, is taken out, unloads.

A pod is in the route only while it carries the loaded label with the right digest; the label is set after a probe
and taken off as soon as it could lie (KubeAI: a label went on claiming an adapter after the container restarted).
"""

from __future__ import annotations

from controller.api.status import PodState
from controller.domain.actions import ClearAlias, RemoveLabel, UnloadAdapter
from controller.domain.backends import (
    adapter_backend,
    can_take_over,
    digests_with_clients,
    holds,
    is_proven,
    is_staged,
    name_is_taken,
    refuses,
    usable_pods,
    wanted_digest,
)
from controller.domain.draft import Draft
from controller.domain.in_place import advance_in_place
from controller.domain.pod_by_pod import advance_pod, drop_staged
from controller.domain.pod_steps import free_slots, is_labelled, unload_after_delay
from controller.domain.snapshot import SHORT, PodFacts, hex_of


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
            advance_pod(d, pod, wanted)
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
    if d.seen.in_place and held in {hex_of(digest) for digest in digests_with_clients(d)}:
        return False  # an update writes the label after the flip
    return held[:SHORT] != pod.loaded_label


def lacks_slot(d: Draft) -> bool:
    """Is there a pod that waits for a slot?"""
    wanted = wanted_digest(d)
    return wanted is not None and any(_waits_for_slot(d, p, wanted) for p in usable_pods(d.seen))


def _waits_for_slot(d: Draft, pod: PodFacts, wanted: str) -> bool:
    """Not for one that an older version of this release is about to leave."""
    if d.seen.base is None or pod.adapters is None or holds(d.seen, pod, wanted) or is_staged(d.seen, pod, wanted):
        return False
    needs_one = d.seen.in_place or d.seen.held_digest(pod) is None or len(usable_pods(d.seen)) == 1
    return needs_one and free_slots(d, pod) + _leaving(d, pod, wanted) < 1


def _leaving(d: Draft, pod: PodFacts, wanted: str) -> int:
    keep = {d.seen.engine_name(digest) for digest in (wanted, *digests_with_clients(d))}
    return sum(1 for name in pod.adapters or {} if name.startswith(f"{d.seen.model_name}@") and name not in keep)


def load_is_stuck(d: Draft) -> bool:
    """Every pod that could still take the wanted version says no, and those that took it are too few for a switch."""
    wanted, pods = wanted_digest(d), usable_pods(d.seen)
    if wanted is None or can_take_over(d.seen, adapter_backend(wanted), d.served):
        return False
    refusing = [p for p in pods if _never_takes(d, p, wanted)]
    return bool(refusing) and all(p in refusing or _has_taken(d, p, wanted) for p in pods)


def _never_takes(d: Draft, pod: PodFacts, wanted: str) -> bool:
    """It refused the version, holds somebody else's of the same name, or is full."""
    return refuses(pod, wanted) or d.seen.held_digest(pod) == "" or _waits_for_slot(d, pod, wanted)


def _has_taken(d: Draft, pod: PodFacts, wanted: str) -> bool:
    return is_proven(d.seen, pod, wanted) or (d.seen.in_place and is_staged(d.seen, pod, wanted))


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
    drop_staged(d, pod, None)
    held = d.seen.held_digest(pod)
    if held:
        unload_after_delay(d, pod)
    if any(isinstance(a, ClearAlias) and a.pod == pod.name for a in d.actions):  # there may be no other pass
        name = d.seen.engine_name(f"sha256:{held}")
        d.do(UnloadAdapter(f"the release is deleted: {name} on pod {pod.name}", pod.name, name))
    return bool(held) or pod.adapters is None or len(d.actions) > before
