"""The engine plugin as the controller sees it: what it says in a server, and the objects that ship it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from controller.domain.snapshot import PluginFacts
from controller.engine.plugin_client import ModelState, PluginState

# Somebody may delete the objects: they are looked at again after this, in seconds.
_LOOKED_AT = 300.0


def plugin_facts(state: PluginState, model_name: str) -> PluginFacts:
    """About one model name."""
    known = state.models.get(model_name, ModelState())
    return PluginFacts(
        version=state.version,
        target=known.target,
        is_declared=model_name in state.models,
        is_routed=known.is_routed,
        departed_seconds=known.departed_seconds,
        in_flight=state.in_flight,
        restore_failure=state.restore.get(model_name, ""),
    )


class PluginObjects:
    """In which namespaces this process has seen to the plugin's ConfigMap and Secret."""

    def __init__(self, version: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.version = version
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[str, float] = {}

    def are_there(self, namespace: str) -> bool:
        with self._lock:
            return self._clock() < self._seen.get(namespace, float("-inf")) + _LOOKED_AT

    def saw_to(self, namespace: str) -> None:
        with self._lock:
            self._seen[namespace] = self._clock()
