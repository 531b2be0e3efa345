"""How end-to-end tests scrape a cluster and wait for its alerts: a real Prometheus, and a pod that is this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from controller.runtime.resources import Resource
from tests.e2e import scraping
from tests.e2e.cluster import NAMESPACE, SYSTEM, Cluster
from tests.e2e.recorded import Life

pytestmark = pytest.mark.prometheus

Json = dict[str, Any]
ADDRESS = "127.77.0.2"
ALERT = "AdapterReleaseRolledBack"


class OnePod:
    """A cluster in which the controller's pod runs, and nothing else."""

    def find(self, resource: Resource, selector: str = "", namespace: str = NAMESPACE) -> list[Json]:
        labels = {"app.kubernetes.io/component": "operator"}
        meta = {"namespace": SYSTEM, "name": "operator", "labels": labels}
        pod = {"metadata": meta, "spec": {"containers": []}, "status": {"phase": "Running", "podIP": ADDRESS}}
        return [pod] if namespace == SYSTEM else []

    def report(self) -> str:
        return "\n-- the cluster's report"


@pytest.fixture
def shown() -> Iterator[CollectorRegistry]:
    """On the controller's port of that pod."""
    registry = CollectorRegistry()
    server, thread = start_http_server(scraping.JOBS["adapter-release-controller"], ADDRESS, registry)
    yield registry
    server.shutdown()
    server.server_close()
    thread.join(30)


@pytest.fixture
def life(prometheus_program: Path, tmp_path: Path, shown: CollectorRegistry) -> Iterator[Life]:
    cluster = cast(Cluster, OnePod())
    with (
        scraping.volume(tmp_path) as kubelet,
        scraping.prometheus(prometheus_program, tmp_path, None, kubelet) as server,
        scraping.targets(tmp_path, cluster),
    ):
        yield Life(server, cluster)


@pytest.fixture
def rolled_back(shown: CollectorRegistry) -> str:
    """A release, as the controller shows it."""
    labels = {"namespace": NAMESPACE, "name": "bot", "condition": "Degraded", "status": "True", "reason": "RolledBack"}
    gauge = Gauge("adapterrelease_status_condition", "As the controller shows it", list(labels), registry=shown)
    gauge.labels(**labels).set(1)
    return "bot"


def test_an_alert_is_waited_for_and_one_of_another_release_is_not_taken_for_it(life: Life, rolled_back: str) -> None:
    life.expect(ALERT, namespace=NAMESPACE, name=rolled_back)
    assert life.fired == {ALERT: ""}
    life.expect(ALERT, seconds=0, name="other")
    said = life.fired[ALERT]
    assert said.startswith("not within 0 s: {'name': 'other'}") and said.endswith("-- the cluster's report")
    assert f"'name': '{rolled_back}'" in said, "that it fires for another release is to be seen"


def test_alerts_as_users_have_them_are_told_from_hurried_ones(life: Life, rolled_back: str) -> None:
    assert life.prometheus.until(f'ALERTS{{alertname="{ALERT}", hurried=""}}', 60)
    assert life.unhurried(until=time.time()) == {ALERT}
    assert not life.has_served("Adapter", 45, rolled_back)


def test_the_store_s_room_is_told_in_the_kubelet_s_place(life: Life) -> None:
    labels = f'{{namespace="{NAMESPACE}", persistentvolumeclaim="store"}}'
    assert life.prometheus.until(f"kubelet_volume_stats_available_bytes{labels} > 0", 60)
