"""The one write of a reconciliation that remembers: PUT /status at the version that was observed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from controller.api.status import AdapterReleaseStatus
from controller.api.v1alpha1 import API_VERSION, KIND
from controller.reconcile.caches import RELEASES
from controller.reconcile.turn import Turn
from controller.reconcile.unkept import Path, unkept
from controller.runtime.client import KubeClient

WriteStatus = Callable[[AdapterReleaseStatus, Turn], frozenset[Path]]


class StatusWriter:
    def __init__(self, client: KubeClient) -> None:
        self._client = client

    def __call__(self, status: AdapterReleaseStatus, turn: Turn) -> frozenset[Path]:
        """The fields that were not kept, most often none.

        Conflict when the release has changed since it was observed: then the plan is worth nothing.
        """
        release = turn.snapshot.release
        body: dict[str, Any] = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "name": turn.key.name,
                "namespace": turn.key.namespace,
                "uid": release.metadata.uid,
                "resourceVersion": turn.resource_version,
            },
            "spec": release.spec.to_wire(),
            "status": status.to_wire(),
        }
        answer = self._client.replace(RELEASES.path(*turn.key, subresource="status"), body)
        turn.resource_version = answer["metadata"]["resourceVersion"]
        return unkept(body["status"], answer.get("status", {}))
