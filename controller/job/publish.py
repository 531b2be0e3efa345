"""The last stage of a build: the card and `artifact.json` beside the finished weights, then one rename.

Must not know how the weights are made.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from controller import __version__
from controller.job import provenance
from controller.job.artifact import Inputs, human_name
from controller.job.attestation import TOOL, Descriptor
from controller.job.base import Base
from controller.job.card import card_of, hub_id, licence_of
from controller.job.contract import BuildContract, Source
from controller.job.progress import Progress
from controller.job.provenance import ArtifactStatement, File, FileDigest, FileSize
from controller.job.store import directory_digests, publish, replace_text


@dataclass(frozen=True)
class Made:
    """What a build was asked for, and what it found: all that its statement says but the files themselves.

    `base_files` are hex digests by file name.
    """

    contract: BuildContract
    inputs: Inputs
    base: Base
    base_files: Mapping[str, str]
    started: str
    invocation: str = field(default_factory=lambda: f"urn:uuid:{uuid.uuid4()}")

    @property
    def name(self) -> str:
        version = self.contract.base.revision or self.inputs.base_digest.removeprefix("sha256:")[:8]
        return human_name(self.contract.base.name, version, self.contract.adapters)


def publish_artifact(
    directory: Path,
    final: Path,
    made: Made,
    progress: Progress,
    now: Callable[[], str],
    measured: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Describes the checkpoint in `directory`, which gets the name `final`. A killed one can be called again.

    A card of the base that was copied with its other files is replaced. Raises OSError with nothing under `final`.
    """
    (directory / provenance.DOCUMENT).unlink(missing_ok=True)
    card = card_of(made.contract, made.inputs, made.name, licence_of(made.base.path))
    replace_text(directory / provenance.CARD, card)
    sizes = {p.name: p.stat().st_size for p in sorted(directory.iterdir())}
    progress.stage("publish", sum(sizes.values()))
    digests = directory_digests(directory, advance=progress.advance)
    files = [
        File(name=n, digest=FileDigest(sha256=d), annotations=FileSize(size_bytes=sizes[n])) for n, d in digests.items()
    ]
    statement = _statement(made, files, {"seconds": progress.finish(), **measured}, now())
    replace_text(directory / provenance.DOCUMENT, statement.to_json())
    publish(directory, final)


def _statement(made: Made, files: list[File], measured: Mapping[str, Any], finished: str) -> ArtifactStatement:
    sizes = {
        "base": made.base.size,
        "adapters": sum(_size(Path(a.path)) for a in made.contract.adapters),
        "artifact": sum(f.size for f in files),
    }
    return ArtifactStatement(
        subject=tuple(files),
        predicate=provenance.Predicate(
            build_definition=provenance.BuildDefinition(
                external_parameters=_asked_for(made.contract),
                internal_parameters=provenance.InternalParameters(
                    artifact_id=made.inputs.artifact_id, name=made.name, inputs=made.inputs.document()
                ),
                resolved_dependencies=tuple(_dependencies(made)),
            ),
            run_details=provenance.RunDetails(
                builder=provenance.Builder(id=provenance.BUILDER, version={TOOL: __version__, **made.inputs.tools}),
                metadata=provenance.Metadata(
                    invocation_id=made.invocation, started_on=made.started, finished_on=finished
                ),
                byproducts=(provenance.measured({**measured, "sizeBytes": sizes}),),
            ),
        ),
    )


def _size(directory: Path) -> int:
    return sum(p.stat().st_size for p in directory.iterdir() if p.is_file())


def _asked_for(contract: BuildContract) -> dict[str, Any]:
    """The contract without what only says where things were mounted, and without anything secret."""
    asked = contract.model_dump(
        mode="json", by_alias=True, exclude_none=True, include={"release", "base", "adapters", "merge", "quantization"}
    )
    for adapter in asked["adapters"]:
        del adapter["path"]
    calibration = asked.get("quantization", {}).get("calibration")
    if calibration is not None and contract.quantization is not None and contract.quantization.calibration is not None:
        for key in ("path", "root", "url", "credentials"):
            calibration.pop(key, None)
        calibration["source"] = _public(contract.quantization.calibration)
    return asked


def _public(source: Source) -> str:
    """Where data came from, without the user and query of a URL: these may be signed or hold a token."""
    if source.url is None:
        return str(source.path)
    parts = urlsplit(source.url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _dependencies(made: Made) -> list[Descriptor]:
    contract, inputs = made.contract, made.inputs
    model, revision = hub_id(contract.base), contract.base.revision
    if made.base.path.parent.name == "snapshots":
        revision = made.base.path.name  # of the Hub cache: the commit itself, whatever the revision was called
    found = [
        Descriptor(
            name=provenance.BASE,
            uri=f"pkg:huggingface/{model}" + (f"@{revision}" if revision else "") if model else None,
            digest=_directory(inputs.base_digest),
            annotations=_known(name=contract.base.name, revision=revision, files=dict(made.base_files)),
        )
    ]
    for one in contract.adapters:
        found.append(
            Descriptor(
                name=f"{provenance.ADAPTER}{one.name}",
                digest=_directory(one.digest),
                annotations=_known(version=one.version, trainingRun=one.training_run, weight=one.weight),
            )
        )
    calibration = (inputs.quantization or {}).get("calibrationDigest")
    if calibration:
        found.append(Descriptor(name=provenance.CALIBRATION, digest={"sha256": calibration.removeprefix("sha256:")}))
    return found


def _known(**details: Any) -> dict[str, Any]:
    return {k: v for k, v in details.items() if v is not None}


def _directory(digest: str) -> dict[str, str]:
    return {"dirHash": digest.removeprefix("sha256:")}
