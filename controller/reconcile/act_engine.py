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

from controller.errors import AlreadyExists, NotFound
from controller.reconcile.engines import SECRETS
from controller.reconcile.objects.engine import (
    ENGINE_NAME,
    Plugin,
    map_change,
    plugin_in,
    plugin_map,
    token_secret,
)
from controller.runtime import logs
from controller.runtime.client import KubeClient
from controller.runtime.resources import CONFIGMAPS

_TOKEN_BYTES = 32
_LOOKED_AT = 300.0  # seconds


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
        wanted, path = plugin_map(namespace, self._plugin), CONFIGMAPS.path(namespace, ENGINE_NAME)
        try:
            known = self._client.get(path)
        except NotFound:
            with suppress(AlreadyExists):
                self._client.create(CONFIGMAPS.path(namespace), wanted)
            return
        if change := map_change(known, wanted):
            self._client.merge_patch(path, change)
