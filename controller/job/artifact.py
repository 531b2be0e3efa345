"""What an artifact is: its id, a digest of everything that went in, and the document that lies beside its weights.

Must not know how the weights are made.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from controller.errors import PermanentError
from controller.job import merge, quantize
from controller.job.contract import AdapterInput, BuildContract
from controller.job.reasons import Reason
from controller.job.store import Store, digest_of, directory_digests
from controller.job.strict_json import read_object
from controller.job.summary import AdapterProvenance, BuildResult, Provenance

DOCUMENT = "artifact.json"
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
        text = json.dumps(self.document(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


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
                    f"quantizing needs {name}, which is not installed: use the job image, or pip install"
                    " 'adapter-release-controller[job]'",
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


def write_document(
    directory: Path, contract: BuildContract, inputs: Inputs, created: str, seconds: Mapping[str, float]
) -> None:
    """Writes `artifact.json` beside the finished weights in `directory`."""
    (directory / DOCUMENT).unlink(missing_ok=True)
    files = directory_digests(directory)
    base_version = contract.base.revision or inputs.base_digest.removeprefix("sha256:")[:8]
    document = {
        "apiVersion": contract.api_version,
        "kind": "Artifact",
        "id": inputs.artifact_id,
        "name": human_name(contract.base.name, base_version, contract.adapters),
        "created": created,
        "release": contract.release.model_dump(by_alias=True),
        "inputs": inputs.document(),
        "provenance": provenance(contract, inputs).model_dump(by_alias=True, exclude_none=True),
        "seconds": dict(seconds),
        "digest": digest_of(files),
        "sizeBytes": sum((directory / n).stat().st_size for n in files),
        "files": {n: {"sha256": d, "sizeBytes": (directory / n).stat().st_size} for n, d in files.items()},
    }
    (directory / DOCUMENT).write_text(json.dumps(document, indent=2) + "\n")


def published(store: Store, contract: BuildContract, inputs: Inputs) -> dict[str, Any] | None:
    """The document of the artifact with these inputs, if it is in the store. PermanentError if it is damaged."""
    path = store.artifact(inputs.artifact_id)
    if not path.exists():
        return None
    try:
        document = read_object(path / DOCUMENT)
        whole = document["inputs"] == inputs.document() and all(
            (path / n).stat().st_size == f["sizeBytes"] for n, f in document["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise PermanentError(
            f"{path} does not hold what its {DOCUMENT} says: somebody changed it. Remove it and build again",
            reason=Reason.STORE_CORRUPTED,
        )
    return document


def result_of(
    store: Store, contract: BuildContract, inputs: Inputs, document: Mapping[str, Any], reused: bool
) -> BuildResult:
    """What the controller is told about a published artifact."""
    return BuildResult(
        artifact_id=inputs.artifact_id,
        path=str(store.artifact(inputs.artifact_id)),
        name=document["name"],
        digest=document["digest"],
        size_bytes=document["sizeBytes"],
        reused=reused,
        seconds=document["seconds"],
        provenance=provenance(contract, inputs),
    )
