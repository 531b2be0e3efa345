"""What `artifact.json` says: an in-toto statement about the artifact's files, with SLSA's provenance as its predicate.

https://slsa.dev/spec/v1.0/provenance. Read and written by these models alone. Imports neither numpy nor torch, since
an init container reads it before a server starts. Must not know how an artifact is made.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from controller.job.attestation import Descriptor, Hex, Part, Statement, parse_statement
from controller.job.document import Digest
from controller.job.store import digest_of
from controller.job.strict_json import MAX_BYTES, parse_object

DOCUMENT = "artifact.json"
CARD = "README.md"
BUILDER = "https://adapterrelease.dev/build-job/v1alpha1"
BASE, ADAPTER, CALIBRATION, MEASURED = "base", "adapter/", "calibration", "measured"

# A file beside artifact.json: one path component, never hidden, never "..".
Time = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z$", max_length=40)]
_FileName = Annotated[str, Field(pattern=r"^[^./\x00-\x1f][^/\x00-\x1f]*$", max_length=255)]


def id_of(inputs: Mapping[str, Any]) -> str:
    """The artifact's id: a digest of everything that decides its bytes."""
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


class FileSize(Part):
    size_bytes: int = Field(ge=0)


class FileDigest(Part):
    sha256: Hex


class File(Part):
    """A file of the artifact: a ResourceDescriptor of which we ask more."""

    name: _FileName
    digest: FileDigest
    annotations: FileSize

    @property
    def sha256(self) -> str:
        return self.digest.sha256

    @property
    def size(self) -> int:
        return self.annotations.size_bytes


class InternalParameters(Part):
    """`artifact_id` is the digest of `inputs`, and `name` is for people."""

    artifact_id: Digest
    name: str = Field(min_length=1)
    inputs: dict[str, Any]


class BuildDefinition(Part):
    build_type: Literal["https://adapterrelease.dev/merge/v1alpha1"] = "https://adapterrelease.dev/merge/v1alpha1"
    external_parameters: dict[str, Any]
    internal_parameters: InternalParameters
    resolved_dependencies: tuple[Descriptor, ...]

    @model_validator(mode="after")
    def _names_base_and_adapters(self) -> BuildDefinition:
        names = [d.name or "" for d in self.resolved_dependencies if d.digest]
        if BASE not in names or not any(n.startswith(ADAPTER) for n in names):
            raise ValueError("the digest of the base or of an adapter is missing")
        return self


class Builder(Part):
    id: str = Field(min_length=1)
    version: dict[str, str]


class Metadata(Part):
    invocation_id: str = Field(min_length=1)
    started_on: Time
    finished_on: Time


class RunDetails(Part):
    builder: Builder
    metadata: Metadata
    byproducts: tuple[Descriptor, ...] = ()


class Predicate(Part):
    build_definition: BuildDefinition
    run_details: RunDetails


class ArtifactStatement(Statement[File, Predicate]):
    """The whole of `artifact.json`."""

    predicate_type: Literal["https://slsa.dev/provenance/v1"] = "https://slsa.dev/provenance/v1"

    @model_validator(mode="after")
    def _each_file_once(self) -> ArtifactStatement:
        names = [f.name for f in self.subject]
        if len(set(names)) < len(names) or DOCUMENT in names:
            raise ValueError(f"subject: a file is listed twice, or {DOCUMENT} itself")
        return self

    @property
    def id(self) -> str:
        return self.predicate.build_definition.internal_parameters.artifact_id

    @property
    def name(self) -> str:
        return self.predicate.build_definition.internal_parameters.name

    @property
    def inputs(self) -> Mapping[str, Any]:
        return self.predicate.build_definition.internal_parameters.inputs

    @property
    def files(self) -> dict[str, File]:
        return {f.name: f for f in self.subject}

    @property
    def digest(self) -> str:
        """Of everything that a server reads. Without the card: two names for the same weights are one digest."""
        return digest_of({f.name: f.sha256 for f in self.subject if f.name != CARD})

    @property
    def size_bytes(self) -> int:
        return sum(f.size for f in self.subject)

    @property
    def measured(self) -> Mapping[str, Any]:
        """Seconds by stage and sizes, where they are told."""
        for byproduct in self.predicate.run_details.byproducts:
            if byproduct.name == MEASURED and byproduct.content:
                with suppress(ValueError):
                    return parse_object(base64.b64decode(byproduct.content), MEASURED)
        return {}

    def dependency(self, name: str) -> Descriptor | None:
        return next((d for d in self.predicate.build_definition.resolved_dependencies if d.name == name), None)


def measured(values: Mapping[str, Any]) -> Descriptor:
    """What the build measured, as a byproduct."""
    content = base64.b64encode(json.dumps(values).encode()).decode()
    return Descriptor(name=MEASURED, media_type="application/json", content=content)


def parse_artifact(text: bytes, what: str = DOCUMENT) -> ArtifactStatement:
    """Raises ValueError that says everything that is missing."""
    if len(text) > MAX_BYTES:
        raise ValueError(f"{what} is longer than {MAX_BYTES} bytes")
    return parse_statement(ArtifactStatement, text, what)


def read_text(directory: Path) -> bytes:
    """`artifact.json` as it is, at most one byte more than it may have."""
    with (directory / DOCUMENT).open("rb") as f:
        return f.read(MAX_BYTES + 1)


def read_artifact(directory: Path) -> ArtifactStatement:
    """Raises ValueError for what is no artifact, or OSError."""
    return parse_artifact(read_text(directory))
