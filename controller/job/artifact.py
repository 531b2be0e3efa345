"""What goes into an artifact, and so its id and its name; and what is told of one that is in the store.

Must not know how the weights are made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from controller.errors import PermanentError
from controller.job import merge, quantize
from controller.job.contract import AdapterInput, BuildContract
from controller.job.provenance import DOCUMENT, ArtifactStatement, id_of, read_artifact
from controller.job.reasons import Reason
from controller.job.store import Store
from controller.job.summary import AdapterProvenance, BuildResult, Provenance

_QUANTIZING_TOOLS = ("llmcompressor", "compressed-tensors", "torch", "transformers")


@dataclass(frozen=True)
class Inputs:
    """Everything that decides the bytes of an artifact. The same inputs have the same id."""

    base_digest: str
    adapters: tuple[tuple[str, float], ...]
    dtype: str
    quantization: Mapping[str, Any] | None
    tools: Mapping[str, str]

    def document(self) -> dict[str, Any]:
        return {
            "baseDigest": self.base_digest,
            "combine": "linear",
            "adapters": [{"digest": d, "weight": w} for d, w in self.adapters],
            "dtype": self.dtype,
            "quantization": dict(self.quantization) if self.quantization is not None else None,
            "tools": dict(self.tools),
        }

    @property
    def artifact_id(self) -> str:
        return id_of(self.document())


def inputs_of(contract: BuildContract, base_digest: str, calibration_digest: str | None) -> Inputs:
    """The inputs of the build in `contract`. Names, versions and paths are no inputs: they change no weight."""
    quantization = quantize.inputs(contract.quantization, calibration_digest)
    return Inputs(
        base_digest=base_digest,
        adapters=tuple((a.digest, a.weight) for a in contract.adapters),
        dtype=contract.merge.dtype,
        quantization=quantization,
        tools=_tools(quantization is not None),
    )


def _tools(quantizes: bool) -> dict[str, str]:
    tools = {"merge": merge.VERSION}
    if quantizes:
        tools["quantize"] = quantize.VERSION
        for name in _QUANTIZING_TOOLS:
            try:
                tools[name] = version(name)
            except PackageNotFoundError as e:
                raise PermanentError(
                    f"quantizing needs {name}, which is not installed: use the job image, or"
                    " pip install '.[job]' in the checkout",
                    reason=Reason.TOOL_MISSING,
                ) from e
    return tools


def human_name(base: str, base_version: str, adapters: Sequence[AdapterInput]) -> str:
    """`merged-BASE-BASEVERSION-adapter-NAME-VERSION`: what it is made of, never "final"."""
    parts = ["merged", base, base_version, "adapter", *(x for a in adapters for x in (a.name, a.version))]
    return "-".join(re.sub(r"[^A-Za-z0-9._]+", "-", p).strip("-") for p in parts)


def provenance(contract: BuildContract, inputs: Inputs) -> Provenance:
    q = inputs.quantization
    return Provenance(
        base_name=contract.base.name,
        base_revision=contract.base.revision,
        base_digest=inputs.base_digest,
        adapters=tuple(
            AdapterProvenance(
                name=a.name, version=a.version, digest=a.digest, training_run=a.training_run, weight=a.weight
            )
            for a in contract.adapters
        ),
        dtype=inputs.dtype,
        quantization=str(contract.quantization) if q else None,
        calibration_digest=q.get("calibrationDigest") if q else None,
        tools=dict(inputs.tools),
    )


def published(store: Store, inputs: Inputs) -> ArtifactStatement | None:
    """What the store says of the artifact with these inputs, if it has it. PermanentError if that is damaged.

    Sizes are compared, not digests: whoever serves the artifact reads all of it, and verifies it then.
    """
    path = store.artifact(inputs.artifact_id)
    if not path.exists():
        return None
    try:
        found = read_artifact(path)
        whole = found.inputs == inputs.document() and all(
            (path / f.name).stat().st_size == f.size for f in found.subject
        )
    except (OSError, ValueError):
        whole = False
    if not whole:
        raise PermanentError(
            f"{path} does not hold what its {DOCUMENT} says: somebody changed it. Remove it and build again",
            reason=Reason.ARTIFACT_CORRUPTED,
        )
    return found


def result_of(
    store: Store, contract: BuildContract, inputs: Inputs, found: ArtifactStatement, reused: bool
) -> BuildResult:
    """What the controller is told about a published artifact."""
    return BuildResult(
        artifact_id=inputs.artifact_id,
        path=str(store.artifact(inputs.artifact_id)),
        name=found.name,
        digest=found.digest,
        size_bytes=found.size_bytes,
        reused=reused,
        seconds=found.measured.get("seconds", {}),
        provenance=provenance(contract, inputs),
    )
