"""`adapterrelease report`: the report on an artifact, from its directory, from its release's status, or from both.

Must not know how a report looks, nor what it says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.cluster import Context, Kubeconfig, Namespace, opened, quiet_end
from controller.cli.ending import note, told
from controller.errors import PermanentError
from controller.job.reasons import Reason

if TYPE_CHECKING:
    from controller.api.v1alpha1 import AdapterRelease
    from controller.report.documents import Documents
    from controller.report.facts import Report


class Form(StrEnum):
    HTML = "html"
    MARKDOWN = "markdown"


def register(app: typer.Typer) -> None:
    app.command()(report)


def report(
    what: Annotated[str, typer.Argument(help="Directory of an artifact, STORE/artifacts/HEX; or name of a release.")],
    output: Annotated[Form, typer.Option("-o", "--output", help="html: a page; markdown: for a comment.")] = Form.HTML,
    out: Annotated[Path | None, typer.Option(help="File to write; default: stdout.")] = None,
    artifact: Annotated[
        Path | None,
        typer.Option(help="With a release: its artifact's directory, for all that its status does not have."),
    ] = None,
    release: Annotated[
        Path | None, typer.Option("-f", "--filename", help="With a directory: judge by this AdapterRelease, in YAML.")
    ] = None,
    evaluation: Annotated[str | None, typer.Option(help="Which one, by its file's name; default: the last.")] = None,
    without_examples: Annotated[bool, typer.Option("--without-examples", help="Leave the examples out.")] = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Report on an artifact: verdict, scores, what changed, speed, size, time and provenance."""
    with quiet_end(), told():
        if _is_directory(what):
            if artifact is not None:
                raise PermanentError("--artifact goes with the name of a release", reason=Reason.INVALID_ARGUMENT)
            made = _of_directory(Path(what), release, evaluation)
        elif release is not None:
            raise PermanentError("-f goes with the directory of an artifact", reason=Reason.INVALID_ARGUMENT)
        else:
            made = _of_release(_release(what, namespace, kubeconfig, context), artifact, evaluation)
        text = _text(_without_examples(made) if without_examples else made, output)
        if out is None:
            print(text, end="")
            return
        out.write_text(text, encoding="utf-8")
        note(f"written: {out}")


def _is_directory(what: str) -> bool:
    """A release's name has no slash; a directory of the same name that holds an artifact is meant, if there is one."""
    return "/" in what or (Path(what) / "artifact.json").is_file()


def _text(made: Report, output: Form) -> str:
    if output is Form.MARKDOWN:
        from controller.report.markdown import markdown_of

        return markdown_of(made)
    from controller.report.page import page_of

    return page_of(made)


def _without_examples(made: Report) -> Report:
    if made.examples is None:
        return made
    left_out = "The examples that changed: left out by --without-examples."
    return replace(made, examples=None, missing=(left_out, *made.missing))


def _of_directory(directory: Path, release: Path | None, evaluation: str | None) -> Report:
    documents = documents_in(directory)
    made = _reported(directory, documents, evaluation)
    if release is None:
        return made
    from controller.cli.judging import judged_by

    return judged_by(release, made, documents, evaluation)


def _of_release(release: AdapterRelease, artifact: Path | None, evaluation: str | None) -> Report:
    from controller.report.release import judged, of_release

    if artifact is None:
        made = of_release(release)
        if made is None:
            raise PermanentError(
                f"release {release.metadata.name} has no artifact: nothing was merged yet; see its condition"
                " ArtifactBuilt",
                reason=Reason.ARTIFACT_NOT_FOUND,
            )
        return made
    documents, status = documents_in(artifact), release.status.artifact
    kept = status.validation_inputs if status is not None else ""
    chosen = evaluation or (kept if f"{kept}.json" in documents.beside else None)
    return judged(_reported(artifact, documents, chosen), release)


def _reported(directory: Path, documents: Documents, evaluation: str | None) -> Report:
    from controller.report.documents import report_of

    try:
        return report_of(documents, evaluation)
    except ValueError as e:
        raise PermanentError(f"{directory}: {e}", reason=Reason.INVALID_ARGUMENT) from e


def documents_in(directory: Path) -> Documents:
    from controller.job.provenance import read_text
    from controller.report.documents import Documents

    directory = directory.resolve()
    return Documents(read_text(directory), _Beside(directory.with_name(f"{directory.name}.evaluations")))


class _Beside(Mapping[str, bytes]):
    """The files of a directory by name, each read when it is asked for: most of them are not."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        found = sorted(directory.iterdir()) if directory.is_dir() else []
        self._names = [p.name for p in found if p.is_file() and not p.is_symlink()]

    def __getitem__(self, name: str) -> bytes:
        from controller.job.strict_json import MAX_BYTES

        if name not in self._names:  # it may be a path, since somebody else has written it
            raise KeyError(name)
        with (self._directory / name).open("rb") as f:
            return f.read(MAX_BYTES)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _release(name: str, namespace: str | None, kubeconfig: str | None, context: str | None) -> AdapterRelease:
    with opened(namespace, kubeconfig, context) as cluster:
        return cluster.release(name)
