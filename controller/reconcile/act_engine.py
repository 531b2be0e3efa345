"""The objects that every pod with the engine plugin mounts: one ConfigMap and one Secret for each namespace.

The token is made here and nowhere else, once, and is never told to anybody but the API server.
Must not know: releases.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from controller.errors import AlreadyExists, NotFound, PermanentError
from controller.reconcile.engines import SECRETS
from controller.reconcile.objects.engine import (
    ENGINE_NAME,
    PLUGIN_VERSION_LABEL,
    Plugin,
    plugin_in,
    plugin_map,
    token_secret,
)
from controller.reconcile.objects.metadata import MANAGED_BY_LABEL, MANAGER
from controller.runtime import logs
from controller.runtime.client import KubeClient
from controller.runtime.resources import CONFIGMAPS

Json = dict[str, Any]

_TOKEN_BYTES = 32
_LOOKED_AT = 300.0  # seconds


class EngineNameTaken(PermanentError):  # noqa: N818 - named for what is wrong, as in controller/errors.py
    default_reason = "NameInUse"


class EngineObjects:
    """Also remembers in which namespaces this process has seen to them."""

    def __init__(
        self, client: KubeClient, plugin: Plugin | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Without a plugin that of this installation."""
        self._client = client
        self._plugin = plugin or plugin_in()
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[str, float] = {}

    @property
    def version(self) -> str:
        """Of the plugin that this controller ships."""
        return self._plugin.version

    def are_there(self, namespace: str) -> bool:
        """As far as this process knows: it looks again from time to time, because somebody may delete them."""
        with self._lock:
            return self._clock() < self._seen.get(namespace, float("-inf")) + _LOOKED_AT

    def ensure(self, namespace: str) -> None:
        """Two requests where all is there already."""
        self._ensure_token(namespace)
        self._ensure_files(namespace)
        with self._lock:
            self._seen[namespace] = self._clock()

    def _ensure_token(self, namespace: str) -> None:
        """What is there stays, whoever made it: servers and controller read it from the same place."""
        try:
            self._client.get(SECRETS.path(namespace, ENGINE_NAME))
        except NotFound:
            token = secrets.token_hex(_TOKEN_BYTES)
            logs.hide(token)
            with suppress(AlreadyExists):
                self._client.create(SECRETS.path(namespace), token_secret(namespace, token))

    def _ensure_files(self, namespace: str) -> None:
        wanted = plugin_map(namespace, self._plugin)
        try:
            known = self._client.get(CONFIGMAPS.path(namespace, ENGINE_NAME))
        except NotFound:
            with suppress(AlreadyExists):
                self._client.create(CONFIGMAPS.path(namespace), wanted)
            return
        labels = known["metadata"].get("labels") or {}
        if labels.get(MANAGED_BY_LABEL) == MANAGER:
            self._update(known, wanted)
        elif PLUGIN_VERSION_LABEL not in labels:  # else somebody keeps the plugin there by other means
            raise EngineNameTaken(
                f"ConfigMap {ENGINE_NAME} in namespace {namespace} is not the engine plugin: rename it or remove it"
            )

    def _update(self, known: Json, wanted: Json) -> None:
        files, label = known.get("data") or {}, wanted["metadata"]["labels"][PLUGIN_VERSION_LABEL]
        if files == wanted["data"] and known["metadata"]["labels"].get(PLUGIN_VERSION_LABEL) == label:
            return
        version = {name: known["metadata"][name] for name in ("uid", "resourceVersion")}
        meta = {**version, "labels": {PLUGIN_VERSION_LABEL: label}}
        data = {**dict.fromkeys(files), **wanted["data"]}
        self._client.merge_patch(
            CONFIGMAPS.path(known["metadata"]["namespace"], ENGINE_NAME), {"metadata": meta, "data": data}
        )
