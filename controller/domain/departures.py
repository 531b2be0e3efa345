"""Telling servers whether the route points at them.

A Service moves new connections only. A server that is told that the route has left it answers with `Connection: close`
from then on, so that clients that keep a connection open follow without losing a request (controller/engine/plugin).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from controller.api.status import Backend, BackendKind
from controller.domain.actions import SwitchRoute, TellRouted
from controller.domain.backends import artifact_backend
from controller.domain.draft import Draft
from controller.domain.snapshot import PodFacts, RouteFacts


def leaving(d: Draft, backend: Backend) -> tuple[str, ...]:
    """The pods that lose the route by a switch to the backend, and may still tell their clients so."""
    return tuple(
        pod.name for pod, made in _servers(d) if _would_hear(pod, False) and _loses_the_route(d, pod, made, backend)
    )


def tell_routing(d: Draft) -> None:
    """What no switch tells: those that get the route, and those that did not hear when it left them."""
    route = d.seen.route
    if route is None:
        return
    switch = next((a for a in d.actions if isinstance(a, SwitchRoute)), None)
    for pod, made in _servers(d):
        if switch is None or not _loses_the_route(d, pod, made, switch.backend):
            had_clients = made in _served_ever(d) if made else _had_clients(d, route, pod)
            _tell(d, pod, _selects(d, route.selector, pod, made), had_clients)


def _loses_the_route(d: Draft, pod: PodFacts, made: Backend | None, target: Backend) -> bool:
    route = d.seen.route
    if route is None or not _selects(d, route.selector, pod, made):
        return False
    return not _selects(d, d.seen.selector_for(target), pod, made)


def _servers(d: Draft) -> Iterator[tuple[PodFacts, Backend | None]]:
    """Each with the artifact that it serves; None: the base."""
    for merged in d.seen.merged:
        for pod in merged.pods:
            yield pod, artifact_backend(merged.artifact_id)
    for pod in d.seen.base_pods:
        yield pod, None


def _tell(d: Draft, pod: PodFacts, routed: bool, had_clients: bool) -> None:
    """A candidate that never had clients is left alone: its connections may be kept. A pod that ends is told at once:
    after SIGTERM vLLM answers new requests with 500."""
    routed = routed and not pod.deleting
    if _would_hear(pod, routed) and (routed or had_clients or pod.deleting):
        where = "to" if routed else "away from"
        d.do(TellRouted(f"the route points {where} pod {pod.name}", pod.name, routed))


def _would_hear(pod: PodFacts, routed: bool) -> bool:
    return pod.plugin is not None and pod.plugin.is_declared and pod.plugin.is_routed is not routed


def _selects(d: Draft, selector: Mapping[str, str], pod: PodFacts, made: Backend | None) -> bool:
    """For the base by the labels that tell its pods apart; the others they all have."""
    if made is not None:
        return dict(selector) == d.seen.selector_for(made)
    labels = {d.seen.loaded_label: pod.loaded_label, d.seen.routed_label: "true" if pod.routed_label else None}
    asked = {key: value for key, value in selector.items() if key in labels}
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
