"""The Services of a release: the route that clients use, and the two that validations ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.api.status import Backend, BackendKind
from controller.domain.snapshot import Snapshot
from controller.reconcile.objects.metadata import adapter_service_name, metadata, preview_service_name

ROUTE_PORT = 80


def route(snapshot: Snapshot, backend: Backend, port: int) -> dict[str, Any]:
    """The Service named after the release, pointed at the backend; `port` is vLLM's in its pods."""
    return _service(snapshot, snapshot.name, "route", snapshot.selector_for(backend), port)


def adapter_service(snapshot: Snapshot, digest: str, port: int) -> dict[str, Any]:
    """The base's pods that hold the adapter, whatever the route points at."""
    selector = snapshot.holders_of(digest)
    return _service(snapshot, adapter_service_name(snapshot.release), "adapter", selector, port)


def preview_service(snapshot: Snapshot, artifact_id: str, port: int) -> dict[str, Any]:
    """The merged Deployment of the artifact, whatever the route points at."""
    selector = snapshot.selector_for(Backend(kind=BackendKind.ARTIFACT, id=artifact_id))
    return _service(snapshot, preview_service_name(snapshot.release), "preview", selector, port)


def _service(snapshot: Snapshot, name: str, component: str, selector: Mapping[str, str], port: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(snapshot.release, name, component),
        "spec": {
            "type": "ClusterIP",
            "selector": dict(selector),
            "ports": [{"name": "http", "port": ROUTE_PORT, "targetPort": port, "protocol": "TCP"}],
        },
    }
