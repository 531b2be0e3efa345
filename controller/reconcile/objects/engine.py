"""The engine plugin in a pod: the objects that ship it, and the pod spec that carries it.

One volume holds its files, the controller's token and the pod's own annotations; vLLM imports it by PYTHONPATH and
--middleware. A pod that carries it already stays as it is. Must not know: what the plugin does.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from controller.api.v1alpha1 import GROUP
from controller.domain.snapshot import ENGINE_SHORT, hex_of
from controller.engine.plugin import version
from controller.engine.plugin_client import Alias
from controller.errors import PermanentError
from controller.reconcile.arguments import Arguments, Place, arguments_of, with_arguments
from controller.reconcile.base import PLUGIN_MIDDLEWARE
from controller.reconcile.objects.metadata import MANAGED_BY_LABEL, MANAGER

Json = dict[str, Any]

ENGINE_NAME = "adapterrelease-engine"  # of the ConfigMap, the Secret and the volume
TOKEN_KEY = "token"  # noqa: S105 - the name of a file
PLUGIN_VERSION_LABEL = f"{GROUP}/plugin-version"
# Annotation of a pod, from which the plugin restores what it knew before its container restarted.
MEMORY_PREFIX = f"engine.{GROUP}/"
PLUGIN_DIRECTORY = Path(version.__file__).parent

_IMPORTED_FROM = "/opt/adapterrelease"
_PACKAGE = PLUGIN_MIDDLEWARE.partition(".")[0]
_FLAG, _MIDDLEWARE = "--middleware", PLUGIN_MIDDLEWARE
_SET_IN_SCRIPT = re.compile(r"\bPYTHONPATH=(\S*)")


class EngineNameTaken(PermanentError):  # noqa: N818 - named for what is wrong, as in controller/errors.py
    default_reason = "NameInUse"


@dataclass(frozen=True)
class Plugin:
    """The plugin's source files by name, and the version that they are."""

    files: Mapping[str, str]
    version: str


@cache
def plugin_in(directory: Path = PLUGIN_DIRECTORY) -> Plugin:
    """The plugin as this installation has it. Raises FileNotFoundError where it has none."""
    files = {path.name: path.read_text(encoding="utf-8") for path in sorted(directory.glob("*.py"))}
    if "__init__.py" not in files:
        raise FileNotFoundError(f"{directory} has no engine plugin: install the controller anew")
    return Plugin(files, version.plugin_version(directory))


def plugin_map(namespace: str, plugin: Plugin) -> Json:
    """The ConfigMap with the plugin's files. All pods of the namespace share it, so that no release owns it."""
    meta = _metadata(namespace, {PLUGIN_VERSION_LABEL: plugin.version})
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": dict(plugin.files)}


def map_change(known: Json, wanted: Json) -> Json:
    """The merge patch that makes the ConfigMap as wanted; empty where nothing is to do, or where somebody keeps the
    plugin there by other means. Raises EngineNameTaken for one that is no plugin."""
    meta, files, label = known["metadata"], known.get("data") or {}, wanted["metadata"]["labels"][PLUGIN_VERSION_LABEL]
    labels = meta.get("labels") or {}
    if PLUGIN_VERSION_LABEL not in labels:
        raise EngineNameTaken(
            f"ConfigMap {ENGINE_NAME} in namespace {meta['namespace']} is not the engine plugin: rename it or remove it"
        )
    as_wanted = files == wanted["data"] and labels[PLUGIN_VERSION_LABEL] == label
    if as_wanted or labels.get(MANAGED_BY_LABEL) != MANAGER:
        return {}
    observed = {name: meta[name] for name in ("uid", "resourceVersion")}
    return {
        "metadata": {**observed, "labels": {PLUGIN_VERSION_LABEL: label}},
        "data": {**dict.fromkeys(files), **wanted["data"]},
    }


