"""The probes and the metrics page, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.registry import Collector

from controller.runtime.health import HealthServer
from controller.runtime.metrics import registry_with

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[HealthServer]:
    server = HealthServer(0, "127.0.0.1")
    server.start()
    yield server
    server.stop()


def get(server: HealthServer, path: str) -> tuple[int, str]:
    answer = httpx.get(f"http://127.0.0.1:{server.port}{path}")
    return answer.status_code, answer.text


def test_without_checks_it_is_healthy_and_ready(server: HealthServer) -> None:
    assert get(server, "/healthz") == (200, "ok\n")
    assert get(server, "/readyz") == (200, "ok\n")


def test_a_failing_check_is_named_with_its_reason(server: HealthServer) -> None:
    said: list[str | None] = ["no list yet"]
    server.add_ready_check("informers", lambda: said[0])
    server.add_ready_check("other", lambda: None)
    status, text = get(server, "/readyz")
    assert status == 500
    assert text.splitlines() == [
        "[-]informers failed: no list yet",
        "[+]other ok",
        "readyz check failed",
    ]
    assert get(server, "/healthz")[0] == 200
    assert get(server, "/readyz/other")[0] == 200
    said[0] = None
    assert get(server, "/readyz") == (200, "ok\n")
    assert "[+]informers ok" in get(server, "/readyz?verbose")[1]


def test_a_check_that_raises_has_failed(server: HealthServer) -> None:
    def broken() -> str | None:
        raise RuntimeError("broken")

    server.add_health_check("broken", broken)
    status, text = get(server, "/healthz")
    assert status == 500
    assert "RuntimeError: broken" in text


def test_metrics_are_prometheus_text(server: HealthServer) -> None:
    status, text = get(server, "/metrics")
    assert status == 200
    assert "# TYPE workqueue_depth gauge" in text
    assert "process_resident_memory_bytes" in text
    assert "_created" not in text


class Broken(Collector):
    def collect(self) -> Iterable[Metric]:
        raise RuntimeError("token=abcdef123456")


def test_metrics_that_cannot_be_made_are_an_error_that_is_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """No answer at all looks like a network that is down."""
    server = HealthServer(0, "127.0.0.1", registry_with(Broken()))
    server.start()
    try:
        status, text = get(server, "/metrics")
    finally:
        server.stop()
    assert status == 500 and "RuntimeError" in text and "abcdef" not in text
    assert [(r.levelname, r.getMessage()) for r in caplog.records if r.name == "controller.runtime.health"] == [
        ("ERROR", "the metrics cannot be shown")
    ]


def test_anything_else_is_not_found(server: HealthServer) -> None:
    for path in ("/", "/readyz/none", "/debug"):
        assert get(server, path)[0] == 404


def test_without_a_host_it_listens_on_all_addresses() -> None:
    server = HealthServer(0)
    server.start()
    try:
        assert get(server, "/healthz")[0] == 200
    finally:
        server.stop()


def test_a_server_that_never_started_can_be_stopped() -> None:
    HealthServer(0, "127.0.0.1").stop()
