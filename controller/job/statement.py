"""What an evaluation leaves in the store: an in-toto statement beside the artifact, with scores and no verdict.

The artifact is published before it is evaluated and never changed, so its scores cannot lie in it. The format is
https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md; what a report needs beside the scores is in
`evaluation.py`. Must not know how anything is scored.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from controller import __version__
from controller.errors import PermanentError
from controller.job.attestation import TOOL, Descriptor
from controller.job.attestation import Statement as InToto
from controller.job.contract import EvaluateContract, EvaluatedArtifact
from controller.job.evaluation import EXAMPLES_TYPE, PREDICATE_TYPE, Curves
from controller.job.examples import as_lines, examples_name, of_other_tries
from controller.job.outcomes import Scored
from controller.job.provenance import DOCUMENT, ArtifactStatement, parse_artifact, read_text
from controller.job.reasons import Reason
from controller.job.store import Store, file_digest, make_directory, publish_file
from controller.job.strict_json import read_object
from controller.job.summary import BenchmarkResult, EvaluateResult, SuiteResult

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


@dataclass(frozen=True)
class Kept:
    """What is kept beside the result: digests of the suites' files and what became of their examples, in the order of
    the suites; the benchmark's curves; when it was, and the seconds by stage."""

    digests: Sequence[str]
    scored: Sequence[Scored]
    curves: Curves | None
    started: str
    ended: str
    seconds: Mapping[str, float]


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
            suites, timed = [_measured(SuiteResult, s) for s in said["suites"]], said["benchmark"]
            return EvaluateResult.model_validate(
                {"suites": suites, "benchmark": timed and _measured(BenchmarkResult, timed)}
            )
        except (KeyError, TypeError, AttributeError, ValueError) as e:
            raise PermanentError(
                f"{self.path} does not say what was measured ({e}): remove it", reason=Reason.STORE_CORRUPTED
            ) from e

    def publish(self, contract: EvaluateContract, result: EvaluateResult, kept: Kept) -> None:
        """Writes it, unless the same inputs have one. The examples first: a statement names what is there."""
        try:
            examples = self._publish_examples(kept.scored) if contract.examples != "None" else None
            written = publish_file(self._statement(contract, result, kept, examples).to_json(), self.path)
            for path in of_other_tries(self.path, self._examples_named()):
                path.unlink(missing_ok=True)
        except OSError as e:
            raise OSError(e.errno, f"the scores could not be kept: {e.strerror}", str(self.path)) from e
        log.info("%s: %s", self.path, "written" if written else "there already, left as it is")

    def _publish_examples(self, scored: Sequence[Scored]) -> Descriptor:
        text = as_lines(self._artifact, scored)
        digest = hashlib.sha256(text.encode()).hexdigest()
        name = examples_name(self._artifact.inputs, digest)
        publish_file(text, self.path.with_name(name))
        return Descriptor(name=name, digest={"sha256": digest}, media_type=EXAMPLES_TYPE)

    def _examples_named(self) -> str | None:
        """By the statement that is there, which may be that of a try that was quicker; `kept` says if it is none."""
        try:
            return str(read_object(self.path)["predicate"]["examples"]["name"])
        except (KeyError, TypeError, ValueError):
            return None

    def _statement(
        self, contract: EvaluateContract, result: EvaluateResult, kept: Kept, examples: Descriptor | None
    ) -> InToto[Descriptor, dict[str, Any]]:
        about = self._artifact
        return InToto(
            subject=(self._subject,),
            predicate_type=PREDICATE_TYPE,
            predicate={
                "release": contract.release.model_dump(by_alias=True),
                "artifact": {"id": about.id, "digest": about.digest, "name": self._name},
                "adapter": {"digest": about.adapter_digest} if about.adapter_digest else None,
                "inputs": about.inputs,
                "suites": _suites(contract, result, kept),
                "benchmark": _benchmark(contract, result, kept),
                "examples": _wire(examples) if examples else None,
                "startedOn": kept.started,
                "finishedOn": kept.ended,
                "seconds": dict(kept.seconds),
                "tool": {"name": TOOL, "version": __version__},
            },
        )


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


def _measured(model: type[BaseModel], said: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured, without how it was asked and what is kept for a report, by this version or a later one."""
    known = {field.alias for field in model.model_fields.values()}
    return {key: value for key, value in said.items() if key in known}


def _suites(contract: EvaluateContract, result: EvaluateResult, kept: Kept) -> list[dict[str, Any]]:
    return [
        {
            **measured.model_dump(by_alias=True),
            "scorer": str(asked.scorer),
            "maxTokens": asked.max_tokens,
            "dataDigest": digest,
            "outcomes": _wire(found.outcomes) if found.outcomes else None,
        }
        for asked, measured, digest, found in zip(
            contract.suites, result.suites, kept.digests, kept.scored, strict=True
        )
    ]


def _benchmark(contract: EvaluateContract, result: EvaluateResult, kept: Kept) -> dict[str, Any] | None:
    if contract.benchmark is None or result.benchmark is None:
        return None
    curves = _wire(kept.curves) if kept.curves else None
    return {
        **contract.benchmark.model_dump(by_alias=True),
        **result.benchmark.model_dump(by_alias=True),
        "curves": curves,
    }


def _wire(part: BaseModel) -> dict[str, Any]:
    return part.model_dump(mode="json", by_alias=True, exclude_none=True)
