"""What is no longer needed goes: merged Deployments that neither serve, nor are on their way, nor wait out a delay.

Adapters and artifacts in the store are not touched: an artifact can be rebuilt from an adapter, not the other way.
"""

from __future__ import annotations

from controller.api.status import BackendKind, Step
from controller.api.v1alpha1 import Stage
from controller.domain.actions import DeleteMerged
from controller.domain.backends import is_given_up, pinned_revision, routed_artifact
from controller.domain.draft import Draft


def clean_up(d: Draft) -> None:
    _forget_drained(d)
    keep = needed_artifacts(d)
    for merged in d.seen.merged:
        if merged.artifact_id not in keep:
            why = f"merged Deployment {merged.name} neither serves nor will"
            d.do(DeleteMerged(why, merged.artifact_id, merged.name, merged.uid))


def needed_artifacts(d: Draft) -> set[str]:
    """Ids of the artifacts whose Deployment has a reason to run."""
    backends = [d.served, d.rollout.target, d.rollout.origin, *(x.backend for x in d.rollout.draining)]
    backends.append(routed_artifact(d.seen))  # a first switch that made way before it was proven
    pinned = pinned_revision(d)
    if pinned and not is_given_up(d, pinned.backend):
        backends.append(pinned.backend)
    needed = {b.id for b in backends if b is not None and b.kind is BackendKind.ARTIFACT}
    if _candidate_is_wanted(d) and d.status.artifact is not None:
        needed.add(d.status.artifact.id)
    return needed


def _candidate_is_wanted(d: Draft) -> bool:
    artifact, spec = d.status.artifact, d.seen.release.spec
    if artifact is None or spec.stage is not Stage.STABLE or spec.rollback is not None:
        return False
    if d.step in (Step.IMPORTING, Step.BUILDING):  # a newer one is on its way
        return False
    return d.backend_rejection(artifact.id) is None


def _forget_drained(d: Draft) -> None:
    over = [x for x in d.rollout.draining if x.until <= d.now]
    for entry in d.rollout.draining:
        if entry.until > d.now:
            d.wake_at(entry.until)
    if over:
        d.update_rollout(draining=[x for x in d.rollout.draining if x.until > d.now])
