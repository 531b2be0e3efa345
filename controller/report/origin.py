"""The provenance of an artifact, as lines for people. Must not know what was measured of it, nor how it looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from controller.job.attestation import TOOL, Descriptor
from controller.job.provenance import ADAPTER, BASE, ArtifactStatement
from controller.report.facts import Detail


def number(value: object) -> float | None:
    """A count or a time; None for anything that is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**63:
        return None
    return value


def provenance_of(made: ArtifactStatement) -> Iterator[Detail]:
    """Base, adapters, how they were merged and quantized, with what; and the names by which they are known."""
    yield Detail("Artifact", made.id, is_code=True)
    yield Detail("Digest of its files", made.digest, is_code=True)
    for one in made.predicate.build_definition.resolved_dependencies:
        if one.name == BASE:
            yield from _base(one)
        elif one.name and one.name.startswith(ADAPTER):
            yield from _adapter(one)
    yield from _merged(made)
    run = made.predicate.run_details
    yield Detail("Built", f"{run.metadata.started_on} to {run.metadata.finished_on}")
    yield Detail("Invocation", run.metadata.invocation_id, is_code=True)
    tools = dict(run.builder.version)
    own = tools.pop(TOOL, None)
    named = [f"{TOOL} {own}"] if own else []
    yield Detail("Tools", ", ".join([*named, *(f"{name} {version}" for name, version in sorted(tools.items()))]))


def _base(base: Descriptor) -> Iterator[Detail]:
    notes = base.annotations or {}
    revision = notes.get("revision")
    name = str(notes.get("name") or base.uri or "not named")
    yield Detail("Base", name + (f", revision {revision}" if revision else ""))
    yield from _digest("Base digest", base)


def _adapter(adapter: Descriptor) -> Iterator[Detail]:
    notes, name = adapter.annotations or {}, (adapter.name or "").removeprefix(ADAPTER)
    weight = number(notes.get("weight"))
    yield Detail(
        f"Adapter {name}",
        str(notes.get("version") or "version not told")
        + (f", weight {weight:g}" if weight is not None and weight != 1 else ""),
    )
    yield from _digest("Adapter digest", adapter)
    if run := notes.get("trainingRun"):
        yield Detail("Training run", str(run))


def _digest(label: str, of: Descriptor) -> Iterator[Detail]:
    for value in (of.digest or {}).values():
        yield Detail(label, f"sha256:{value}", is_code=True)


def _merged(made: ArtifactStatement) -> Iterator[Detail]:
    yield Detail("Merged to", str(made.inputs.get("dtype", "not told")))
    spec = made.inputs.get("quantization")
    if not isinstance(spec, Mapping):
        yield Detail("Quantized", "no")
        return
    group = spec.get("groupSize")
    yield Detail("Quantized", f"{spec.get('method')} {spec.get('scheme')}" + (f", groups of {group}" if group else ""))
    yield from _calibration(made, spec)


def _calibration(made: ArtifactStatement, spec: Mapping[str, Any]) -> Iterator[Detail]:
    if "calibrationDigest" not in spec:
        return
    source: Any = made.predicate.build_definition.external_parameters
    for name in ("quantization", "calibration", "source"):
        source = source.get(name) if isinstance(source, Mapping) else None
    samples = f"{spec.get('samples')} samples of at most {spec.get('sequenceLength')} tokens"
    yield Detail("Calibrated with", f"{samples}, from {source}" if source else samples)
    yield Detail("Calibration digest", str(spec.get("calibrationDigest")), is_code=True)
