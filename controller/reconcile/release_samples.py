"""What one look at a release says in numbers: a pure function from its snapshot and status to samples.

Must not know: when it is called, and how the samples get to Prometheus.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

from controller.api.status import AdapterReleaseStatus, BackendKind, Step
from controller.domain.snapshot import JobKind, JobState, Snapshot, StageFacts, artifact_label
from controller.reconcile import release_metrics as metrics
from controller.reconcile.release_metrics import Family, Sample

_LOADED, _NOT_WANTED, _NOT_READY = "Loaded", "Unloaded", "NotReady"


def release_samples(seen: Snapshot, status: AdapterReleaseStatus, waits: Collection[str]) -> list[Sample]:
    """`status` is what the plan made of what was `seen`, as it was written; `waits`: what people have to do."""
    release = seen.release
    key = (release.metadata.namespace, release.metadata.name)
    info = (*key, release.spec.base_ref.name, str(release.spec.stage), release.model_name)
    samples: list[Sample] = [(metrics.INFO, info, 1)]
    samples += [(metrics.CONDITION, (*key, c.type, c.status, c.reason), 1) for c in status.conditions]
    samples += _serving(key, status)
    samples += _rollout(key, status)
    samples += [(metrics.WAITING, (*key, str(what)), 1) for what in waits]
    samples += _build(key, seen, status)
    samples += _artifact(key, status)
    samples += _pods(key, seen, status)
    return samples


def base_samples(seen: Snapshot) -> list[Sample]:
    """Of the release's base, which others may share."""
    base, namespace = seen.base, seen.release.metadata.namespace
    if base is None:
        return []
    info = (namespace, base.name, base.store_claim, "true" if base.has_plugin else "false")
    samples: list[Sample] = [(metrics.BASE_INFO, info, 1)]
    held = [len(p.adapters) for p in seen.base_pods if p.usable and p.adapters is not None]
    if held:
        samples.append((metrics.SLOTS, (namespace, base.name, "used"), sum(held)))
        samples.append((metrics.SLOTS, (namespace, base.name, "total"), base.max_cpu_loras * len(held)))
    return samples


def _serving(key: tuple[str, str], status: AdapterReleaseStatus) -> Iterator[Sample]:
    serving = status.serving
    if serving is None:
        return
    version = next((h.version for h in status.history if h.revision == serving.revision), "")
    artifact = artifact_label(serving.backend.id) if serving.backend.kind is BackendKind.ARTIFACT else ""
    yield metrics.SERVING, (*key, str(serving.backend.kind), version, artifact), 1


def _rollout(key: tuple[str, str], status: AdapterReleaseStatus) -> Iterator[Sample]:
    rollout = status.rollout
    yield metrics.STEP, (*key, str(rollout.step)), 1
    if rollout.started_at is not None:
        yield metrics.STEP_STARTED, (*key, str(rollout.step)), rollout.started_at.timestamp()
    if rollout.deadline is not None:
        yield metrics.DEADLINE, key, rollout.deadline.timestamp()


def _build(key: tuple[str, str], seen: Snapshot, status: AdapterReleaseStatus) -> Iterator[Sample]:
    stage = _stage_of_build(seen, status)
    if stage is not None:
        yield metrics.STAGE_DONE, (*key, stage.name), stage.done
        yield metrics.STAGE_BYTES, (*key, stage.name), stage.bytes
        if stage.total > 0:
            yield metrics.STAGE_EXPECTED, (*key, stage.name), stage.total


def _stage_of_build(seen: Snapshot, status: AdapterReleaseStatus) -> StageFacts | None:
    """Of the build that the release waits for; there may be older ones that still run."""
    if status.rollout.step is not Step.BUILDING:
        return None
    job = seen.job(JobKind.BUILD, status.rollout.inputs)
    return job.stage if job is not None and job.state is JobState.ACTIVE else None


def _artifact(key: tuple[str, str], status: AdapterReleaseStatus) -> Iterator[Sample]:
    artifact = status.artifact
    if artifact is None:
        return
    labels = (*key, artifact_label(artifact.id))
    yield metrics.SIZE, labels, artifact.size_bytes
    yield from _if_number(metrics.SPEEDUP, labels, artifact.speedup)
    for stage, seconds in artifact.build_seconds.items():
        yield from _if_number(metrics.STAGE_DURATION, (*key, stage), seconds)
    for suite in artifact.scores:
        yield from _if_number(metrics.SCORE, (*key, suite.name, "adapter"), suite.adapter)
        yield from _if_number(metrics.SCORE, (*key, suite.name, "artifact"), suite.artifact)


def _if_number(family: Family, labels: tuple[str, ...], text: str) -> Iterator[Sample]:
    """Empty where nothing was measured, and anything where somebody has edited the status."""
    try:
        number = float(text)
    except ValueError:
        return
    if math.isfinite(number):
        yield family, labels, number


def _pods(key: tuple[str, str], seen: Snapshot, status: AdapterReleaseStatus) -> Iterator[Sample]:
    """Only pods that are there and ready (a large model starts for long), and only while the adapter is wanted."""
    there = {p.name for p in seen.base_pods}
    for pod in status.adapter.pods if status.adapter is not None else ():
        if pod.name in there and pod.state not in (_NOT_WANTED, _NOT_READY):
            yield metrics.LOADED, (*key, pod.name), 1 if pod.state == _LOADED else 0
