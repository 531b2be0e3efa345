"""The commands about an artifact that is there: verify, card, sign.

Must not know how an artifact is verified or signed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.display import shown, size
from controller.cli.ending import note, told
from controller.errors import AdapterReleaseError, PermanentError
from controller.job.failures import failure_of
from controller.job.findings import Finding, RejectedError
from controller.job.provenance import CARD
from controller.job.reasons import Reason
from controller.job.signing import signature_beside, signature_findings

if TYPE_CHECKING:
    from controller.job.provenance import ArtifactStatement
    from controller.job.verify import Wanted

Artifact = Annotated[Path, typer.Argument(help="Directory of the artifact.")]
AsJson = Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")]
PublicKey = Annotated[
    Path | None,
    typer.Option(help="Check the signature, too: by this key, in PEM.", exists=True, dir_okay=False),
]


def register(app: typer.Typer) -> None:
    for command in (verify, card, sign):
        app.command()(command)


def verify(
    artifact: Artifact,
    artifact_id: Annotated[str | None, typer.Option("--id", help="The id that it must have.")] = None,
    digest: Annotated[str | None, typer.Option(help="The digest that its files must have.")] = None,
    sizes_only: Annotated[bool, typer.Option("--sizes-only", help="Compare sizes; read no weights.")] = False,
    any_mode: Annotated[
        bool, typer.Option("--any-mode", help="Files may be writable: for copies, and volumes without modes.")
    ] = False,
    public_key: PublicKey = None,
    require_signature: Annotated[
        bool, typer.Option("--require-signature", help="Without a signature it is not good; needs --public-key.")
    ] = False,
    signature: Annotated[Path | None, typer.Option(help="The signature; default: ARTIFACT.sig beside it.")] = None,
    termination_log: Annotated[Path | None, typer.Option(help="Where a failure is written, as a job's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check that an artifact is what was published: every digest, its id, its provenance, its signature."""
    from controller.job.verify import Wanted

    wanted = Wanted(artifact_id, digest, contents=not sizes_only, modes=not any_mode)
    with told(as_json), _written(termination_log):
        if require_signature and public_key is None:
            raise PermanentError("--require-signature needs --public-key", reason=Reason.INVALID_ARGUMENT)
        began = time.monotonic()
        found, findings = verified(artifact, wanted)
        if found is not None:
            findings += _signature(artifact, public_key, signature or signature_beside(artifact), require_signature)
        if found is None or findings:
            raise RejectedError(findings)
    print(good(found, time.monotonic() - began, as_json))


def verified(artifact: Path, wanted: Wanted) -> tuple[ArtifactStatement | None, list[Finding]]:
    """What `verify` finds, with its progress shown."""
    from controller.job.progress import Progress
    from controller.job.verify import verify as run

    progress = Progress()
    with shown(progress):
        return run(artifact, wanted, lambda total: progress.stage("verify", total), progress.advance)


def verified_or_rejected(artifact: Path, wanted: Wanted) -> ArtifactStatement:
    """What a good artifact says of itself. Raises RejectedError with all findings."""
    found, findings = verified(artifact, wanted)
    if found is None or findings:
        raise RejectedError(findings)
    return found


def good(found: ArtifactStatement, seconds: float, as_json: bool) -> str:
    """What is said of an artifact that was found good after so many seconds."""
    files, total = len(found.files), found.size_bytes
    if as_json:
        said = {"ok": True, "id": found.id, "name": found.name, "digest": found.digest, "files": files}
        return json.dumps({**said, "sizeBytes": total, "seconds": round(seconds, 3), "findings": []})
    return f"good: {found.name}, {found.id}; {files} files, {size(total)} in {seconds:.1f} s"


def _signature(artifact: Path, public_key: Path | None, signature: Path, required: bool) -> list[Finding]:
    if public_key is None:
        if signature.exists():
            note(f"{signature} was not checked: give --public-key")
        return []
    if not signature.exists() and not required:
        note(f"not signed: {signature} is not there; --require-signature refuses that")
        return []
    return signature_findings(artifact, public_key, signature)


@contextmanager
def _written(termination_log: Path | None) -> Iterator[None]:
    """What went wrong, for the controller that reads it in the pod's status."""
    try:
        yield
    except (AdapterReleaseError, OSError) as e:
        if termination_log is not None:
            from controller.job.summary import Summary, termination_message

            termination_log.write_text(termination_message(Summary(kind="Verify", failure=failure_of(e))))
        raise


def card(artifact: Artifact) -> None:
    """Print an artifact's model card, with the scores that were measured of it since."""
    from controller.job.scores import scores_of

    with told():
        text = _card(artifact / CARD)
        scores = scores_of(artifact)
    print(text.partition("\n## Scores\n")[0] + f"\n## Scores\n\n{scores}", end="")


def _card(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as e:
        raise PermanentError(f"{path} is no card: {e}", reason=Reason.ARTIFACT_CORRUPTED) from e


def sign(
    artifact: Artifact,
    key: Annotated[Path, typer.Option(help="Private elliptic curve key, in PEM.", exists=True, dir_okay=False)],
    signature: Annotated[Path | None, typer.Option(help="File to write; default: ARTIFACT.sig beside it.")] = None,
) -> None:
    """Sign a good artifact by a key. Whoever has the public key can verify it, without a network."""
    with told():
        signed(artifact, key, signature or signature_beside(artifact))


def signed(artifact: Path, key: Path, signature: Path) -> None:
    """Signs what is good; never anything else."""
    from controller.job.signing import sign as run
    from controller.job.verify import Wanted

    verified_or_rejected(artifact, Wanted(modes=False))
    run(artifact, key, signature)
    note(f"signed: {signature}")
