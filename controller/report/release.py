"""What the status of a release says of its artifact: the verdict above all, which only the controller gives.

Must not know how the status is read, nor how a report looks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from controller.api.status import ArtifactStatus, BackendKind, ConditionType, Step
from controller.api.v1alpha1 import AdapterRelease
from controller.report.facts import Detail, Report, Side, Size, Speed, Suite, Verdict

_BY = "the controller, by the tolerances of the release"
_BEFORE_TRAFFIC = (Step.STARTING, Step.VALIDATING)
_LABELS = {
    "base": "Base",
    "baseRevision": "Base revision",
    "baseDigest": "Base digest",
    "dtype": "Merged to",
    "quantization": "Quantized",
    "calibrationDigest": "Calibration digest",
}


def of_release(release: AdapterRelease) -> Report | None:
    """As much as the status has; None where nothing was built."""
    artifact = release.status.artifact
    if artifact is None:
        return None
    place = f"{artifact.path}/artifact.json"
    report = Report(
        name=artifact.name or artifact.id,
        artifact_id=artifact.id,
        provenance=tuple(_provenance(artifact)),
        suites=tuple(_suites(artifact)),
        speed=_speed(artifact),
        sizes=tuple(_sizes(release, artifact)),
        missing=(
            "The examples that changed, the confidence of differences, curves, and time by stage: they are in the "
            f"store, beside {place}. Copy both and give the directory by --artifact.",
        ),
    )
    return judged(report, release)


def judged(report: Report, release: AdapterRelease) -> Report:
    """`report` with the release's name, the verdict in its status, and where it stands."""
    meta = release.metadata
    return replace(
        report,
        release=f"{meta.namespace}/{meta.name}",
        standing=_standing(release, report.artifact_id),
        verdict=_verdict(release, report.artifact_id),
    )


def _verdict(release: AdapterRelease, artifact_id: str) -> Verdict:
    artifact = release.status.artifact
    if artifact is None or artifact.id != artifact_id:
        return Verdict(why="The release has another artifact by now, so its status has no verdict on this one.")
    if not artifact.verdict:
        return Verdict(why=_why(release, artifact) or "It is not validated yet.")
    return Verdict(artifact.verdict, _why(release, artifact), _BY)


def _why(release: AdapterRelease, artifact: ArtifactStatus) -> str:
    """The controller's words: what it was rejected for, else what the condition says of a validation."""
    for rejected in release.status.rollout.rejected:
        if rejected.id == artifact.id and rejected.step in _BEFORE_TRAFFIC and rejected.message:
            return rejected.message
    said = release.status.condition(ConditionType.VALIDATED)
    about_validation = said is not None and said.reason != "NotRequested"
    return said.message if said is not None and about_validation else ""


def _standing(release: AdapterRelease, artifact_id: str) -> str:
    left = next(
        (
            f" It was left: {rejected.message}"
            for rejected in release.status.rollout.rejected
            if rejected.id == artifact_id and rejected.step not in _BEFORE_TRAFFIC
        ),
        "",
    )
    serving = release.status.serving
    if serving is None:
        return f"Nothing serves yet.{left}"
    this = serving.backend.id == artifact_id
    other = "The adapter" if serving.backend.kind is BackendKind.ADAPTER else "Another artifact"
    since = serving.since.strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{'This artifact' if this else other} serves, since {since}.{left}"


def _provenance(artifact: ArtifactStatus) -> Iterator[Detail]:
    yield Detail("Artifact", artifact.id, is_code=True)
    yield Detail("Digest of its files", artifact.digest, is_code=True)
    for key, value in artifact.provenance.items():
        kind, _, name = key.partition(".")
        label = {"adapter": f"Adapter {name}", "trainingRun": f"Training run of {name}", "tool": f"Tool {name}"}.get(
            kind, _LABELS.get(key, key)
        )
        yield Detail(label, value, is_code="igest" in key)


def _suites(artifact: ArtifactStatus) -> Iterator[Suite]:
    for score in artifact.scores:
        of_artifact = _share(score.artifact)
        if of_artifact is not None:
            yield Suite(score.name, score.samples, _share(score.adapter), of_artifact, _share(score.agreement))


def _speed(artifact: ArtifactStatus) -> Speed | None:
    tokens = _number(artifact.artifact_tokens_per_second)
    if tokens is None:
        return None
    of_adapter = _number(artifact.adapter_tokens_per_second)
    return Speed(
        adapter=Side(of_adapter, mean_seconds=_number(artifact.adapter_latency_seconds)) if of_adapter else None,
        artifact=Side(tokens, mean_seconds=_number(artifact.artifact_latency_seconds)),
        speedup=_number(artifact.speedup),
    )


def _sizes(release: AdapterRelease, artifact: ArtifactStatus) -> Iterator[Size]:
    adapter = release.status.adapter
    if adapter is not None and adapter.digest == artifact.adapter_digest and adapter.size_bytes:
        yield Size("Adapter", adapter.size_bytes)
    yield Size("Artifact", artifact.size_bytes)


def _share(text: str) -> float | None:
    value = _number(text)
    return value if value is not None and value <= 1 else None


def _number(text: str) -> float | None:
    """Empty where nothing was measured, and anything where somebody has edited the status."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
