"""Between memory and decision of a canary: begin a step, look at it, and have the HTTPRoute's weights follow.

The decision itself is in canary.py. Must not know: what becomes of the traffic after a canary (traffic.py).
"""

from __future__ import annotations

from dataclasses import replace

from controller.api.reasons import Reason
from controller.api.status import Backend, BackendKind, CanaryStatus, Step
from controller.api.v1alpha1 import Canary, CanaryStep
from controller.domain.actions import PointPreview, SetWeight
from controller.domain.backends import can_answer, pods_of
from controller.domain.canary import (
    Decision,
    Sighting,
    decide,
    first_step,
    next_step,
    progress_of,
    step_limit,
    weight_now,
)
from controller.domain.draft import Draft
from controller.domain.draining import drain_for_delay


def wants_canary(d: Draft, target: Backend, reason: Reason) -> Canary | None:
    """Only an artifact that takes over from something has one."""
    takes_over = d.served is not None and target.kind is BackendKind.ARTIFACT and reason is Reason.PROMOTED
    return d.seen.release.spec.rollout.canary if takes_over else None


def has_given_back_others(d: Draft, target: Backend, canary: Canary) -> bool:
    """Nothing is remembered of another HTTPRoute, which would never be given back, or of another candidate, whose
    requests would go to this one at once."""
    memory = d.rollout.canary
    return memory is None or (memory.http_route, memory.artifact) == (canary.http_route, target.id)


def not_given_back(d: Draft, artifact_id: str) -> str | None:
    """Name of an HTTPRoute that may still send requests to NAME-preview, which are another candidate's."""
    memory = d.rollout.canary
    return memory.http_route if memory is not None and memory.artifact != artifact_id else None


def begin_canary(d: Draft, target: Backend, canary: Canary) -> None:
    _begin(d, target, canary, first_step(canary))


def begin_next_step(d: Draft) -> None:
    canary, memory, target = d.seen.release.spec.rollout.canary, d.rollout.canary, d.rollout.target
    following = next_step(canary, memory.weight) if canary is not None and memory is not None else None
    if canary is not None and following is not None and target is not None:
        _begin(d, target, canary, following)


def _begin(d: Draft, target: Backend, canary: Canary, step: CanaryStep) -> None:
    limit = step_limit(d.seen.release.spec.rollout, canary, step)
    d.begin(Step.SHIFTING, limit, reason=Reason.PROMOTED, target=target, origin=d.served)
    memory = CanaryStatus(http_route=canary.http_route, artifact=target.id, weight=step.weight)
    d.update_rollout(canary=memory)


def look_at_canary(d: Draft) -> Decision | None:
    """None: the spec asks for none any more, or for one by another HTTPRoute."""
    rollout, memory, target = d.seen.release.spec.rollout, d.rollout.canary, d.rollout.target
    if rollout.canary is None or memory is None or target is None or d.served is None:
        return None
    if (memory.http_route, memory.artifact) != (rollout.canary.http_route, target.id):
        return None
    seen = sighting(d, memory)
    return decide(rollout, rollout.canary, memory.artifact, progress_of(d.rollout, memory, d.now), seen, d.now)


def sighting(d: Draft, memory: CanaryStatus) -> Sighting:
    """What the HTTPRoute says, and who is ready: endpoints that lag behind the pods are no proof that none is."""
    candidate = Backend(kind=BackendKind.ARTIFACT, id=memory.artifact)
    route = d.seen.http_route or Sighting()
    stable = bool(d.seen.route and d.seen.route.endpoints)
    mine = {p.name for p in pods_of(d.seen, candidate)}
    preview = bool(d.seen.preview_endpoints) and d.seen.preview_endpoints <= mine
    return replace(
        route,
        stable_ready=True if stable else None if d.served and can_answer(d.seen, d.served) else False,
        preview_ready=True if preview else None if mine else False,
    )


def give_back(d: Draft) -> bool:
    """The release goes: is nothing of its doing left in an HTTPRoute?"""
    memory = d.rollout.canary
    if memory is None or (d.seen.http_route is not None and d.seen.http_route.clean):
        return True
    d.do(SetWeight(f"give HTTPRoute {memory.http_route} back", memory.http_route, 0))
    return False


def _drain_candidate(d: Draft, memory: CanaryStatus) -> None:
    """The HTTPRoute is given back: gateways may not know yet, and requests run on the candidate."""
    candidate = Backend(kind=BackendKind.ARTIFACT, id=memory.artifact)
    if candidate != d.served:
        drain_for_delay(d, candidate)


def keep_weights(d: Draft) -> None:
    """Set the weights that were decided; give the HTTPRoute back when the canary is over, and forget it then."""
    memory = d.rollout.canary
    if memory is None:
        return
    on_its_way = d.step in (Step.SHIFTING, Step.SWITCHING) and d.rollout.reason == Reason.PROMOTED
    if memory.weight and not (on_its_way and d.rollout.target and d.rollout.target.id == memory.artifact):
        memory = memory.model_copy(update={"weight": 0, "since": None})
        d.update_rollout(canary=memory)
    seen = sighting(d, memory)
    if not memory.weight and seen.clean:
        _drain_candidate(d, memory)
        d.update_rollout(canary=None)
        return
    if memory.weight and seen.preview_ready is None:  # the endpoints lag behind, or it leads elsewhere
        d.do(PointPreview(f"point the preview at artifact {memory.artifact[:19]}", memory.artifact))
    weight = weight_now(memory.weight, seen)
    if weight is not None and (weight != seen.weight or not (weight or seen.clean)):
        d.do(SetWeight(f"give the candidate {weight} % of HTTPRoute {memory.http_route}", memory.http_route, weight))
