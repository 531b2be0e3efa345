"""Everything that `status` shows, read from the cluster. What may not be read is named, and the rest is shown.

Must not know: how it is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from controller.api.v1alpha1 import RELEASE_LABEL
from controller.cli.cluster import Cluster, as_release
from controller.cli.view import View, job_views, merged_views, route_view
from controller.errors import Forbidden, NotFound
from controller.runtime.resources import DEPLOYMENTS, ENDPOINTSLICES, JOBS, PODS, SERVICES, Resource

Json = dict[str, Any]
T = TypeVar("T")

COMPONENT = "app.kubernetes.io/component"


def read_view(cluster: Cluster, name: str) -> View:
    return view_around(cluster, cluster.raw_release(name))


def view_around(cluster: Cluster, raw: Json) -> View:
    """The objects around a release that was read already."""
    name, unread = raw["metadata"]["name"], list[str]()
    mine = f"{RELEASE_LABEL}={name}"

    def items(resource: Resource, selector: str = mine) -> list[Json]:
        return _unless_refused(lambda: cluster.client.list(resource.path(cluster.namespace), selector)[0], unread, [])

    pods = items(PODS)
    service = _unless_refused(lambda: _service(cluster, name), unread, None)
    return View(
        release=as_release(raw),
        merged=merged_views(items(DEPLOYMENTS, f"{mine},{COMPONENT}=merged"), pods),
        jobs=job_views(items(JOBS), pods),
        route=route_view(service, items(ENDPOINTSLICES, f"kubernetes.io/service-name={name}")) if service else None,
        unread=tuple(dict.fromkeys(unread)),
    )


def _service(cluster: Cluster, name: str) -> Json | None:
    """Only the release's own: another one of its name is not its route."""
    try:
        found = cluster.client.get(SERVICES.path(cluster.namespace, name))
    except NotFound:
        return None
    return found if (found["metadata"].get("labels") or {}).get(RELEASE_LABEL) == name else None


def _unless_refused(read: Callable[[], T], unread: list[str], otherwise: T) -> T:
    try:
        return read()
    except Forbidden as error:
        unread.append(error.message)
        return otherwise
