"""A real Prometheus watches a life of releases: every query of every dashboard has data, and alerts fire for causes.

The life is played once, for all tests here: an artifact that is too slow for its spec is not proven, a better spec is,
it serves, fails and is rolled back; two other releases cannot be imported, and cannot be built.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.e2e.cluster import SYSTEM, Cluster, measured
from tests.e2e.load import Load
from tests.e2e.release import QUESTION, Json, Release, cheaply, spec_of
from tests.e2e.scraping import EVERY, scraping
from tests.e2e.test_watched import Fault
from tests.prometheus.boards import Asked, queries, values_for
from tests.prometheus.rules import rules
from tests.prometheus.server import Prometheus

pytestmark = [pytest.mark.e2e, pytest.mark.prometheus]

# Queries that have nothing to show in this life, and why.
WITHOUT_DATA = {
    "release.json: Progress of the build A": "a tiny model's stages end between two looks of the controller",
    "fleet.json: Stores in use A": "the kubelet counts no volume that is a directory of its node",
    "controller.json: Informers C": "no watch fails here",
    "controller.json: Events B": "no event is dropped here",
}
# What the sandbox can make happen; the others have their cause in tests/prometheus only.
CAUSED = (
    "AdapterReleaseValidationFailed",
    "AdapterReleaseRolledBack",
    "AdapterReleaseServingErrors",
    "AdapterReleaseWaitingForPeople",
    "AdapterReleaseImportFailed",
    "AdapterReleaseBuildStuck",
    "AdapterReleaseControllerNotLeading",
)


@dataclass
class Life:
    """What was recorded, and when."""

    prometheus: Prometheus
    began: float
    ended: float = 0.0
    fired: dict[str, list[dict[str, str]]] = field(default_factory=dict)


class Streams:
    """Now and then a request whose answer comes in pieces, beside the load, which asks for whole answers."""

    def __init__(self, release: Release) -> None:
        self._release, self._stop = release, threading.Event()
        self._thread = threading.Thread(target=self._run, name="streams", daemon=True)

    def __enter__(self) -> Streams:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(90)

    def _run(self) -> None:
        url = f"{self._release.cluster.service_url(self._release.name)}/v1/chat/completions"
        messages = [{"role": "system", "content": "Route the ticket."}, {"role": "user", "content": QUESTION}]
        body = {"model": self._release.name, "max_tokens": 24, "messages": messages, "stream": True}
        with httpx.Client(trust_env=False, timeout=60, limits=httpx.Limits(max_keepalive_connections=0)) as client:
            while not self._stop.wait(0.5):
                try:
                    client.post(url, json=body)
                except httpx.TransportError:
                    continue  # what is lost is counted by other tests


@pytest.fixture(scope="module")
def life(
    cluster: Cluster, bot: Release, prometheus_program: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Life]:
    directory = tmp_path_factory.mktemp("scraping")
    bot.serve_v1_on(2)
    fault = Fault(bot)
    others = [Release(cluster, name) for name in ("foreign-bot", "unbuildable-bot")]
    with scraping(prometheus_program, directory, cluster) as server:
        lived = Life(server, time.time())
        try:
            _play(lived, bot, fault)
            _others(lived, *others)
            _without_controller(lived, cluster)
            lived.ended = time.time()
            options = f"--start {lived.began:.0f} --end {lived.ended:.0f} --scrape {EVERY} --set release={bot.name}"
            measured("with TEST_PROMETHEUS_DATA=DIR, pictures of it", f'make pictures DATA=DIR ARGS="{options}"')
            yield lived
        finally:
            fault.end()
            for release in others:
                release.delete()


def _until_fires(life: Life, cluster: Cluster, alert: str, **labels: str) -> None:
    def firing() -> list[dict[str, str]]:
        found = [a["labels"] for a in life.prometheus.alerts() if a["labels"]["alertname"] == alert]
        return [its for its in found if labels.items() <= its.items()]

    life.fired[alert] = cluster.until(f"{alert} fires", firing, 120)


def _spec(min_speedup: str, duration: str) -> Json:
    spec = cheaply(spec_of("Stable"))
    spec["validation"]["benchmark"]["minSpeedup"] = min_speedup
    observe = {"duration": duration, "interval": "2s", "maxLatencyRatio": "50", "failureLimit": 1}
    spec["rollout"]["observe"] |= observe
    return spec


def _play(life: Life, bot: Release, fault: Fault) -> None:
    cluster, one = bot.cluster, {"namespace": "llm", "name": bot.name}
    with Load(cluster, bot.name, rate=4), Streams(bot):
        bot.set_spec(_spec("100", "20s"))
        bot.until("Validated", "False", "ValidationFailed", seconds=600)
        _until_fires(life, cluster, "AdapterReleaseValidationFailed", reason="ValidationFailed", **one)
        bot.set_spec(_spec("0.01", "17m"))
        bot.until_serving("Artifact", seconds=600)
        cluster.until("half a minute of it", lambda: _served_for(life, "Artifact", 30), 180)
        fault.begin(fails=True)
        bot.until_serving("Adapter")
        _until_fires(life, cluster, "AdapterReleaseRolledBack", **one)
        _until_fires(life, cluster, "AdapterReleaseServingErrors", namespace="llm", release=bot.name)
        _until_fires(life, cluster, "AdapterReleaseWaitingForPeople", what="Decision", **one)
        fault.end()
        cluster.until("half a minute after it", lambda: _served_for(life, "Adapter", 30), 120)


def _served_for(life: Life, backend: str, seconds: int) -> bool:
    """As Prometheus has seen it."""
    serves = f'count(adapterrelease_serving_info{{name="support-bot", backend="{backend}"}}) or vector(0)'
    found = life.prometheus.instant(f"min_over_time(({serves})[{seconds}s:{EVERY}s])")
    return any(float(series["value"][1]) > 0 for series in found)


def _others(life: Life, foreign: Release, unbuildable: Release) -> None:
    """One is for another base, the other's build asks for a node that there is not."""
    foreign.set_spec(spec_of(source="other-base"))
    _until_fires(life, foreign.cluster, "AdapterReleaseImportFailed", name=foreign.name, reason="BaseMismatch")
    spec = cheaply(spec_of("Stable"))
    spec["build"]["podTemplate"] = {"spec": {"nodeSelector": {"nowhere": "here"}}}
    unbuildable.set_spec(spec)
    _until_fires(life, unbuildable.cluster, "AdapterReleaseBuildStuck", name=unbuildable.name)


