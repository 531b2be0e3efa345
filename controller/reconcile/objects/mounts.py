"""Volumes of a job's pod: the store and the model where the base's container has them, sources, Secrets.

A path means the same in a job as in the base's pods, so that paths can be handed from one to the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from controller.api.v1alpha1 import AdapterRelease, Source
from controller.domain.snapshot import BaseFacts, JobKind
from controller.reconcile.arguments import env_of
from controller.reconcile.base import container_in
from controller.reconcile.volumes import Mounted, claims_of, holding, hub_cache

Json = dict[str, Any]

_HUB_VARIABLES = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


@dataclass
class Volumes:
    """A pod's volumes and one container's mounts of them, each volume once by name, each path once."""

    volumes: dict[str, Json] = field(default_factory=dict)
    mounts: dict[str, Json] = field(default_factory=dict)

    def add(self, volume: Json, path: str, *, read_only: bool, **more: Any) -> None:
        self.volumes.setdefault(volume["name"], volume)
        readonly = {"readOnly": True} if read_only else {}
        self.mounts.setdefault(path, {"name": volume["name"], "mountPath": path, **more, **readonly})


def credentials_path(secret: str) -> str:
    return f"/credentials/{secret}"


def source_path(uri: str, base: BaseFacts) -> tuple[str, str]:
    """(root, path) of a pvc:// source in the job: below the store, when it is the store's claim, mounted whole."""
    claim, _, rest = uri.removeprefix("pvc://").partition("/")
    root = base.store_path if claim == base.store_claim and _store(base).whole else f"/sources/{claim}"
    return root, f"{root}/{unquote(rest).strip('/')}"


def job_volumes(kind: JobKind, release: AdapterRelease, base: BaseFacts) -> Volumes:
    """What a job of this kind needs, and nothing more: imports and builds may write to the store, a validation to
    the one directory of it that keeps what was measured of its artifact."""
    found = Volumes()
    found.add({"name": "tmp", "emptyDir": {}}, "/tmp", read_only=False)  # noqa: S108 - a path in the pod
    store = _store(base)
    found.add(_writable(store), store.path, read_only=kind is JobKind.VALIDATE, **_sub_path(store))
    if kind is JobKind.VALIDATE and release.status.artifact is not None:
        path = base.evaluations_path(release.status.artifact.id)
        found.add(_writable(store), path, read_only=False, **_sub_path(store, path))
    if kind is not JobKind.VALIDATE and (model := _model(base)) is not None:
        found.add(dict(model.volume), model.path, read_only=True, **_sub_path(model))
    sources = list(_sources(kind, release))
    for source in sources:
        _add_source(found, source, base)
    if kind is JobKind.VALIDATE and base.api_key_secret is not None:
        _add_secret(found, base.api_key_secret[0])
    return found


def hub_env(base: BaseFacts) -> list[Json]:
    """Variables of the base's container that say where a model that is a repository id lies."""
    env = env_of(container_in(base))
    return [{"name": name, "value": env[name]} for name in _HUB_VARIABLES if name in env]


def _store(base: BaseFacts) -> Mounted:
    return next(m for m in claims_of(base.template, container_in(base)) if m.path == base.store_path)


def _model(base: BaseFacts) -> Mounted | None:
    """The mount that the model lies in; None when it is in the store, is to be fetched from the Hub, or lies
    where only the base's own pod can see it (an emptyDir that an init container fills)."""
    container = container_in(base)
    path = base.model if base.model.startswith("/") else hub_cache(env_of(container))
    mounted = holding(base.template, container, path)
    in_store = mounted is not None and mounted.path == base.store_path
    return None if mounted is None or in_store or "emptyDir" in mounted.volume else mounted


def _writable(store: Mounted) -> Json:
    """The store's volume without the base's readOnly."""
    return {**store.volume, "persistentVolumeClaim": {"claimName": store.claim}}


def _sub_path(mounted: Mounted, path: str | None = None) -> Json:
    """subPath of `path`, which lies in the mount; of the mount itself without it."""
    inside = PurePosixPath(path or mounted.path).relative_to(mounted.path)
    sub_path = str(PurePosixPath(mounted.mount.get("subPath", "")) / inside)
    return {} if sub_path == "." else {"subPath": sub_path}


def _sources(kind: JobKind, release: AdapterRelease) -> Iterable[Source]:
    spec = release.spec
    if kind is JobKind.IMPORT:
        yield spec.adapters[0].source
    elif kind is JobKind.BUILD and spec.build is not None and spec.build.quantization.calibration is not None:
        yield spec.build.quantization.calibration.source
    elif kind is JobKind.VALIDATE and spec.validation is not None:
        yield from (suite.source for suite in spec.validation.suites)


def _add_source(found: Volumes, source: Source, base: BaseFacts) -> None:
    if source.uri.startswith("pvc://"):
        root, _ = source_path(source.uri, base)
        if root != base.store_path:
            claim = root.removeprefix("/sources/")
            volume = {"name": _volume_name("source", claim), "persistentVolumeClaim": {"claimName": claim}}
            found.add(volume, root, read_only=True)
    elif source.secret_ref is not None:
        _add_secret(found, source.secret_ref.name)


def _add_secret(found: Volumes, secret: str) -> None:
    volume = {"name": _volume_name("credentials", secret), "secret": {"secretName": secret}}
    found.add(volume, credentials_path(secret), read_only=True)


def _volume_name(prefix: str, name: str) -> str:
    """A volume's name is a DNS label of 63 characters; a claim's or Secret's may have dots and 253."""
    return f"{prefix}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
