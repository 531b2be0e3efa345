"""`adapterrelease enable`: the engine plugin into a base Deployment, after showing what that changes.

Writes the ConfigMap and the Deployment and nothing else; the Secret with the token is the controller's to make.
Must not know: what the plugin does, or how a pod carries it.
"""

from __future__ import annotations

import difflib
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli.cluster import Context, Kubeconfig, Namespace, checked, opened, quiet_end
from controller.cli.ending import DONE, FAILED, note, told
from controller.cli.keepers import keepers
from controller.errors import Conflict, NotFound, PermanentError, TransientError

if TYPE_CHECKING:
    from controller.runtime.client import KubeClient

Json = dict[str, Any]

_TRIES = 10


def register(app: typer.Typer) -> None:
    app.command()(enable)


def enable(
    deployment: Annotated[str | None, typer.Argument(help="The base: a Deployment that runs vLLM.")] = None,
    namespace: Namespace = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the patch; change nothing.")] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
    show: Annotated[bool, typer.Option("--print", help="Print what to keep in Git instead, for any base.")] = False,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Add the engine plugin to a base Deployment: updates without a gap, metrics by release, closed doors."""
    with quiet_end(), told():
        if show:
            print(for_git(namespace), end="")
            return
        if deployment is None:
            raise PermanentError("name the Deployment, or give --print", reason="InvalidArgument")
    with opened(namespace, kubeconfig, context) as cluster:
        name = checked(deployment, "a Deployment")
        code = _enable(cluster.client, cluster.namespace, name, ask=not yes, dry_run=dry_run)
    raise typer.Exit(code)


@dataclass(frozen=True)
class Change:
    """What is to be written; an empty patch writes nothing."""

    new_map: Json | None
    map_patch: Json
    patch: Json
    shown: str

    @property
    def is_empty(self) -> bool:
        return self.new_map is None and not self.map_patch and not self.patch


def _enable(client: KubeClient, namespace: str, name: str, *, ask: bool, dry_run: bool) -> int:
    change = _change(client, namespace, name)
    print(change.shown, end="")
    if change.is_empty:
        note(f"Deployment {name} in namespace {namespace} carries the engine plugin: nothing to do")
        return DONE
    if dry_run:
        note("dry run: nothing was changed")
        return DONE
    if change.patch:
        note(f"the pods of Deployment {name} will be replaced, as its strategy says")
    if ask and not typer.confirm(f"Write this to namespace {namespace} at {client.host}?", err=True):
        note("nothing was changed")
        return FAILED
    _write(client, namespace, name, change)
    note(f"written: kubectl -n {namespace} rollout status deployment/{name}")
    return DONE


def _change(client: KubeClient, namespace: str, name: str) -> Change:
    from controller.reconcile.objects.engine import ENGINE_NAME, map_change, plugin_in, plugin_map
    from controller.runtime.resources import CONFIGMAPS, DEPLOYMENTS

    plugin = plugin_in()
    known = client.get(DEPLOYMENTS.path(namespace, name))
    patch, shown = patched(known)
    _note_keepers(known)
    wanted = plugin_map(namespace, plugin)
    try:
        there = client.get(CONFIGMAPS.path(namespace, ENGINE_NAME))
    except NotFound:
        files = f"ConfigMap {ENGINE_NAME}: will be made, version {plugin.version} of the plugin\n"
        return Change(wanted, {}, patch, files + shown)
    map_patch = map_change(there, wanted)
    files = f"ConfigMap {ENGINE_NAME}: will be brought to version {plugin.version} of the plugin\n" if map_patch else ""
    return Change(None, map_patch, patch, files + shown)


def _write(client: KubeClient, namespace: str, name: str, change: Change) -> None:
    """The files first: pods that do not find them do not start."""
    from controller.reconcile.objects.engine import ENGINE_NAME
    from controller.runtime.resources import CONFIGMAPS, DEPLOYMENTS

    if change.new_map is not None:
        client.create(CONFIGMAPS.path(namespace), change.new_map)
    if change.map_patch:
        client.merge_patch(CONFIGMAPS.path(namespace, ENGINE_NAME), change.map_patch)
    if change.patch:
        _patch(client, DEPLOYMENTS.path(namespace, name), change.patch)


def _patch(client: KubeClient, path: str, shown: Json) -> None:
    """What was shown, and nothing else. The version moves with the status, too: that alone is no reason to stop."""
    for _ in range(_TRIES):
        patch, _ = patched(client.get(path))
        if patch.get("spec") != shown["spec"]:
            break
        with suppress(Conflict):
            client.merge_patch(path, patch)
            return
    raise TransientError("the Deployment has changed since it was shown: run this again", reason="Conflict")


def patched(deployment: Json) -> tuple[Json, str]:
    """The merge patch that puts the plugin into the Deployment, and the difference for people; both empty where it
    is in already. Raises PermanentError with the field that stands in the way."""
    from controller.reconcile.base import CONTAINER_ANNOTATION, vllm_container
    from controller.reconcile.objects.engine import with_plugin

    name = deployment["metadata"]["name"]
    _refuse_what_others_make(deployment)
    container = vllm_container(deployment)
    if container is None:
        raise PermanentError(
            f"Deployment {name}, spec.template.spec.containers: none of them starts vLLM; name the one that does in "
            f"the annotation {CONTAINER_ANNOTATION}",
            reason="NoVllmContainer",
        )
    before = deployment["spec"]["template"]["spec"]
    try:
        after = with_plugin(before, container["name"])
    except ValueError as error:
        raise PermanentError(f"Deployment {name}, {error}", reason="NotExtensible") from error
    changed = {field: value for field, value in after.items() if value != before.get(field)}
    if not changed:
        return {}, ""
    meta = {key: deployment["metadata"][key] for key in ("uid", "resourceVersion")}
    return {"metadata": meta, "spec": {"template": {"spec": changed}}}, _difference(name, before, after)


def _refuse_what_others_make(deployment: Json) -> None:
    from controller.api.v1alpha1 import RELEASE_LABEL

    meta = deployment["metadata"]
    if RELEASE_LABEL in (meta.get("labels") or {}):
        message = f"Deployment {meta['name']} is a merged model's: those carry the engine plugin from the start"
        raise PermanentError(message, reason="NotABase")
    for owner in meta.get("ownerReferences") or ():
        if owner.get("controller"):
            raise PermanentError(
                f"Deployment {meta['name']}, metadata.ownerReferences: it is made by {owner['kind']} {owner['name']}, "
                "which would undo a change here: add there what `adapterrelease enable --print` says",
                reason="NotABase",
            )


def _note_keepers(deployment: Json) -> None:
    for keeper in keepers(deployment):
        note(f"{keeper} keeps this Deployment; add there, too, what `adapterrelease enable --print` says")


def _difference(name: str, before: Json, after: Json) -> str:
    from controller.cli.as_yaml import as_yaml

    def lines(spec: Json) -> list[str]:
        shown = {"spec": {"template": {"spec": spec}}}
        return as_yaml(shown, sort_keys=True).splitlines(keepends=True)

    return "".join(difflib.unified_diff(lines(before), lines(after), f"Deployment {name}", "with the engine plugin"))


def for_git(namespace: str | None) -> str:
    """What goes into the Deployment, as comments, and the ConfigMap, ready to be applied."""
    from controller.reconcile.objects.engine import argument, mount, plugin_in, plugin_map, variable, volume
    from controller.reconcile.objects.metadata import MANAGED_BY_LABEL

    made = plugin_map(namespace or "", plugin_in())
    del made["metadata"]["labels"][MANAGED_BY_LABEL]  # it is yours: the controller leaves it as it is
    if not namespace:
        del made["metadata"]["namespace"]
    from controller.cli.as_yaml import as_yaml

    inline = {
        "args": [argument()],
        "env": [variable()],
        "volumeMounts": [mount()],
        "volumes": [volume()],
    }
    told = {key: f"# {key}: {json.dumps(value)}\n" for key, value in inline.items()}
    return (
        "# In the container of vLLM, behind what is there:\n"
        f"{told['args']}{told['env']}{told['volumeMounts']}"
        "# In the pod:\n"
        f"{told['volumes']}"
        f"{as_yaml(made)}"
    )
