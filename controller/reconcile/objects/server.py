"""The vLLM container of a merged Deployment: the base's, with the artifact as its model and without LoRA."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from controller.reconcile.arguments import Arguments, Option, arguments_of, env_of, quoted, with_arguments
from controller.reconcile.objects.security import container_security
from controller.reconcile.objects.stopping import Stopping

Json = dict[str, Any]

_LORA = re.compile(r"--(no-)?([\w-]+-)?loras?(-[\w-]+)?")
_REPLACED = frozenset(
    {
        *("", "--model", "--served-model-name", "--shutdown-timeout"),
        *("--quantization", "-q", "--quantization-param-path"),  # the artifact's config says how it is quantized
        *("--revision", "--code-revision"),  # of the base's repository
    }
)
# Ways to load a base that do not fit a directory of safetensors.
_OTHER_FORMATS = frozenset({"bitsandbytes", "dummy", "gguf", "mistral", "npcache", "pt", "sharded_state", "tensorizer"})
_TMP = "/tmp"  # noqa: S108 - a path in the pod


def merged_container(container: Mapping[str, Any], path: str, model_name: str, port: int, stop: Stopping) -> Json:
    """`path` is the artifact's, `model_name` what clients send. Raises ValueError when it does not start vLLM."""
    arguments = arguments_of(container)
    if arguments is None:
        raise ValueError(f"container {container['name']} does not start vLLM")
    made = with_arguments(container, arguments.place, _written(arguments, path, model_name, stop))
    return {
        **made,
        "env": _env(container),
        "lifecycle": {**(container.get("lifecycle") or {}), "preStop": dict(stop.pre_stop)},
        "readinessProbe": container.get("readinessProbe") or _readiness(port),
        "resources": _resources(container),
        "securityContext": container_security(read_only_root=True),
        "volumeMounts": _mounts(container),
    }


def other_container(container: Mapping[str, Any]) -> Json:
    """A sidecar or init container of the base: as it is, but without privileges."""
    given = container.get("securityContext") or {}
    read_only = bool(given.get("readOnlyRootFilesystem", False))
    return {**container, "resources": _resources(container), "securityContext": container_security(read_only)}


def needs_tmp(container: Mapping[str, Any]) -> bool:
    return all(m["mountPath"].rstrip("/") != _TMP for m in container.get("volumeMounts") or ())


def _written(arguments: Arguments, path: str, model_name: str, stop: Stopping) -> list[str]:
    """The arguments as written, in their order, but for the model and what does not fit a merged model."""
    place = arguments.place
    positional = not arguments.has("--model") and any(not o.flag for o in arguments.options)
    model = [quoted(place, path)] if positional else ["--model", quoted(place, path)]
    kept = [text for option in arguments.options if _fits(option) for text in option.written]
    return [
        *model,
        *kept,
        *("--served-model-name", quoted(place, model_name)),
        *("--shutdown-timeout", str(stop.shutdown_timeout)),
    ]


def _fits(option: Option) -> bool:
    if option.flag in _REPLACED or _LORA.fullmatch(option.flag):
        return False
    return option.flag != "--load-format" or not _OTHER_FORMATS.intersection(option.values)


def _env(container: Mapping[str, Any]) -> list[Json]:
    kept = [dict(e) for e in container.get("env") or () if "LORA" not in e["name"]]
    if "HOME" not in env_of(container):
        kept.append({"name": "HOME", "value": _TMP})  # the root file system is read-only
    return kept


def _readiness(port: int) -> Json:
    return {"httpGet": {"path": "/health", "port": port}, "periodSeconds": 2, "failureThreshold": 3}


def _resources(container: Mapping[str, Any]) -> Json:
    resources = dict(container.get("resources") or {})
    known = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    missing = {k: v for k, v in {"cpu": "100m", "memory": "256Mi"}.items() if k not in known}
    return {**resources, "requests": {**(resources.get("requests") or {}), **missing}}


def _mounts(container: Mapping[str, Any]) -> list[Json]:
    mounts = [dict(m) for m in container.get("volumeMounts") or ()]
    return [*mounts, {"name": "merged-tmp", "mountPath": _TMP}] if needs_tmp(container) else mounts
