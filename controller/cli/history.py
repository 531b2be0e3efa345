"""`history`: what has served, with the revisions that `rollback --to` takes. Must not know how to go back."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli.cluster import Context, Kubeconfig, Namespace, opened
from controller.cli.completion import release_names
from controller.cli.ending import note

if TYPE_CHECKING:
    from controller.api.status import HistoryEntry
    from controller.api.v1alpha1 import AdapterRelease

_HEAD = ("REVISION", "SERVED", "ID", "WHY", "SINCE", "NOTE")


class Format(StrEnum):
    JSON = "json"
    YAML = "yaml"


FormatOption = Annotated[Format | None, typer.Option("-o", "--output", help="json or yaml.")]


def register(app: typer.Typer) -> None:
    app.command()(history)


def history(
    name: Annotated[str, typer.Argument(help="The release.", autocompletion=release_names)],
    output: FormatOption = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Show what has served, the newest first."""
    with opened(namespace, kubeconfig, context) as cluster:
        release = cluster.release(name)
        if output is not None:
            print(written([h.to_wire() for h in release.status.history], output), end="")
        elif not release.status.history:
            note(f"nothing of {name} has served yet")
        else:
            print(rows_of(release, datetime.now(UTC)))


def rows_of(release: AdapterRelease, now: datetime) -> str:
    from controller.cli.table import table

    return table(_HEAD, [_row(release, entry, now) for entry in release.status.history])


def _row(release: AdapterRelease, entry: HistoryEntry, now: datetime) -> list[str]:
    from controller.cli.words import ago, plain, short

    what = f"{entry.backend.kind} {entry.version}".rstrip()
    id_, since = short(entry.backend.id), f"{ago(entry.since, now)} ago"
    return [plain(cell) for cell in (str(entry.revision), what, id_, entry.reason, since, _note(release, entry))]


def _note(release: AdapterRelease, entry: HistoryEntry) -> str:
    serving, pin, rollout = release.status.serving, release.spec.rollback, release.status.rollout
    said = ["serves"] if serving is not None and serving.revision == entry.revision else []
    said += ["held by spec.rollback"] if pin is not None and pin.revision == entry.revision else []
    said += ["merged only"] if entry.merge_only else []
    said += ["not observed to the end"] if entry.unobserved else []
    said += ["rejected"] if any(r.id == entry.backend.id for r in rollout.rejected) else []
    return ", ".join(said)


def written(document: Any, output: Format) -> str:
    """For scripts."""
    if output is Format.JSON:
        import json

        return json.dumps(document, indent=2) + "\n"
    from controller.cli.as_yaml import as_yaml

    return as_yaml(document)
