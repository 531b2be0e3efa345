"""Telling servers whether the route points at them.

A Service moves new connections only. A server that is told that the route has left it answers with `Connection: close`
from then on, so that clients that keep a connection open follow without losing a request (controller/engine/plugin).
"""

from __future__ import annotations

from controller.api.status import Backend, BackendKind
from controller.domain.actions import TellRouted
from controller.domain.backends import artifact_backend
from controller.domain.draft import Draft
from controller.domain.snapshot import PodFacts, RouteFacts


def tell_routing(d: Draft) -> None:
    route = d.seen.route
    if route is None:
        return
    for merged in d.seen.merged:
        backend = artifact_backend(merged.artifact_id)
        routed = dict(route.selector) == d.seen.selector_for(backend)
        for pod in merged.pods:
            _tell(d, pod, routed, had_clients=backend in _served_ever(d))
    for pod in d.seen.base_pods:
        _tell(d, pod, _selects(d, route, pod), had_clients=_had_clients(d, route, pod))


def _tell(d: Draft, pod: PodFacts, routed: bool, had_clients: bool) -> None:
    """A candidate that never had clients is left alone: its connections may be kept. A pod that ends is told at once:
    after SIGTERM vLLM answers new requests with 500."""
    routed = routed and not pod.deleting
    if pod.plugin is None or not pod.plugin.is_declared or pod.plugin.is_routed is routed:
        return
    if routed or had_clients or pod.deleting:
        where = "to" if routed else "away from"
        d.do(TellRouted(f"the route points {where} pod {pod.name}", pod.name, routed))


def _selects(d: Draft, route: RouteFacts, pod: PodFacts) -> bool:
    """The labels that tell the base's pods apart; the others they all have."""
    labels = {d.seen.loaded_label: pod.loaded_label, d.seen.routed_label: "true" if pod.routed_label else None}
    asked = {key: value for key, value in route.selector.items() if key in labels}
    return bool(asked) and all(labels[key] == value for key, value in asked.items())


def _had_clients(d: Draft, route: RouteFacts, pod: PodFacts) -> bool:
    """It was taken out of the route, or the route went elsewhere; a pod that is not in it yet had none."""
    elsewhere = d.seen.loaded_label not in route.selector and d.seen.routed_label not in route.selector
    adapter_served = any(b.kind is BackendKind.ADAPTER for b in _served_ever(d))
    return adapter_served and (elsewhere or pod.unrouted_at is not None)


def _served_ever(d: Draft) -> list[Backend]:
    """Not the target of a switch: it gets clients only when the route points there."""
    known = [d.served, d.rollout.origin, *(x.backend for x in d.rollout.draining)]
    return [b for b in (*known, *(h.backend for h in d.status.history)) if b is not None]