def _without_controller(life: Life, cluster: Cluster) -> None:
    where = ("-n", SYSTEM, "deployment/adapter-release-controller")
    cluster.kubectl("scale", *where, "--replicas=0")
    try:
        _until_fires(life, cluster, "AdapterReleaseControllerNotLeading")
    finally:
        cluster.kubectl("scale", *where, "--replicas=2")
        cluster.kubectl("rollout", "status", *where, "--timeout=120s")
    expr = "count(adapterrelease_info) and on () sum(leader_election_master_status) == 1"
    cluster.until("one leads and shows the releases again", lambda: life.prometheus.instant(expr), 120)


def _values(board: str, life: Life) -> dict[str, str]:
    rate = {"__rate_interval": f"{8 * EVERY}s", "__range": f"{round(life.ended - life.began)}s"}
    return {**values_for(board), **rate}


@pytest.mark.parametrize("asked", list(queries()), ids=str)
def test_every_query_has_data_of_a_real_life(asked: Asked, life: Life) -> None:
    filled = {board: _values(board, life) for board in ("release.json", "fleet.json", "controller.json")}
    (now,) = [one for one in queries(filled) if str(one) == str(asked)]
    found = life.prometheus.range(now.expr, life.began, life.ended, EVERY)
    numbers = [value for series in found for _, value in series["values"] if value not in ("NaN", "+Inf", "-Inf")]
    assert numbers or str(asked) in WITHOUT_DATA, f"no data: {now.expr}"


def test_what_may_have_no_data_is_a_query_that_there_is() -> None:
    assert set(WITHOUT_DATA) <= {str(asked) for asked in queries()}


def test_traffic_moves_from_the_adapter_to_the_artifact_and_back(life: Life) -> None:
    (asked,) = [a for a in queries({"release.json": _values("release.json", life)}) if "annotation" in a.panel]
    found = life.prometheus.range(asked.expr, life.began, life.ended, EVERY)
    assert {series["metric"]["backend"] for series in found} == {"Adapter", "Artifact"}
    sums = 'sum by (backend) (increase(adapterrelease_requests_total{release="support-bot", code="200"}[30m]))'
    answered = {
        s["metric"]["backend"].partition("-")[0]: float(s["value"][1])
        for s in life.prometheus.instant(sums, life.ended)
    }
    assert answered["adapter"] > 0 and answered["artifact"] > 0


@pytest.mark.parametrize("alert", CAUSED)
def test_an_alert_fires_for_its_real_cause(alert: str, life: Life) -> None:
    assert alert in {rule["alert"] for rule in rules("alerts.yaml")}
    assert life.fired[alert]
