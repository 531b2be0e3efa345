"""What a container mounts: which claim is the store, which mount holds the model. Pure functions over pod templates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

Json = Mapping[str, Any]

_HUB_CACHE = "/root/.cache/huggingface"


@dataclass(frozen=True)
class Mounted:
    """A volume of the pod and one mount of it in the container."""

    volume: Json
    mount: Json

    @property
    def path(self) -> str:
        return str(self.mount["mountPath"]).rstrip("/") or "/"

    @property
    def claim(self) -> str | None:
        """Name of the PersistentVolumeClaim behind it."""
        source = self.volume.get("persistentVolumeClaim")
        return source["claimName"] if source else None

    @property
    def whole(self) -> bool:
        """Whether the claim's own root is what is mounted."""
        return not self.mount.get("subPath") and not self.mount.get("subPathExpr")


def mounts_of(template: Json, container: Json) -> list[Mounted]:
    """Everything that the container mounts, in its order."""
    volumes = {v["name"]: v for v in template.get("spec", {}).get("volumes") or ()}
    mounts = container.get("volumeMounts") or ()
    return [Mounted(volumes[m["name"]], m) for m in mounts if m["name"] in volumes]


def claims_of(template: Json, container: Json) -> list[Mounted]:
    """The claims that the container mounts, each once, by its shortest path."""
    found: dict[str, Mounted] = {}
    for mounted in mounts_of(template, container):
        if mounted.claim is not None:
            known = found.get(mounted.volume["name"])
            if known is None or len(mounted.path) < len(known.path):
                found[mounted.volume["name"]] = mounted
    return list(found.values())


def holding(template: Json, container: Json, path: str) -> Mounted | None:
    """The innermost mount that `path` lies in."""
    wanted = PurePosixPath(path)
    inside = [m for m in mounts_of(template, container) if wanted.is_relative_to(m.path)]
    return max(inside, key=lambda m: len(m.path), default=None)


def hub_cache(env: Mapping[str, str]) -> str:
    """Directory of the Hugging Face cache, where a model that is a repository id lies."""
    if hub := env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE"):
        return hub
    return env.get("HF_HOME") or _HUB_CACHE
