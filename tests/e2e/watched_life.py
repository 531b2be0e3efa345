"""A life of releases on a real cluster that a real Prometheus watches, played once for all tests that ask it.

A release is promoted, fails and goes back; others cannot be imported, built, loaded or updated without a gap; then the
controller's rights, the servers and the controller's account go. What was to fire is remembered, and whether it did;
tests/e2e/test_alerts.py holds it to that. The README's pictures are of the first part.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from controller.runtime.resources import DEPLOYMENTS
from tests.e2e.cluster import NAMESPACE, SYSTEM, Cluster, measured
from tests.e2e.load import Load
from tests.e2e.release import QUESTION, Release, cheaply, spec_of
from tests.e2e.sandbox import CHECKOUT, SANDBOX
from tests.e2e.scraping import EVERY, targets
from tests.e2e.test_in_place import PLAIN, without_plugin
from tests.e2e.test_pods import strangers
from tests.e2e.test_watched import Fault
from tests.prometheus.server import Prometheus

Json = dict[str, Any]
CONTROLLER = "adapter-release-controller"
BOT = "support-bot"
# Each alert that the sandbox can make fire, and by what: docs/runbooks/README.md has this table, too.
CAUSES: Mapping[str, str] = {
    "AdapterReleaseImportFailed": "an adapter of another base",
    "AdapterReleaseRolledBack": "a merged model that answers 500 after the swap",
    "AdapterReleaseServingErrors": "the same",
    "AdapterReleaseWaitingForPeople": "the decision after that",
    "AdapterReleaseValidationFailed": "an artifact that is not as fast as the spec asks",
    "AdapterReleaseBuildStuck": "a build that asks for a node which is not there",
    "AdapterReleaseDeadlineNear": "the same build, shortly before its deadline",
    "AdapterReleaseBuildFailed": "the same build, after it",
    "AdapterReleaseAdapterMissing": "a server whose adapter slots are full",
    "AdapterReleaseUpdatesNotGapFree": "a base without the engine plugin",
    "AdapterReleaseBlocked": "a base without pods",
    "AdapterReleaseForbidden": "the controller's ClusterRoleBinding is deleted",
    "AdapterReleaseReconcileErrors": "the same",
    "AdapterReleaseNotServing": "all servers of the base are killed at once",
    "AdapterReleaseUnauthorized": "the controller's service account is deleted",
    "AdapterReleaseControllerNotLeading": "the controller is scaled to zero",
}


@dataclass
class Life:
    """What was recorded, and when; `fails_at`: until then all was as it should be, but for one adapter."""

    prometheus: Prometheus
    cluster: Cluster
    began: float = field(default_factory=time.time)
    fails_at: float = 0.0
    pictured_until: float = 0.0
    ended: float = 0.0
    fired: dict[str, str] = field(default_factory=dict)  # alert -> empty, or what was the case when it did not come

    def expect(self, alert: str, seconds: float = 60, **labels: str) -> None:
        """Wait for it. That it does not come ends nothing: the others are to be seen, too."""
        chosen = {"alertname": alert, "hurried": "yes", **labels}
        selector = ",".join(f'{name}="{value}"' for name, value in chosen.items())
        came = self.prometheus.until(self._firing(selector, time.time() + seconds), seconds)
        self.fired[alert] = "" if came else f"not within {seconds:.0f} s: {labels}{self.cluster.report()}"

    def unhurried(self, until: float) -> set[str]:
        """Names of alerts that fired until then, with the `for` that they really have."""
        found = self.prometheus.instant(self._firing('hurried=""', until), until)
        return {series["metric"]["alertname"] for series in found}

    def _firing(self, selector: str, at: float) -> str:
        """Asked then or before: what fires, and what has fired since the beginning."""
        since = round(at - self.began)
        return f'count_over_time(ALERTS{{alertstate="firing", {selector}}}[{since}s])'

    def has_served(self, backend: str, seconds: int) -> bool:
        """For so long, as Prometheus has seen it."""
        serves = f'count(adapterrelease_serving_info{{name="{BOT}", backend="{backend}"}}) or vector(0)'
        found = self.prometheus.instant(f"min_over_time(({serves})[{seconds}s:{EVERY}s])")
        return any(float(series["value"][1]) > 0 for series in found)


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


def play(server: Prometheus, directory: Path, bot: Release) -> Life:
    """`bot` serves its adapter v1 on two pods."""
    cluster = bot.cluster
    others = {name: Release(cluster, f"{name}-bot") for name in ("invoice", "foreign", "unbuildable", "late", "plain")}
    life = Life(server, cluster)
    began = time.monotonic()
    with targets(directory, cluster):
        try:
            _two_more(life, others["invoice"], others["foreign"])
            _there_and_back(life, bot)
            _refused(life, bot, others["unbuildable"])
            _full_server(life, bot, others["late"])
            _without_plugin(life, others["plain"])
            _without_rights(life)
            _without_servers_and_account(life, bot)
            life.ended = time.time()
        finally:
            names, gone = [release.name for release in others.values()], ("--ignore-not-found", "--timeout=120s")
            cluster.kubectl("-n", NAMESPACE, "delete", "ar", *names, *gone)
            cluster.kubectl("-n", NAMESPACE, "delete", "deployment", PLAIN, *gone)
    measured("seconds of the life that Prometheus watched", round(time.monotonic() - began))
    return life


def _two_more(life: Life, invoice: Release, foreign: Release) -> None:
    """One serves another adapter on the same base, one is for another base."""
    invoice.set_spec(spec_of(source="support-bot/v2"))
    foreign.set_spec(spec_of(source="other-base"))
    invoice.until("Ready", "True", "Serving")
    life.expect("AdapterReleaseImportFailed", namespace=NAMESPACE, name=foreign.name, reason="BaseMismatch")


def _there_and_back(life: Life, bot: Release) -> None:
    cluster, fault = bot.cluster, Fault(bot)
    with Load(cluster, bot.name, rate=4), Streams(bot):
        bot.set_spec(_spec("0.01", "17m"))
        bot.until_serving("Artifact", seconds=600)
        cluster.until("three quarters of a minute of it", lambda: life.has_served("Artifact", 45), 180)
        life.fails_at = time.time()
        fault.begin(fails=True)
        try:
            bot.until_serving("Adapter", seconds=180)
        finally:
            fault.end()
        cluster.until("as long after it", lambda: life.has_served("Adapter", 45), 180)
    life.pictured_until = time.time()
    life.expect("AdapterReleaseRolledBack", namespace=NAMESPACE, name=bot.name)
    life.expect("AdapterReleaseServingErrors", namespace=NAMESPACE, release=f"{NAMESPACE}/{bot.name}")
    life.expect("AdapterReleaseWaitingForPeople", name=bot.name, what="Decision")


def _spec(min_speedup: str, duration: str) -> Json:
    """An artifact of its own, since it will be rejected; quantized, so that its build can be seen."""
    spec = spec_of("Stable")
    spec["build"]["quantization"]["calibration"]["samples"] = 24
    (suite,) = spec["validation"]["suites"]
    suite |= {"source": {"uri": "pvc://store/suites/short.jsonl"}, "maxQuantizedScoreDrop": "0.2"}
    spec["validation"]["benchmark"] = {"concurrency": 4, "requests": 16, "minSpeedup": min_speedup}
    observe = {"duration": duration, "interval": "5s", "maxLatencyRatio": "50", "failureLimit": 3}
    spec["rollout"]["observe"] |= observe
    return spec


def _refused(life: Life, bot: Release, unbuildable: Release) -> None:
    spec = cheaply(spec_of("Stable"))
    spec["build"] |= {"deadline": "60s", "podTemplate": {"spec": {"nodeSelector": {"nowhere": "here"}}}}
    unbuildable.set_spec(spec)
    bot.set_spec(_spec("100", "20s"))
    life.expect("AdapterReleaseBuildStuck", name=unbuildable.name, seconds=120)
    life.expect("AdapterReleaseDeadlineNear", name=unbuildable.name, seconds=120)
    life.expect("AdapterReleaseBuildFailed", name=unbuildable.name, reason="BuildDeadlineExceeded")
    bot.until("Validated", "False", "ValidationFailed", seconds=600)
    life.expect("AdapterReleaseValidationFailed", name=bot.name, reason="ValidationFailed")


def _full_server(life: Life, bot: Release, late: Release) -> None:
    full, _ = bot.cluster.base_pods()
    with strangers(bot.cluster, full, bot.status["adapter"]["path"]):
        late.set_spec(spec_of())
        life.expect("AdapterReleaseAdapterMissing", name=late.name, pod=full["metadata"]["name"])


def _without_plugin(life: Life, plain: Release) -> None:
    """No pod of that base has to run for it to be said."""
    documents = yaml.safe_load_all((SANDBOX / "manifests" / "base.yaml").read_text())
    base = without_plugin(next(d for d in documents if d["kind"] == DEPLOYMENTS.kind))
    base["spec"]["replicas"] = 0
    life.cluster.apply(base)
    plain.set_spec(spec_of() | {"baseRef": {"name": PLAIN}})
    life.expect("AdapterReleaseUpdatesNotGapFree", name=plain.name, reason="NoEnginePlugin")
    life.expect("AdapterReleaseBlocked", name=plain.name, reason="NoReadyBasePod")


def _without_rights(life: Life) -> None:
    with _installed_again(life):
        life.cluster.kubectl("delete", "clusterrolebinding", CONTROLLER)
        life.expect("AdapterReleaseForbidden", namespace=SYSTEM)
        life.expect("AdapterReleaseReconcileErrors", namespace=SYSTEM, controller="adapterrelease")


def _without_servers_and_account(life: Life, bot: Release) -> None:
    """While the servers start again."""
    cluster, deployment = life.cluster, ("-n", SYSTEM, "deployment", CONTROLLER)
    for pod in cluster.base_pods():
        cluster.kill_container(pod)
    life.expect("AdapterReleaseNotServing", namespace=NAMESPACE, name=bot.name)
    with _installed_again(life):
        cluster.kubectl("-n", SYSTEM, "delete", "serviceaccount", CONTROLLER)
        life.expect("AdapterReleaseUnauthorized", namespace=SYSTEM)
        cluster.kubectl("scale", *deployment, "--replicas=0")
        life.expect("AdapterReleaseControllerNotLeading", name="adapterrelease")
    cluster.kubectl("rollout", "status", *deployment, "--timeout=180s")
    shown = "count(adapterrelease_info) and on () sum(leader_election_master_status) == 1"
    cluster.until("one leads and shows the releases again", lambda: life.prometheus.instant(shown), 120)
    cluster.until_base_has(2)


@contextmanager
def _installed_again(life: Life) -> Iterator[None]:
    """What is missing of the controller's installation is there again afterwards."""
    try:
        yield
    finally:
        manifest = CHECKOUT / "manifests" / "install.yaml"
        life.cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", manifest)