def token_secret(namespace: str, token: str) -> Json:
    """The Secret by which a server knows the controller."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(namespace),
        "type": "Opaque",
        "data": {TOKEN_KEY: base64.b64encode(token.encode()).decode()},
    }


def backend_label(kind: str, identity: str) -> str:
    """What answers and metrics call a backend: `adapter-` or `artifact-`, and 12 characters of its digest."""
    return f"{kind}-{hex_of(identity)[:ENGINE_SHORT]}"


def memory(release: str, model_name: str, alias: Alias) -> dict[str, str]:
    """The annotation that a pod keeps of what its plugin was told about a release; `release` is its bare name."""
    says = {"name": model_name, **asdict(alias)}
    return {MEMORY_PREFIX + release: json.dumps(says, sort_keys=True, separators=(",", ":"))}


def with_plugin(pod_spec: Mapping[str, Any], container: str) -> Json:
    """The pod spec with the plugin in this container. Raises ValueError with the field that stands in the way."""
    containers = [_carrying(c) if c["name"] == container else c for c in pod_spec["containers"]]
    volumes = _with_named(pod_spec.get("volumes") or (), volume())
    return {**pod_spec, "containers": containers, "volumes": volumes}


def volume() -> Json:
    """Written out as the API server stores it, so that what it has is not changed once more."""
    annotations = {"path": "annotations", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.annotations"}}
    sources = [
        {"configMap": {"name": ENGINE_NAME}},
        {"secret": {"name": ENGINE_NAME, "optional": True}},
        {"downwardAPI": {"items": [annotations]}},
    ]
    return {"name": ENGINE_NAME, "projected": {"defaultMode": 0o644, "sources": sources}}


def mount() -> Json:
    return {"name": ENGINE_NAME, "mountPath": f"{_IMPORTED_FROM}/{_PACKAGE}", "readOnly": True}


def variable() -> Json:
    return {"name": "PYTHONPATH", "value": _IMPORTED_FROM}


def argument() -> str:
    return f"{_FLAG}={_MIDDLEWARE}"


def _carrying(container: Mapping[str, Any]) -> Json:
    arguments = arguments_of(container)
    field = f"spec.template.spec.containers[{container['name']}]"
    if arguments is None:
        raise ValueError(
            f"{field}.command: vLLM's arguments do not stand there, so {argument()} cannot be added: start vLLM by "
            "vllm serve, or by python -m vllm.entrypoints.openai.api_server, in command or args"
        )
    _refuse_a_path_of_the_script(arguments, field)
    return {
        **_started_with_it(container, arguments),
        "env": _env(container.get("env") or (), field),
        "volumeMounts": _with_named(container.get("volumeMounts") or (), mount()),
    }


def _started_with_it(container: Mapping[str, Any], arguments: Arguments) -> Mapping[str, Any]:
    """With ours as the last middleware: that one is the outermost. A script keeps its own lines."""
    ours, place = (_FLAG, (_MIDDLEWARE,)), arguments.place
    middlewares = [(o.flag, o.values) for o in arguments.options if o.flag == _FLAG]
    if middlewares[-1:] == [ours]:
        return container
    if place.before is not None and ours not in middlewares:
        script = [*(container.get("command") or ()), *(container.get("args") or ())][place.index]
        written = script.removesuffix(place.behind)
        return with_arguments(container, Place(place.index, written, place.behind), ["", argument()])
    others = [text for o in arguments.options if (o.flag, o.values) != ours for text in o.written]
    return with_arguments(container, place, [*others, argument()])


def _refuse_a_path_of_the_script(arguments: Arguments, field: str) -> None:
    for value in _SET_IN_SCRIPT.findall(arguments.place.before or ""):
        if "PYTHONPATH" not in value:
            raise ValueError(
                f"{field}: its script sets PYTHONPATH={value}, which takes the plugin's directory away: "
                f"write PYTHONPATH={value}:$PYTHONPATH"
            )


def _env(given: Sequence[Mapping[str, Any]], field: str) -> list[Json]:
    """Directories that are there come first: what they have is still found in them."""
    ours = variable()
    known = next((e for e in reversed(given) if e["name"] == ours["name"]), None)
    if known is None:
        return [*(dict(e) for e in given), ours]
    if "valueFrom" in known:
        raise ValueError(
            f"{field}.env[PYTHONPATH] has a valueFrom, to which no directory can be added: give it a value"
        )
    directories = [d for d in str(known.get("value", "")).split(":") if d]
    if ours["value"] not in directories:
        directories.append(ours["value"])
    return [dict(e) if e is not known else {**e, "value": ":".join(directories)} for e in given]


def _with_named(given: Sequence[Mapping[str, Any]], wanted: Json) -> list[Json]:
    """`wanted` in the place of the one with its name, else at the end."""
    kept = [wanted if item["name"] == wanted["name"] else dict(item) for item in given]
    return kept if wanted in kept else [*kept, wanted]


def _metadata(namespace: str, more: Mapping[str, str] | None = None) -> Json:
    standard = {
        "app.kubernetes.io/name": "adapter-release",
        "app.kubernetes.io/component": "engine-plugin",
        "app.kubernetes.io/part-of": MANAGER,
        MANAGED_BY_LABEL: MANAGER,
    }
    return {"name": ENGINE_NAME, "namespace": namespace, "labels": {**standard, **(more or {})}}
