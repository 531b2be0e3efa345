"""The whole process but its signals: informers, election, workers and health on a fake API server."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from kubernetes.client.configuration import Configuration
from pydantic import ValidationError

from controller.app import Operator
from controller.engine.server import new_http
from controller.reconcile.caches import RELEASES
from controller.runtime.client import KubeClient
from controller.runtime.resources import DEPLOYMENTS, JOBS, LEASES
from controller.runtime.transport import Transport
from controller.settings import Settings
from tests.builders import release
from tests.fakes.apiserver import ApiServer
from tests.reconcile.deployments import deployment

pytestmark = pytest.mark.slow

PATIENCE = 30.0
FAST: dict[str, Any] = {
    "lease_duration": 60,  # leadership survives a busy machine
    "lease_renew_deadline": 50,
    "lease_retry_period": 0.1,
    "lease_namespace": "system",
    "metrics_port": 0,
    "workers": 2,
}


class Running:
    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.outcome: list[bool] = []
        self.thread = threading.Thread(target=lambda: self.outcome.append(operator.run()))

    def stop(self) -> bool:
        self.operator.stop()
        self.thread.join(PATIENCE)
        return self.outcome == [True]


@contextmanager
def running(api: ApiServer, **settings: Any) -> Iterator[Running]:
    configuration = Configuration()
    configuration.host = api.url
    client = KubeClient(Transport(configuration, "tests"))
    with new_http() as http, ThreadPoolExecutor(2) as executor:
        process = Running(Operator(Settings(**(FAST | settings)), client, http, executor))
        process.thread.start()
        try:
            yield process
        finally:
            process.operator.stop()
            process.thread.join(PATIENCE)
            client.close()
    assert not process.thread.is_alive()


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer() as server:
        server.create(DEPLOYMENTS.path("llm"), deployment())
        yield server


def apply(api: ApiServer, namespace: str = "llm") -> None:
    wire = release().wire
    meta = {"name": wire["metadata"]["name"], "namespace": namespace}
    api.create(RELEASES.path(namespace), {"metadata": meta, "spec": wire["spec"]})


def wait_for(api: ApiServer, plural: str, namespace: str) -> None:
    def there() -> bool:
        return any(place.plural == plural and place.namespace == namespace for place in api.etcd.objects)

    with api.etcd.changed:
        assert api.etcd.changed.wait_for(there, PATIENCE), f"no {plural} in {namespace}"


def wait_for_a_pass(api: ApiServer) -> None:
    """Every pass begins with a look at the release: at the second from now on, the first pass has ended."""
    looks = {"method": "GET", "watch": False, "path": "adapterreleases/support-bot"}
    api.wait_for_requests(api.count(**looks) + 2, **looks)


def test_a_release_is_taken_up_and_sigterm_gives_the_lease_back(api: ApiServer) -> None:
    with running(api) as process:
        apply(api)
        wait_for(api, "jobs", "llm")
        health = f"http://127.0.0.1:{process.operator.health_port}"
        assert httpx.get(f"{health}/readyz", trust_env=False).text == "ok\n"
        metrics = httpx.get(f"{health}/metrics", trust_env=False).text
        assert 'workqueue_adds_total{name="adapterrelease"}' in metrics
        assert process.stop()
    assert not api.get(LEASES.path("system", "adapter-release-controller"))["spec"].get("holderIdentity")
    assert "adapterrelease.dev/unload" in api.get(RELEASES.path("llm", "support-bot"))["metadata"]["finalizers"]


def test_only_the_named_namespaces_are_watched(api: ApiServer) -> None:
    api.create(DEPLOYMENTS.path("prod"), deployment())
    with running(api, namespaces="prod, staging"):
        apply(api)
        apply(api, "prod")
        wait_for(api, "jobs", "prod")
    assert not any(place.plural == "jobs" and place.namespace == "llm" for place in api.etcd.objects)
    assert all("/namespaces/" in r.path for r in api.requests)


def test_a_second_one_waits_and_takes_over(api: ApiServer) -> None:
    with running(api) as first:
        wait_for(api, "leases", "system")
        with running(api) as second:
            apply(api)
            wait_for(api, "jobs", "llm")
            job = next(p for p in api.etcd.objects if p.plural == "jobs")
            assert first.stop()
            api.delete(JOBS.path("llm", job.name))
            wait_for(api, "jobs", "llm")
            assert second.stop()


def released(process: Running) -> set[str]:
    """Metrics of releases that the process shows."""
    scraped = httpx.get(f"http://127.0.0.1:{process.operator.health_port}/metrics", trust_env=False).text
    return set(re.findall(r"^(adapterrelease_\w+)\{", scraped, re.MULTILINE))


def test_only_the_one_that_leads_shows_releases_and_the_next_one_shows_them_again(api: ApiServer) -> None:
    with running(api) as first:
        wait_for(api, "leases", "system")
        with running(api) as second:
            apply(api)
            wait_for_a_pass(api)
            assert "adapterrelease_rollout_step" in released(first)
            assert released(second) == set()
            assert first.stop()
            wait_for_a_pass(api)
            assert {"adapterrelease_rollout_step", "adapterrelease_status_condition"} <= released(second)
            assert second.stop()


def test_a_leader_that_lost_shows_no_release(api: ApiServer) -> None:
    with running(api) as process:
        apply(api)
        wait_for_a_pass(api)
        assert "adapterrelease_rollout_step" in released(process)
        process.operator._rest()
        assert released(process) == set()


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTERRELEASE_NAMESPACES", "llm, prod")
    monkeypatch.setenv("ADAPTERRELEASE_WORKERS", "3")
    settings = Settings()
    assert (settings.namespaces, settings.workers, settings.kubeconfig) == (("llm", "prod"), 3, None)


@pytest.mark.parametrize("wrong", [{"lease_duration": 5.0}, {"log_level": "LOUD"}, {"workers": 0}])
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)


def test_every_setting_is_documented() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
