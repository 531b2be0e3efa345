"""A user of Helm, on a real node: takes over, tests, upgrades, uninstalls and installs again; clients notice nothing.

The others' installation, by kubectl, is there again at the end.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from controller.reconcile.caches import RELEASES
from controller.runtime.resources import DEPLOYMENTS, LEASES, PODS
from tests.chart.conftest import helm_program as helm_program
from tests.chart.older import older_chart
from tests.chart.rendering import CHART, NAME, ROOT
from tests.e2e.cluster import NAMESPACE, SYSTEM, Cluster
from tests.e2e.load import Load
from tests.e2e.release import Release

pytestmark = [pytest.mark.e2e, pytest.mark.helm]

Json = dict[str, Any]

INSTALL = ROOT / "manifests" / "install.yaml"
OPERATORS = f"app.kubernetes.io/name={NAME},app.kubernetes.io/component=operator"
CRD = "adapterreleases.adapterrelease.dev"


class Helm:
    """One Helm release, of the name and in the namespace that install.yaml has."""

    def __init__(self, program: str, cluster: Cluster, home: Path) -> None:
        self.cluster = cluster
        self._program = program
        homes = {f"HELM_{kind}_HOME": str(home / kind) for kind in ("CACHE", "CONFIG", "DATA")}
        self._environment = os.environ | homes | {"KUBECONFIG": str(cluster.kubeconfig)}

    def __call__(self, verb: str, *arguments: str | Path) -> str:
        status, output = self.try_(verb, *arguments)
        print(f"helm {verb} {' '.join(map(str, arguments))}:\n{output}", flush=True)
        if status:
            pytest.fail(f"helm {verb}: {output}{self._what_is_there()}{self.cluster.report()}")
        return output

    def try_(self, verb: str, *arguments: str | Path) -> tuple[int, str]:
        command = [self._program, verb, NAME, *map(str, arguments), "--namespace", SYSTEM]
        ended = subprocess.run(command, text=True, capture_output=True, env=self._environment, check=False)
        return ended.returncode, ended.stdout + ended.stderr

    def _what_is_there(self) -> str:
        """Of the controller's namespace; the pod of `helm test` stays when it has failed."""
        events = self.cluster.kubectl("-n", SYSTEM, "get", "pods,events", check=False)
        return f"\n-- {SYSTEM}\n{events}{self.cluster.kubectl('-n', SYSTEM, 'logs', f'{NAME}-test', check=False)}"

    def operators(self) -> list[Json]:
        """Those that are not about to end, too."""
        return self.cluster.find(PODS, OPERATORS, SYSTEM)

    def running(self) -> list[Json]:
        return [pod for pod in self.operators() if "deletionTimestamp" not in pod["metadata"]]

    def until_one_leads(self) -> None:
        self.cluster.kubectl("-n", SYSTEM, "rollout", "status", f"deployment/{NAME}", "--timeout=180s")

        def one_of_them() -> bool:
            pods = {p["metadata"]["name"] for p in self.running()}
            lease = self.cluster.get(LEASES, NAME, SYSTEM) or {"spec": {}}
            return str(lease["spec"].get("holderIdentity") or "").partition("_")[0] in pods

        self.cluster.until("one of the controller's pods leads", one_of_them, 120)

    def environment(self) -> dict[str, str]:
        (container,) = self.deployment()["spec"]["template"]["spec"]["containers"]
        return {entry["name"]: entry["value"] for entry in container["env"]}

    def deployment(self) -> Json:
        return self.cluster.client.get(DEPLOYMENTS.path(SYSTEM, NAME))

    def columns(self) -> set[str]:
        crd = json.loads(self.cluster.kubectl("get", "crd", CRD, "-o", "json"))
        return {c["name"] for v in crd["spec"]["versions"] for c in v["additionalPrinterColumns"]}

    def answers_from_the_api_server(self) -> dict[str, float]:
        """How many by code, to all pods of the controller."""
        found: dict[str, float] = {}
        for pod in self.running():
            text = self.cluster.http.get(f"http://{pod['status']['podIP']}:8080/metrics").raise_for_status().text
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    if sample.name == "rest_client_requests_total":
                        code = sample.labels["code"]
                        found[code] = found.get(code, 0) + sample.value
        return found


@pytest.fixture(scope="module")
def helm(helm_program: str, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Helm]:
    made = Helm(helm_program, cluster, tmp_path_factory.mktemp("helm"))
    yield made
    print("helm uninstall:", *made.try_("uninstall", "--ignore-not-found", "--wait"))
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", INSTALL)
    made.until_one_leads()


@pytest.fixture(scope="module")
def load(helm: Helm, bot: Release) -> Iterator[Load]:
    """From before Helm to after it."""
    bot.serve_v1_on(2)
    with Load(bot.cluster, bot.name, rate=4) as running:
        yield running


@pytest.fixture(scope="module")
def installed(helm: Helm, load: Load, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """The version before this one, over what kubectl has installed."""
    older = older_chart(tmp_path_factory.mktemp("older") / "chart")
    before = helm.deployment()["metadata"]["uid"]
    helm("install", older, "--take-ownership", "--force-conflicts", "--set", "settings.workers=3")
    assert helm.deployment()["metadata"]["uid"] == before
    helm.until_one_leads()
    return helm


def test_an_upgrade_replaces_the_controller_and_brings_the_crd(installed: Helm, bot: Release) -> None:
    assert "Speedup" not in installed.columns()
    served_since = bot.status["serving"]["since"]
    installed("upgrade", CHART, "--reset-then-reuse-values", "--set", "settings.logLevel=DEBUG")
    installed.until_one_leads()
    environment = installed.environment()
    assert (environment["ADAPTERRELEASE_WORKERS"], environment["ADAPTERRELEASE_LOG_LEVEL"]) == ("3", "DEBUG")
    assert "Speedup" in installed.columns()
    bot.until("Ready", "True", "Serving")
    assert bot.status["serving"]["since"] == served_since


def test_helm_s_own_test_passes(installed: Helm) -> None:
    assert "Succeeded" in installed("test", "--timeout=120s")


def test_uninstalled_the_route_still_answers_and_a_new_installation_takes_the_release_up(
    installed: Helm, bot: Release
) -> None:
    before = bot.read()
    installed("uninstall")
    installed.cluster.until("the controller is gone", lambda: not installed.operators(), 90)
    kept = installed.cluster.get(RELEASES, bot.name, NAMESPACE)
    assert kept is not None and kept["metadata"]["uid"] == before["metadata"]["uid"]
    bot.until_answered()
    installed("install", CHART)
    installed.until_one_leads()
    bot.patch({"spec": {"rollout": {"scaleDownDelay": "59m"}}})  # a new generation, which only a controller sees
    bot.until("Ready", "True", "Serving")
    assert bot.read()["metadata"]["uid"] == before["metadata"]["uid"]


def test_the_chart_s_rights_are_enough(installed: Helm) -> None:
    """The pods of the last installation have looked after a release, and no one of their requests was forbidden."""
    answers = installed.answers_from_the_api_server()
    assert answers.get("200", 0) > 10, answers
    assert "403" not in answers, answers


def test_in_all_that_no_request_was_lost(load: Load, installed: Helm) -> None:
    load.assert_nothing_failed()
