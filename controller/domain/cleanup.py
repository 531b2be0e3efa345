"""What is no longer needed goes: merged Deployments that neither serve, nor are on their way, nor wait out a delay;
jobs whose result nobody waits for.

Adapters and artifacts in the store are not touched: an artifact can be rebuilt from an adapter, not the other way.
"""

from __future__ import annotations

from controller.api.status import BackendKind, Step
from controller.api.v1alpha1 import Stage
from controller.domain.actions import DeleteMerged, EndJob, JobKind
from controller.domain.backends import artifact_backend, is_given_up, pinned_revision, routed_artifact
from controller.domain.draft import Draft
from controller.domain.draining import forget_drained
from controller.domain.inputs import build_inputs, validate_inputs
from controller.domain.snapshot import JobFacts, JobState


def clean_up(d: Draft) -> None:
    forget_drained(d)
    _end_superseded_jobs(d)
    keep = needed_artifacts(d)
    for merged in d.seen.merged:
        if merged.artifact_id not in keep:
            why = f"merged Deployment {merged.name} neither serves nor will"
            d.do(DeleteMerged(why, merged.artifact_id, merged.name, merged.uid))


def _end_superseded_jobs(d: Draft) -> None:
    for job in d.seen.jobs:
        if job.state is JobState.ACTIVE and _is_superseded(d, job):
            d.do(EndJob(f"nobody waits any more for what job {job.name} makes", job.name))


def _is_superseded(d: Draft, job: JobFacts) -> bool:
    """A build would keep its GPU, a validation ask the servers that the next one measures; an import is soon done.

    A build of the same with other means goes on: the store lets one of the two work, and the other finds the artifact.
    """
    release, base, adapter, artifact = d.seen.release, d.seen.base, d.status.adapter, d.status.artifact
    if job.kind is JobKind.IMPORT or adapter is None or base is None or base.problems:
        return False
    if release.spec.stage is not Stage.STABLE or release.spec.rollback is not None:
        return True
    if job.kind is JobKind.VALIDATE:
        return artifact is None or job.inputs != validate_inputs(release, artifact)
    return job.made_of not in ("", build_inputs(release, base, adapter.digest))


def needed_artifacts(d: Draft) -> set[str]:
    """Ids of the artifacts whose Deployment has a reason to run."""
    backends = [d.served, d.rollout.target, d.rollout.origin, *(x.backend for x in d.rollout.draining)]
    if d.rollout.canary is not None:  # the HTTPRoute may still send requests to it
        backends.append(artifact_backend(d.rollout.canary.artifact))
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
