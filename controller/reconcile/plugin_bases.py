"""Deployments that start vLLM with the engine plugin, whether a release refers to them or not.

Their pods wait for the plugin's ConfigMap: a base may be applied before its first release.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from controller.reconcile.act_engine import EngineObjects
from controller.reconcile.base import PLUGIN_MIDDLEWARE
from controller.reconcile.caches import Caches
from controller.runtime.resources import Key
from controller.runtime.worker import Result

Json = Mapping[str, Any]

_LOOK_AGAIN = 600.0  # seconds: somebody may delete the objects


class PluginBases:
    """Sees to the ConfigMap and the Secret in the namespace of each such Deployment."""

    def __init__(self, caches: Caches, engine_objects: EngineObjects) -> None:
        self._caches = caches
        self._engine_objects = engine_objects

    def __call__(self, key: Key) -> Result:
        deployment = self._caches.deployments.get(key.namespace, key.name)
        if deployment is None or not _starts_the_plugin(deployment):
            return Result()
        self._engine_objects.ensure(key.namespace)
        return Result(_LOOK_AGAIN)


def plugin_base(deployment: Json) -> Iterable[Key]:
    """Its key, if it has the plugin."""
    if _starts_the_plugin(deployment):
        yield Key(deployment["metadata"]["namespace"], deployment["metadata"]["name"])


def _starts_the_plugin(deployment: Json) -> bool:
    containers = deployment["spec"]["template"]["spec"].get("containers") or ()
    lines = [text for c in containers for text in (*(c.get("command") or ()), *(c.get("args") or ()))]
    return any(PLUGIN_MIDDLEWARE in text for text in lines)
