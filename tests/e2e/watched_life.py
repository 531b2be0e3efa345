"""A life of releases on a real cluster that a real Prometheus watches, played once for all tests that ask it.

A release is promoted, fails and goes back; others cannot be imported, built, loaded or updated without a gap; then the
controller's rights, the servers and the controller's account go. What was to fire is remembered, and whether it did;
tests/e2e/test_alerts.py holds it to that. The README's pictures are of the first part.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from controller.runtime.resources import DEPLOYMENTS
from tests.e2e.cluster import NAMESPACE, SYSTEM, measured
from tests.e2e.load import Load
from tests.e2e.recorded import Life
from tests.e2e.release import QUESTION, Release, cheaply, spec_of
from tests.e2e.sandbox import CHECKOUT, SANDBOX
from tests.e2e.scraping import targets
from tests.e2e.test_in_place import PLAIN, without_plugin
from tests.e2e.test_pods import strangers
from tests.e2e.test_watched import Fault

Json = dict[str, Any]
CONTROLLER = "adapter-release-controller"
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


def play(life: Life, directory: Path, bot: Release) -> None:
    """`bot` serves its adapter v1 on two pods. `directory`: of the Prometheus that records it."""
    names = ("invoice", "foreign", "unbuildable", "late", "plain")
    others = invoice, foreign, unbuildable, late, plain = [Release(bot.cluster, f"{name}-bot") for name in names]
    with targets(directory, bot.cluster), _gone_afterwards(life, others):
        _two_more(life, invoice, foreign)
        _there_and_back(life, bot)
        _refused(life, bot, unbuildable)
        _full_server(life, bot, late)
        _without_plugin(life, plain)
        _without_rights(life)
        _without_servers(life, bot)
        _without_account(life)
        life.ended = time.time()
    measured("seconds of the life that Prometheus watched", round(life.ended - life.began))


@contextmanager
def _gone_afterwards(life: Life, releases: Sequence[Release]) -> Iterator[None]:
    """What cannot be deleted is said; it hides no failure of what was played."""
    try:
        yield
    finally:
        life.say("deletes what was made for it")
        names, how = [release.name for release in releases], ("--ignore-not-found", "--timeout=180s")
        for what in (("ar", *names), ("deployment", PLAIN)):
            life.say(life.cluster.kubectl("-n", NAMESPACE, "delete", *what, *how, check=False).strip())


def _two_more(life: Life, invoice: Release, foreign: Release) -> None:
    """One serves another adapter on the same base, one is for another base."""
    invoice.set_spec(spec_of(source="support-bot/v2"))
    foreign.set_spec(spec_of(source="other-base"))
    life.say("waits for a second release on the base")
    invoice.until("Ready", "True", "Serving")
    life.expect("AdapterReleaseImportFailed", namespace=NAMESPACE, name=foreign.name, reason="BaseMismatch")


def _there_and_back(life: Life, bot: Release) -> None:
    cluster, fault = bot.cluster, Fault(bot)
    with Load(cluster, bot.name, rate=4), Streams(bot):
        bot.set_spec(_spec(life, "0.01", "17m"))
        life.say("waits for the merged model to serve, and three quarters of a minute of it")
        bot.until_serving("Artifact", seconds=1200)
        cluster.until("it serves for so long", lambda: life.has_served("Artifact", 45, bot.name), 300)
        life.fails_at = time.time()
        fault.begin(fails=True)
        try:
            life.say("waits for the way back, since it answers 500")
            bot.until_serving("Adapter", seconds=300)
        finally:
            fault.end()
        cluster.until("as long after it", lambda: life.has_served("Adapter", 45, bot.name), 300)
    life.pictured_until = time.time()
    life.expect("AdapterReleaseRolledBack", namespace=NAMESPACE, name=bot.name)
    life.expect("AdapterReleaseServingErrors", namespace=NAMESPACE, release=f"{NAMESPACE}/{bot.name}")
    life.expect("AdapterReleaseWaitingForPeople", name=bot.name, what="Decision")


def _spec(life: Life, min_speedup: str, duration: str) -> Json:
    """An artifact of its own, since it will be rejected; quantized, and slowly, so that its build can be seen. Not one
    that an earlier life has left in the store: it would not be built."""
    spec = spec_of("Stable")
    slowly = {"name": "job", "resources": {"limits": {"cpu": "400m"}}}
    spec["build"]["podTemplate"] = {"spec": {"containers": [slowly]}}
    spec["build"]["quantization"]["calibration"]["samples"] = 24 + round(life.began) % 32
    (suite,) = spec["validation"]["suites"]
    suite |= {"source": {"uri": "pvc://store/suites/short.jsonl"}, "maxQuantizedScoreDrop": "0.2"}
    spec["validation"]["benchmark"] = {"concurrency": 4, "requests": 16, "minSpeedup": min_speedup}
    observe = {"duration": duration, "interval": "5s", "maxLatencyRatio": "50", "failureLimit": 3}
    spec["rollout"]["observe"] |= observe
    return spec


def _refused(life: Life, bot: Release, unbuildable: Release) -> None:
    spec = cheaply(spec_of("Stable"))
    spec["build"] |= {"deadline": "2m", "podTemplate": {"spec": {"nodeSelector": {"nowhere": "here"}}}}
    unbuildable.set_spec(spec)
    bot.set_spec(_spec(life, "100", "20s"))
    life.expect("AdapterReleaseBuildStuck", name=unbuildable.name, seconds=300)
    life.expect("AdapterReleaseDeadlineNear", name=unbuildable.name, seconds=180)
    life.expect("AdapterReleaseBuildFailed", name=unbuildable.name)
    life.say("waits for a verdict")
    bot.until("Validated", "False", "ValidationFailed", seconds=900)
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


def _without_servers(life: Life, bot: Release) -> None:
    for pod in life.cluster.base_pods():
        life.cluster.kill_container(pod)
    life.expect("AdapterReleaseNotServing", namespace=NAMESPACE, name=bot.name)


def _without_account(life: Life) -> None:
    """While the servers start again."""
    cluster, deployment = life.cluster, ("-n", SYSTEM, "deployment", CONTROLLER)
    with _installed_again(life):
        cluster.kubectl("-n", SYSTEM, "delete", "serviceaccount", CONTROLLER)
        life.expect("AdapterReleaseUnauthorized", namespace=SYSTEM)
        cluster.kubectl("scale", *deployment, "--replicas=0")
        life.expect("AdapterReleaseControllerNotLeading", name="adapterrelease")
    life.say("waits for the controller and the servers")
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
