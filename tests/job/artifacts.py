"""Small published artifacts, made without a build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from controller.job import provenance
from controller.job.attestation import Descriptor
from controller.job.provenance import ArtifactStatement, File, FileDigest, FileSize
from controller.job.store import Store, directory_digests

INPUTS: dict[str, Any] = {"baseDigest": "sha256:" + "1" * 64, "dtype": "bfloat16"}
ID = provenance.id_of(INPUTS)
FILES = {"config.json": b"{}", "model-00001-of-00002.safetensors": b"one", "model-00002-of-00002.safetensors": b"two"}


def statement(directory: Path, artifact_id: str = ID, name: str = "merged-x") -> ArtifactStatement:
    """What artifact.json would say of the files in `directory`."""
    digests = directory_digests(directory)
    digests.pop(provenance.DOCUMENT, None)
    directory_of = {"dirHash": "1" * 64}
    return ArtifactStatement(
        subject=tuple(
            File(
                name=n,
                digest=FileDigest(sha256=d),
                annotations=FileSize(size_bytes=(directory / n).stat().st_size),
            )
            for n, d in digests.items()
        ),
        predicate=provenance.Predicate(
            build_definition=provenance.BuildDefinition(
                external_parameters={},
                internal_parameters=provenance.InternalParameters(artifact_id=artifact_id, name=name, inputs=INPUTS),
                resolved_dependencies=(
                    Descriptor(name="base", digest=directory_of),
                    Descriptor(name="adapter/a", digest=directory_of),
                ),
            ),
            run_details=provenance.RunDetails(
                builder=provenance.Builder(id=provenance.BUILDER, version={"merge": "1"}),
                metadata=provenance.Metadata(
                    invocation_id="urn:uuid:1", started_on="2026-01-01T00:00:00Z", finished_on="2026-01-01T00:01:00Z"
                ),
            ),
        ),
    )


def publish(store: Path, files: dict[str, bytes] | None = None) -> Path:
    """An artifact as a build leaves it in the store; its directory."""
    directory = Store(store).artifact(ID)
    directory.mkdir(parents=True)
    for name, content in (FILES if files is None else files).items():
        (directory / name).write_bytes(content)
    (directory / provenance.DOCUMENT).write_text(statement(directory).to_json())
    for path in directory.iterdir():
        path.chmod(0o444)
    directory.chmod(0o555)
    return directory
