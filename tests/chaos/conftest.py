"""The cluster of the e2e tests, without its operator: the tests bring their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from controller.runtime.resources import DEPLOYMENTS, PODS
from tests.e2e.cluster import SYSTEM, Cluster
from tests.e2e.conftest import cluster as cluster
from tests.e2e.conftest import pytest_collection_modifyitems as pytest_collection_modifyitems
from tests.e2e.release import Release

CONTROLLER = "adapter-release-controller"
RELEASES = ("survivor", "heir", "sleeper")


@pytest.fixture(scope="package")
def without_operator(cluster: Cluster) -> Iterator[Cluster]:
    """Afterwards it is back, and has deleted what the tests made."""
    _scale(cluster, 0)
    yield cluster
    _scale(cluster, 2)
    for name in RELEASES:
        Release(cluster, name).delete()


def _scale(cluster: Cluster, replicas: int) -> None:
    cluster.client.merge_patch(DEPLOYMENTS.path(SYSTEM, CONTROLLER), {"spec": {"replicas": replicas}})
    cluster.kubectl("-n", SYSTEM, "rollout", "status", f"deployment/{CONTROLLER}", "--timeout=180s")
    selector = f"app.kubernetes.io/name={CONTROLLER}"
    cluster.until(f"{replicas} operators", lambda: len(cluster.find(PODS, selector, SYSTEM)) == replicas, 90)
