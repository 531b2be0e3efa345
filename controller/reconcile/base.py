"""What the base Deployment says about its vLLM server: model, LoRA limits, port, API key, store.

Reads the pod template only, never a running server. Each Problem says what to change in the Deployment.
Must not know: releases.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from controller.api.reasons import Reason
from controller.api.v1alpha1 import GROUP, STORE_ANNOTATION
from controller.domain.capacity import selecting
from controller.domain.snapshot import BaseFacts, Problem
from controller.reconcile.arguments import Arguments, arguments_of, env_of
from controller.reconcile.volumes import Mounted, claims_of

Json = Mapping[str, Any]

CONTAINER_ANNOTATION = f"{GROUP}/container"

# vLLM's own defaults (vllm/config/lora.py, vllm/entrypoints/launchers/cli_args.py, 0.32)
_PORT = 8000
_MAX_LORAS = 1
_MAX_LORA_RANK = 16

# What vLLM imports as --middleware (controller/engine/plugin, as it is mounted).
PLUGIN_MIDDLEWARE = "adapterrelease_engine.Middleware"
_UPDATING = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
_API_KEY = "VLLM_API_KEY"
_REFERENCE = re.compile(r"\$\(?\{?(\w+)\}?\)?")


def base_facts(deployment: Json) -> BaseFacts:
    """The facts, and the problems that keep the Deployment from being a base."""
    spec, template = deployment["spec"], deployment["spec"]["template"]
    container = vllm_container(deployment)
    arguments = arguments_of(container) if container else None
    if container is None or arguments is None or not arguments.model:
        return _unreadable(deployment, container)
    store, store_problem = _store(deployment, container)
    max_loras = _number(arguments, "--max-loras", _MAX_LORAS)
    secret = _api_key_secret(container, arguments)
    problems = [*_lora_problems(deployment, container, arguments), *([store_problem] if store_problem else [])]
    return BaseFacts(
        name=deployment["metadata"]["name"],
        model=arguments.model,
        served_names=tuple(arguments.values("--served-model-name")) or (arguments.model,),
        port=_number(arguments, "--port", _PORT),
        store_claim=(store.claim or "") if store else "",
        store_path=store.path if store else "",
        max_loras=max_loras,
        max_cpu_loras=max(_number(arguments, "--max-cpu-loras", max_loras), max_loras),
        max_lora_rank=_number(arguments, "--max-lora-rank", _MAX_LORA_RANK),
        replicas=_replicas(deployment),
        selector=_selector(spec),
        template=template,
        container=container["name"],
        api_key_secret=secret,
        api_key_is_plain=secret is None and _plain_api_key(container, arguments) is not None,
        has_plugin=_has_plugin(arguments),
        problems=tuple(problems),
    )


def _has_plugin(arguments: Arguments) -> bool:
    return any(o.flag == "--middleware" and PLUGIN_MIDDLEWARE in o.values for o in arguments.options)


def services_of_base(deployment: Json, pods: Iterable[Json], services: Iterable[Json]) -> list[str]:
    """Names of the Services that select its pods, by the labels of the template, or by one that was put on later."""
    labels = [(x.get("metadata") or {}).get("labels") or {} for x in (deployment["spec"]["template"], *pods)]
    return selecting([(s["metadata"]["name"], s["spec"].get("selector") or {}) for s in services], labels)


def vllm_container(deployment: Json) -> Json | None:
    """The container that the annotation names, else the one that looks most like vLLM."""
    template = deployment["spec"]["template"]
    containers = template["spec"].get("containers") or ()
    named = _annotation(deployment, CONTAINER_ANNOTATION)
    if named is not None:
        return next((c for c in containers if c["name"] == named), None)
    best = max(containers, key=_likeness, default=None)
    return best if best is not None and _likeness(best) else None


def container_in(base: BaseFacts) -> Json:
    """The vLLM container of a base whose facts could be read."""
    return next(c for c in base.template["spec"]["containers"] if c["name"] == base.container)


def plain_api_key(base: BaseFacts) -> str | None:
    """The API key, where it stands in the pod template itself."""
    if base.api_key_secret is not None or not base.container:
        return None
    container = container_in(base)
    return _plain_api_key(container, arguments_of(container))


def _likeness(container: Json) -> int:
    """4: starts vLLM. 3: runs a program of that name. 2: has such an image. 1: has such an argument. 0: no."""
    line = [*(container.get("command") or ()), *(container.get("args") or ())]
    if re.search(r"\bvllm serve\b|\bvllm\.entrypoints\b", " ".join(line)):
        return 4
    if any(PurePosixPath(text).name == "vllm" for text in line):
        return 3
    if "vllm" in container.get("image", ""):
        return 2
    has_argument = any(re.match(r"--(model|enable[-_]lora)\b", text) for text in line)
    return 1 if has_argument or line[:1] == ["serve"] else 0


def _unreadable(deployment: Json, container: Json | None) -> BaseFacts:
    name = deployment["metadata"]["name"]
    if container is None:
        message = (
            f"Deployment {name} has no container that starts vLLM: name it in the annotation {CONTAINER_ANNOTATION}"
        )
    else:
        message = (
            f"container {container['name']} of Deployment {name} does not say which model it serves: "
            "give --model, or vllm serve MODEL, in its command or args (a --config file cannot be read from here)"
        )
    return BaseFacts(
        name=name,
        model="",
        served_names=(),
        port=_PORT,
        store_claim="",
        store_path="",
        max_loras=_MAX_LORAS,
        max_cpu_loras=_MAX_LORAS,
        max_lora_rank=_MAX_LORA_RANK,
        replicas=_replicas(deployment),
        selector=_selector(deployment["spec"]),
        template=deployment["spec"]["template"],
        container=container["name"] if container else "",
        problems=(Problem(Reason.NO_VLLM_CONTAINER, message),),
    )


def _lora_problems(deployment: Json, container: Json, arguments: Arguments) -> list[Problem]:
    name = deployment["metadata"]["name"]
    problems = []
    if not arguments.has("--enable-lora"):
        message = f"Deployment {name} serves without LoRA: add --enable-lora to the arguments of vLLM"
        problems.append(Problem(Reason.LORA_NOT_ENABLED, message))
    if not _may_update(container, arguments):
        message = f"Deployment {name} does not allow adapters at run time: set {_UPDATING}=True in its vLLM container"
        problems.append(Problem(Reason.RUNTIME_UPDATING_NOT_ALLOWED, message))
    return problems


def _may_update(container: Json, arguments: Arguments) -> bool:
    """A value that comes from elsewhere (envFrom, valueFrom) cannot be seen here; then vLLM will say."""
    entries = [e for e in container.get("env") or () if e["name"] == _UPDATING]
    exported = re.search(rf"\b{_UPDATING}=[\"']?(\w+)", arguments.place.before or "")
    if exported:
        return exported[1].lower() in ("1", "true")
    if not entries:
        return bool(container.get("envFrom"))
    return "valueFrom" in entries[-1] or entries[-1].get("value", "").strip().lower() in ("1", "true")


def _store(deployment: Json, container: Json) -> tuple[Mounted | None, Problem | None]:
    name = deployment["metadata"]["name"]
    claims = claims_of(deployment["spec"]["template"], container)
    chosen = _annotation(deployment, STORE_ANNOTATION)
    if chosen is not None:
        claims = [m for m in claims if m.volume["name"] == chosen]
    if len(claims) == 1:
        return claims[0], None
    if chosen is not None:
        message = (
            f"Deployment {name} has the annotation {STORE_ANNOTATION}: {chosen}, but its vLLM container mounts no "
            "persistentVolumeClaim volume of that name"
        )
        return None, Problem(Reason.STORE_NOT_MOUNTED, message)
    if not claims:
        message = (
            f"Deployment {name} mounts no store: mount a ReadWriteMany persistentVolumeClaim into its vLLM container"
        )
        return None, Problem(Reason.STORE_NOT_MOUNTED, message)
    names = ", ".join(m.volume["name"] for m in claims)
    message = f"Deployment {name} mounts several claims ({names}): say which is the store, {STORE_ANNOTATION}: VOLUME"
    return None, Problem(Reason.SEVERAL_STORES, message)


def _api_key_secret(container: Json, arguments: Arguments) -> tuple[str, str] | None:
    """Secret and key of the API key; --api-key wins over the variable, as in vLLM."""
    variable = _API_KEY
    if given := arguments.value("--api-key"):
        reference = _REFERENCE.fullmatch(given)
        if reference is None:
            return None
        variable = reference[1]
    for entry in container.get("env") or ():
        secret = (entry.get("valueFrom") or {}).get("secretKeyRef")
        if entry["name"] == variable and secret:
            return secret["name"], secret["key"]
    return None


def _plain_api_key(container: Json, arguments: Arguments | None) -> str | None:
    return (arguments.value("--api-key") if arguments else None) or env_of(container).get(_API_KEY)


def _annotation(deployment: Json, name: str) -> str | None:
    for metadata in (deployment["metadata"], deployment["spec"]["template"].get("metadata") or {}):
        if value := (metadata.get("annotations") or {}).get(name):
            return str(value)
    return None


def _selector(spec: Json) -> dict[str, str]:
    labels = spec["selector"].get("matchLabels") or (spec["template"].get("metadata") or {}).get("labels") or {}
    return dict(labels)


def _replicas(deployment: Json) -> int:
    replicas = deployment["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def _number(arguments: Arguments, flag: str, default: int) -> int:
    text = arguments.value(flag) or ""
    return int(text) if text.isdecimal() else default
