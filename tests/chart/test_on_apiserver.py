"""Helm and the chart on a real API server, from the first installation to one that takes up what the last one left.

There is no node, so nothing runs: tests/e2e/test_helm.py has what pods do. The CRD is shared with other tests and
stays; all names and namespaces are of these tests alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import cluster as cluster
from tests.api.kubectl import Kubectl
from tests.api.manifests import experimental
from tests.chart.everything import ALL
from tests.chart.older import older_chart
from tests.chart.rendering import CHART, Chart

pytestmark = [pytest.mark.helm, pytest.mark.apiserver]

Json = dict[str, Any]

NAME = "charttest"
FULL = f"{NAME}-adapter-release-controller"
SPACES = (NAME, f"{NAME}-llm", "llm", "prod")
CRD = "crd/adapterreleases.adapterrelease.dev"
OF_OTHERS = {"PodMonitor", "ServiceMonitor", "PrometheusRule"}  # CRDs that are not there


class Helm:
    def __init__(self, chart: Chart, kubeconfig: Path, kubectl: Kubectl) -> None:
        self._chart = chart
        self._kubeconfig = kubeconfig
        self.kubectl = kubectl

    def __call__(self, verb: str, *arguments: str | Path, values: Json | None = None) -> str:
        status, output = self.try_(verb, *arguments, values=values)
        assert status == 0, output
        return output

    def try_(self, verb: str, *arguments: str | Path, values: Json | None = None) -> tuple[int, str]:
        where = ("--kubeconfig", self._kubeconfig, "--namespace", NAME)
        return self._chart.helm(verb, NAME, *arguments, *where, values=values)

    def get(self, *what: str) -> Json:
        found: Json = json.loads(self.kubectl("get", *what, "-o", "json"))
        return found

    def there(self, what: str, namespace: str = NAME) -> bool:
        return bool(self.kubectl("-n", namespace, "get", what, "--ignore-not-found", "-o", "name").strip())

    def columns(self) -> set[str]:
        (version,) = self.get(CRD)["spec"]["versions"]
        return {column["name"] for column in version["additionalPrinterColumns"]}


@pytest.fixture(scope="module")
def helm(chart: Chart, apiserver: Path, cluster: Kubectl) -> Iterator[Helm]:
    for namespace in SPACES:
        if cluster.try_("get", "namespace", namespace)[0]:
            cluster("create", "namespace", namespace)
    made = Helm(chart, apiserver, cluster)
    yield made
    made.try_("uninstall", "--ignore-not-found")
    cluster("-n", f"{NAME}-llm", "delete", "ar", "--all")


@pytest.fixture(scope="module")
def installed(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """The version before this one, in a cluster that has the CRD by other means; and a release."""
    older = older_chart(tmp_path_factory.mktemp("older") / "chart")
    values = {"settings": {"workers": 8}, "replicas": 3}
    helm("install", older, "--take-ownership", "--force-conflicts", values=values)
    release = experimental("kept")
    release["metadata"]["namespace"] = f"{NAME}-llm"
    helm.kubectl("apply", "-f", "-", manifest=release)
    return helm


def test_the_api_server_takes_every_object_as_it_is(chart: Chart, helm: Helm) -> None:
    """No field is unknown, none is dropped."""
    made = chart.render(ALL | {"namespace": {"create": False}}, name=NAME, namespace=NAME)
    known = [o for o in made if o["kind"] not in OF_OTHERS]
    assert len(known) > 15
    for o in known:
        flags = ("--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict")
        output = helm.kubectl("apply", *flags, "-f", "-", manifest=o)
        assert "unknown field" not in output


def test_it_is_installed(installed: Helm) -> None:
    deployment = installed.get("-n", NAME, f"deployment/{FULL}")
    assert deployment["spec"]["replicas"] == 3
    assert installed.there(f"clusterrole/{FULL}")
    assert "Speedup" not in installed.columns()


def test_an_upgrade_brings_the_crd_and_keeps_the_values(installed: Helm) -> None:
    before = installed.get("-n", NAME, f"deployment/{FULL}")
    installed("upgrade", CHART, "--reset-then-reuse-values", "--set", "settings.logLevel=DEBUG")
    after = installed.get("-n", NAME, f"deployment/{FULL}")
    (container,) = after["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert (environment["ADAPTERRELEASE_WORKERS"], environment["ADAPTERRELEASE_LOG_LEVEL"]) == ("8", "DEBUG")
    assert (after["metadata"]["uid"], after["spec"]["replicas"]) == (before["metadata"]["uid"], 3)
    assert "Speedup" in installed.columns()


def test_a_crd_that_is_left_to_others_stays_as_it_is(installed: Helm) -> None:
    installed("upgrade", CHART, "--reset-then-reuse-values", "--set", "crds.install=false")
    assert installed.there("ar/kept", f"{NAME}-llm")
    installed("upgrade", CHART, "--reset-then-reuse-values", "--set", "crds.install=true")


def test_uninstalling_keeps_the_crd_and_the_releases_and_a_second_installation_takes_them_up(installed: Helm) -> None:
    uid = installed.get(CRD)["metadata"]["uid"]
    installed("uninstall")
    for gone in (f"deployment/{FULL}", f"clusterrole/{FULL}", f"role/{NAME}-adapter-release-leader"):
        assert not installed.there(gone), gone
    assert installed.there("ar/kept", f"{NAME}-llm")
    assert installed.get(CRD)["metadata"]["uid"] == uid
    installed("install", CHART)
    assert installed.get(CRD)["metadata"]["uid"] == uid
    assert installed.there(f"deployment/{FULL}") and installed.there("ar/kept", f"{NAME}-llm")


def test_another_release_does_not_take_the_crd_by_accident(installed: Helm, chart: Chart, apiserver: Path) -> None:
    other = ("install", f"{NAME}-other", CHART, "--kubeconfig", apiserver, "--namespace", NAME, "--dry-run=server")
    status, output = chart.helm(*other)
    assert status != 0
    assert "adapterreleases.adapterrelease.dev" in output and "invalid ownership metadata" in output
    status, output = chart.helm(*other, "--set", "crds.install=false")
    assert status == 0, output


def test_from_kubectl_to_helm_by_taking_ownership(chart: Chart, helm: Helm, apiserver: Path) -> None:
    """Nothing is made anew: the Deployment is the same one, and so are its pods."""
    name = f"{NAME}-{os.getpid()}"
    full = f"{name}-adapter-release-controller"
    values = {"crds": {"install": False}, "rbac": {"aggregateRoles": False}}
    for o in chart.render(values, "--skip-tests", name=name, namespace=NAME):
        labels = o["metadata"]["labels"]
        del labels["helm.sh/chart"], labels["app.kubernetes.io/managed-by"]
        helm.kubectl("apply", "--server-side", "-f", "-", manifest=o)
    uid = helm.get("-n", NAME, f"deployment/{full}")["metadata"]["uid"]
    where = ("--kubeconfig", apiserver, "--namespace", NAME)
    take = ("--take-ownership", "--force-conflicts")  # kubectl owns the fields, too
    status, output = chart.helm("install", name, CHART, *where, *take, values=values)
    assert status == 0, output
    assert helm.get("-n", NAME, f"deployment/{full}")["metadata"]["uid"] == uid
    status, output = chart.helm("uninstall", name, *where)
    assert status == 0, output
    assert not helm.there(f"deployment/{full}")
