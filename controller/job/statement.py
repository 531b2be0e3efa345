"""What an evaluation leaves in the store: an in-toto statement beside the artifact, with scores and no verdict.

The artifact is published before it is evaluated and never changed, so its scores cannot lie in it. The format is
https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md. Must not know how anything is scored.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from controller import __version__
from controller.errors import PermanentError
from controller.job.attestation import TOOL, Descriptor
from controller.job.attestation import Statement as InToto
from controller.job.contract import EvaluateContract, EvaluatedArtifact
from controller.job.provenance import DOCUMENT, ArtifactStatement, parse_artifact, read_text
from controller.job.reasons import Reason
from controller.job.store import Store, file_digest, make_directory, publish_file
from controller.job.strict_json import read_object
from controller.job.summary import EvaluateResult

PREDICATE_TYPE = "https://adapterrelease.dev/evaluation/v1alpha1"

# What a suite and the benchmark say of how they were asked, beside what was measured.
_ASKED = {"scorer", "maxTokens", "dataDigest", "concurrency", "requests"}

log = logging.getLogger("adapterrelease.job")


def statement_path(store: Store, artifact: EvaluatedArtifact) -> Path:
    return store.evaluations(artifact.id) / f"{artifact.inputs}.json"


def kept_beside(directory: Path, contract: EvaluateContract) -> EvaluateContract:
    """The contract, with its scores kept beside the artifact in `directory`: without a controller that names them.

    Their name is a digest of what is asked of whom. Raises PermanentError if no artifact of a store is there.
    """
    directory = directory.resolve()
    found, _ = _read(directory)
    store = Store(directory.parent.parent)
    if store.artifact(found.id) != directory:
        raise PermanentError(
            f"{directory} is not where {found.id} lies in a store: give STORE/artifacts/HEX",
            reason=Reason.INVALID_ARGUMENT,
        )
    data = [file_digest(Path(s.source.path)) for s in contract.suites if s.source.path is not None]
    inputs = hashlib.sha256("\n".join([contract.to_json(), *data]).encode()).hexdigest()
    artifact = EvaluatedArtifact(id=found.id, digest=found.digest, inputs=inputs)
    return contract.model_copy(update={"store": str(store.root), "artifact": artifact})


class Statement:
    """The statement of one evaluation. Made before anything is measured, so that what cannot be kept fails at once.

    Raises PermanentError if the artifact is not the one that was built, OSError if nothing can be written.
    """

    def __init__(self, store: Store, artifact: EvaluatedArtifact) -> None:
        self.path = statement_path(store, artifact)
        self._artifact = artifact
        self._name, digest = _identified(store.artifact(artifact.id), artifact)
        self._subject = subject_of(store.artifact(artifact.id), digest)
        _make_writable(store, self.path.parent)
        _is_about(self.path, self._subject)

    def kept(self) -> EvaluateResult | None:
        """What the statement says that is there already: the verdict rests on no other scores than these."""
        if not self.path.exists():
            return None
        try:
            said = read_object(self.path)["predicate"]
            suites, timed = [_measured(s) for s in said["suites"]], said["benchmark"]
            return EvaluateResult.model_validate({"suites": suites, "benchmark": timed and _measured(timed)})
        except (KeyError, TypeError, AttributeError, ValueError) as e:
            raise PermanentError(
                f"{self.path} does not say what was measured ({e}): remove it", reason=Reason.STORE_CORRUPTED
            ) from e

    def publish(
        self, contract: EvaluateContract, result: EvaluateResult, digests: Sequence[str], started: str, ended: str
    ) -> None:
        """Writes it, unless the same inputs have one. `digests` are those of the suites' files, in their order."""
        about = self._artifact
        statement: InToto[Descriptor, dict[str, Any]] = InToto(
            subject=(self._subject,),
            predicate_type=PREDICATE_TYPE,
            predicate={
                "release": contract.release.model_dump(by_alias=True),
                "artifact": {"id": about.id, "digest": about.digest, "name": self._name},
                "adapter": {"digest": about.adapter_digest} if about.adapter_digest else None,
                "inputs": about.inputs,
                "suites": _suites(contract, result, digests),
                "benchmark": _benchmark(contract, result),
                "startedOn": started,
                "finishedOn": ended,
                "tool": {"name": TOOL, "version": __version__},
            },
        )
        try:
            written = publish_file(statement.to_json(), self.path)
        except OSError as e:
            raise OSError(e.errno, f"the scores could not be kept: {e.strerror}", str(self.path)) from e
        log.info("%s: %s", self.path, "written" if written else "there already, left as it is")


def subject_of(directory: Path, sha256: str) -> Descriptor:
    """The artifact in `directory`: its document, which lists every file of it with its digest."""
    return Descriptor(name=f"{directory.name}/{DOCUMENT}", digest={"sha256": sha256})


def _identified(directory: Path, artifact: EvaluatedArtifact) -> tuple[str, str]:
    """The artifact's name, and the sha256 of its document."""
    found, digest = _read(directory)
    if (found.id, found.digest) != (artifact.id, artifact.digest):
        raise PermanentError(
            f"{directory}/{DOCUMENT} is not that of {artifact.id} with the files {artifact.digest}: somebody changed"
            f" it. Remove {directory} and build again",
            reason=Reason.ARTIFACT_CORRUPTED,
        )
    return found.name, digest


def _read(directory: Path) -> tuple[ArtifactStatement, str]:
    try:
        text = read_text(directory)
        return parse_artifact(text, str(directory / DOCUMENT)), hashlib.sha256(text).hexdigest()
    except (FileNotFoundError, NotADirectoryError, ValueError) as e:
        raise PermanentError(f"no artifact is in {directory}: {e}", reason=Reason.ARTIFACT_CORRUPTED) from e


def _make_writable(store: Store, directory: Path) -> None:
    """Makes the directory, and sees that it is where its name says: a link could lead into what must not change."""
    expected = store.root.resolve() / directory.relative_to(store.root)
    if directory.resolve() != expected:
        raise PermanentError(
            f"{directory} leads to {directory.resolve()}: remove that link", reason=Reason.STORE_CORRUPTED
        )
    make_directory(directory)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(
            f"the scores could not be kept: {directory} cannot be written to by user {os.getuid()}; set its owner, or"
            " fsGroup in the base's pod template"
        )


def _is_about(path: Path, subject: Descriptor) -> None:
    """A statement that is there already is of this artifact, not of one that was deleted and built again."""
    if not path.exists():
        return
    try:
        known = read_object(path).get("subject")
    except ValueError as e:
        raise PermanentError(f"{e}: remove {path}", reason=Reason.STORE_CORRUPTED) from e
    if known != [subject.model_dump(by_alias=True, exclude_none=True)]:
        raise PermanentError(
            f"{path} is about an artifact that is there no more: remove it", reason=Reason.STORE_CORRUPTED
        )


def _measured(said: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in said.items() if key not in _ASKED}


def _suites(contract: EvaluateContract, result: EvaluateResult, digests: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            **scored.model_dump(by_alias=True),
            "scorer": str(asked.scorer),
            "maxTokens": asked.max_tokens,
            "dataDigest": digest,
        }
        for asked, scored, digest in zip(contract.suites, result.suites, digests, strict=True)
    ]


def _benchmark(contract: EvaluateContract, result: EvaluateResult) -> dict[str, Any] | None:
    if contract.benchmark is None or result.benchmark is None:
        return None
    return {**contract.benchmark.model_dump(by_alias=True), **result.benchmark.model_dump(by_alias=True)}
