"""`get`: releases at a glance, where each stands and what merging brought. Must not know how one is assessed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli.cluster import Cluster, Context, Kubeconfig, Namespace, as_release, opened
from controller.cli.completion import release_names
from controller.cli.ending import REJECTED, note
from controller.errors import PermanentError

if TYPE_CHECKING:
    from controller.api.v1alpha1 import AdapterRelease

Json = dict[str, Any]

_HEAD = ("NAME", "STAGE", "SERVING", "STATE", "SPEEDUP", "AGE")
_WIDE = ("BASE", "VERSION", "ARTIFACT", "READY", "STEP", "MESSAGE")


class Output(StrEnum):
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


def register(app: typer.Typer) -> None:
    app.command()(get)


def get(
    names: Annotated[list[str] | None, typer.Argument(help="Default: all.", autocompletion=release_names)] = None,
    everywhere: Annotated[bool, typer.Option("-A", "--all-namespaces", help="Of all namespaces.")] = False,
    selector: Annotated[str | None, typer.Option("-l", "--selector", help="Labels, as in team=support.")] = None,
    output: Annotated[Output | None, typer.Option("-o", "--output", help="wide, json, yaml or name.")] = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """List releases: what serves, how far each is, and how much faster merging made it."""
    with opened(namespace, kubeconfig, context) as cluster:
        found = _read(cluster, names or [], everywhere, selector)
        if output in (Output.JSON, Output.YAML):
            print(_document(found, bool(names) and len(found) == 1, output), end="")
        elif output is Output.NAME:
            print("".join(f"adapterrelease.adapterrelease.dev/{r['metadata']['name']}\n" for r in found), end="")
        elif not found:
            note(f"no releases{'' if everywhere else f' in namespace {cluster.namespace}'}")
        else:
            _print_rows(found, everywhere, output is Output.WIDE)


def _read(cluster: Cluster, names: Sequence[str], everywhere: bool, selector: str | None) -> list[Json]:
    if names and (everywhere or selector):
        raise typer.BadParameter("give names, or -A or -l, and not both")
    if names:
        return [cluster.raw_release(name) for name in names]
    return cluster.raw_releases(everywhere, selector)


def _document(found: list[Json], alone: bool, output: Output) -> str:
    document: Any = found[0] if alone else {"apiVersion": "v1", "kind": "List", "items": found}
    if output is Output.JSON:
        import json

        return json.dumps(document, indent=2) + "\n"
    from controller.cli.as_yaml import as_yaml

    return as_yaml(document)


def _print_rows(found: Sequence[Json], everywhere: bool, wide: bool) -> None:
    """One that this command cannot read does not hide the others."""
    from controller.cli.table import table

    now, rows, problems = datetime.now(UTC), [], []
    for raw in found:
        try:
            rows.append(_row(as_release(raw), everywhere, wide, now))
        except PermanentError as error:
            rows.append(_unreadable(raw, error, everywhere, wide))
            problems.append(error)
    print(table(("NAMESPACE",) * everywhere + _HEAD + _WIDE * wide, rows))
    for problem in problems:
        note(f"adapterrelease: {problem.reason}: {problem.message}")
    if problems:
        raise typer.Exit(REJECTED)


def _unreadable(raw: Json, error: PermanentError, everywhere: bool, wide: bool) -> list[str]:
    meta = raw["metadata"]
    return [meta["namespace"]] * everywhere + [meta["name"], "", "", error.reason, "", ""] + [""] * len(_WIDE) * wide


def _row(release: AdapterRelease, everywhere: bool, wide: bool, now: datetime) -> list[str]:
    from controller.cli.standing import serves_what, standing
    from controller.cli.words import ago, moment, plain, short

    meta, spec, status, found = release.metadata, release.spec, release.status, standing(release, now)
    speedup = f"{status.artifact.speedup}x" if status.artifact is not None and status.artifact.speedup else ""
    row = [meta.namespace] * everywhere
    row += [meta.name, spec.stage.value, serves_what(release), found.word, speedup]
    row += [ago(moment(meta.creation_timestamp), now)]
    if wide:
        ready = next((c.status for c in status.conditions if c.type == "Ready"), "")
        artifact = short(status.artifact.id) if status.artifact is not None else ""
        row += [spec.base_ref.name, spec.adapters[0].version, artifact, ready, status.rollout.step.value]
        row += [found.message.replace("\n", " ")]
    return [plain(cell) for cell in row]
