"""Draining: what lost the route stays until its last request has ended, or its time is over.

Without the engine plugin nobody knows what runs in a server: then only the delay counts.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from controller.api.status import Backend, BackendKind, Draining
from controller.api.types import parse_duration
from controller.domain.draft import Draft
from controller.domain.snapshot import PodFacts

# Requests that run longer than this after the delay are cut off.
DRAIN_LIMIT = timedelta(minutes=10)
# vLLM closes a connection on which nothing was asked for 5 s (VLLM_HTTP_TIMEOUT_KEEP_ALIVE), and a little.
KEEP_ALIVE_SECONDS = 6.0


def drain(d: Draft, backend: Backend, until: datetime) -> None:
    """It has lost its clients, and stays at least until then."""
    others = [x for x in d.rollout.draining if x.backend != backend]
    d.update_rollout(draining=[*others, Draining(backend=backend, until=until)])


def drain_for_delay(d: Draft, backend: Backend) -> None:
    """For scaleDownDelay from now; what is left of an earlier delay is not this one."""
    drain(d, backend, d.now + parse_duration(d.seen.release.spec.rollout.scale_down_delay))


def forget_drained(d: Draft) -> None:
    left = [x for x in d.rollout.draining if not _is_over(d, x)]
    for entry in left:
        d.wake_at(entry.until if entry.until > d.now else entry.until + DRAIN_LIMIT)
    if len(left) < len(d.rollout.draining):
        d.update_rollout(draining=left)


def is_draining(d: Draft, entry: Draining) -> bool:
    """Its delay is not over, or something still runs there."""
    return not _is_over(d, entry)


def still_runs(d: Draft, pod: PodFacts, engine_name: str) -> bool:
    """Has the version requests on that pod that may still end?"""
    running = pod.plugin.in_flight.get(engine_name, 0) if pod.plugin else 0
    kept = {d.seen.engine_name(x.backend.id) for x in d.rollout.draining if x.backend.kind is BackendKind.ADAPTER}
    return running > 0 and engine_name in kept


def clients_have_left(d: Draft, origin: Backend | None, target: Backend) -> bool:
    """Can no kept connection bring a new request to where the route came from? Unknown without the plugin."""
    if origin is None or origin == target or origin.kind is target.kind is BackendKind.ADAPTER:
        return True
    told = [p.plugin for p in _servers(d, origin) if p.usable and p.plugin is not None and p.plugin.is_declared]
    return all(not p.is_routed and p.departed_seconds >= KEEP_ALIVE_SECONDS for p in told)


def _is_over(d: Draft, entry: Draining) -> bool:
    if d.now < entry.until:
        return False
    return d.now >= entry.until + DRAIN_LIMIT or _running(d, entry.backend) == 0


def _running(d: Draft, backend: Backend) -> int:
    """A server that was not heard may be at something."""
    plugins = [p.plugin for p in _servers(d, backend) if p.plugin is not None]
    if any(p.usable and p.plugin is None and p.ask_problem for p in _servers(d, backend)):
        return 1
    if backend.kind is BackendKind.ARTIFACT:
        return sum(sum(p.in_flight.values()) for p in plugins)
    return sum(p.in_flight.get(d.seen.engine_name(backend.id), 0) for p in plugins)


def _servers(d: Draft, backend: Backend) -> tuple[PodFacts, ...]:
    if backend.kind is BackendKind.ADAPTER:
        return d.seen.base_pods
    merged = d.seen.merged_for(backend.id)
    return merged.pods if merged is not None else ()
