"""promote, rollback, retry, abort, pause, resume: one edit of a release, said before and after, checked against others.

Must not know: what the edits are (edits.py, holds.py).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli.cluster import Cluster, Context, Kubeconfig, Namespace, as_release, opened
from controller.cli.completion import release_names
from controller.cli.ending import note
from controller.errors import Conflict, TransientError

if TYPE_CHECKING:
    from controller.api.v1alpha1 import AdapterRelease
    from controller.cli.edits import Edit

Json = dict[str, Any]
MakeEdit = Callable[["AdapterRelease"], "Edit"]

_TRIES = 10

Name = Annotated[str, typer.Argument(help="The release.", autocompletion=release_names)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the patch and have the API server check it, no more.")]


def register(app: typer.Typer) -> None:
    for command in (promote, rollback, retry, abort, pause, resume):
        app.command()(command)


def promote(
    name: Name,
    full: Annotated[bool, typer.Option("--full", help="In a canary: past all steps that wait, not only this.")] = False,
    dry_run: DryRun = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Go forward: set the stage to Stable, or let the step of a canary go on that waits for a person."""
    from controller.cli import edits

    _steer(name, lambda release: edits.promote(release, full), dry_run, namespace, kubeconfig, context)


def rollback(
    name: Name,
    to: Annotated[
        int | None, typer.Option("--to", help="Revision, as `history` shows; default: the one before.")
    ] = None,
    dry_run: DryRun = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Go back: to the adapter of an artifact (stage Experimental), or to a revision (spec.rollback)."""
    from controller.cli import edits

    _steer(name, lambda release: edits.rollback(release, to), dry_run, namespace, kubeconfig, context)


def retry(
    name: Name,
    anyway: Annotated[bool, typer.Option("--anyway", help="Also where nothing has failed: all of it anew.")] = False,
    dry_run: DryRun = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Try once more what failed for the spec as it is."""
    from controller.cli import edits

    now = datetime.now(UTC)
    _steer(name, lambda release: edits.retry(release, now, anyway), dry_run, namespace, kubeconfig, context)


def abort(
    name: Name,
    dry_run: DryRun = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Stop what is under way, and stay with, or go back to, what served before."""
    from controller.cli import holds

    _steer(name, holds.abort, dry_run, namespace, kubeconfig, context)


def pause(
    name: Name,
    dry_run: DryRun = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Hold a canary at its weight, or else the release at the revision that serves."""
    from controller.cli import holds

    _steer(name, holds.pause, dry_run, namespace, kubeconfig, context)


def resume(
    name: Name,
    dry_run: DryRun = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """End what `pause` or `rollback --to` hold."""
    from controller.cli import holds

    _steer(name, holds.resume, dry_run, namespace, kubeconfig, context)


def _steer(
    name: str, make: MakeEdit, dry_run: bool, namespace: str | None, kubeconfig: str | None, context: str | None
) -> None:
    from controller.cli.keepers import keepers
    from controller.cli.standing import command

    with opened(namespace, kubeconfig, context) as cluster:
        raw = cluster.raw_release(name)
        edit = make(as_release(raw))
        note(f"{name}: {edit.will}")
        if not edit.patch:
            return
        for keeper in keepers(raw):
            note(f"{keeper} keeps this release, and may undo the change: make it there, too")
        written = _write(cluster, name, raw, edit, make, dry_run)
        if dry_run:
            _show(edit.patch)
            note("dry run: the API server would take this; nothing was changed")
            return
        print(f"{name} patched, generation {written['metadata']['generation']}")
        note(f"watch it: {command('status', as_release(written))} -w")


def _show(patch: Json) -> None:
    from controller.cli.as_yaml import as_yaml

    print(as_yaml(patch), end="")


def _write(cluster: Cluster, name: str, raw: Json, edit: Edit, make: MakeEdit, dry_run: bool) -> Json:
    """What was shown, and nothing else. The version moves with the status, too: that alone is no reason to stop. A new
    generation is one, whatever was edited: a null in a patch does not say whose value it takes away."""
    from controller.reconcile.caches import RELEASES

    path = RELEASES.path(cluster.namespace, name) + ("?dryRun=All" if dry_run else "")
    for _ in range(_TRIES):
        checked = {key: raw["metadata"][key] for key in ("uid", "resourceVersion")}
        patch = {**edit.patch, "metadata": {**edit.patch.get("metadata", {}), **checked}}
        with suppress(Conflict):
            return cluster.client.merge_patch(path, patch)
        seen, raw = raw["metadata"], cluster.raw_release(name)
        is_the_same = all(raw["metadata"][key] == seen[key] for key in ("uid", "generation"))
        if not is_the_same or make(as_release(raw)).patch != edit.patch:
            break
    raise TransientError(f"release {name} has changed since it was read: look at it and try again", reason="Conflict")
