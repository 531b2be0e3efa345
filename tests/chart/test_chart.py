"""The chart as Helm renders it: what is in it, whole, and what it leaves to others."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from charts.generate import installation
from controller.api.crd import custom_resource_definition
from tests.chart.everything import ALL
from tests.chart.rendering import (
    CHART,
    NAME,
    NAMESPACE,
    ROOT,
    Chart,
    container_of,
    identity,
    of_kind,
    one,
    pods,
)
from tests.chart.restricted import violations

pytestmark = pytest.mark.helm

Json = dict[str, Any]


def test_it_is_linted_without_a_warning(chart: Chart) -> None:
    status, output = chart.helm("lint", "--strict", CHART)
    assert status == 0, output
    status, output = chart.helm("lint", "--strict", CHART, values=ALL)
    assert status == 0, output


def test_the_installation_without_helm_is_this_chart(helm_program: str) -> None:
    assert (ROOT / "manifests" / "install.yaml").read_text() == installation(helm_program), "run `make generate`"


def test_a_cluster_that_is_too_old_is_refused(chart: Chart) -> None:
    assert chart.render(None, "--kube-version", "1.30.0")
    assert "chart requires kubeVersion" in chart.refusal({"replicas": 2}, "--kube-version", "1.29.9")


@pytest.mark.parametrize("values", [None, ALL], ids=["defaults", "everything"])
def test_every_pod_meets_the_restricted_standard(chart: Chart, values: Json | None) -> None:
    made = pods(chart.render(values))
    assert len(made) == 2  # the controller's, and that of `helm test`
    assert [violations(pod) for pod in made] == [[], []]


def test_the_checker_of_pods_sees_what_is_wrong(chart: Chart) -> None:
    loose = {"podSecurityContext": {"runAsNonRoot": None}, "securityContext": {"allowPrivilegeEscalation": True}}
    (operator,) = [p for p in pods(chart.render(loose)) if p["spec"]["containers"][0]["name"] == "operator"]
    assert violations(operator) == ["operator: runAsNonRoot", "operator: allowPrivilegeEscalation"]


def test_every_object_has_the_standard_labels_and_is_named_once(chart: Chart) -> None:
    made = chart.render(ALL)
    assert len({identity(o) for o in made}) == len(made)
    for o in made:
        labels = o["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == NAME, identity(o)
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["app.kubernetes.io/instance"] == NAME
        assert labels["team"] == "ml"


def test_selectors_find_the_controller_s_pods_and_no_value_changes_them(chart: Chart) -> None:
    """A Deployment's selector cannot be changed; an upgrade that did would fail."""
    plain, full = chart.render(), chart.render(ALL)
    selector = one(plain, "Deployment")["spec"]["selector"]["matchLabels"]
    assert selector == {
        "app.kubernetes.io/name": NAME,
        "app.kubernetes.io/instance": NAME,
        "app.kubernetes.io/component": "operator",
    }
    assert one(full, "Deployment")["spec"]["selector"]["matchLabels"] == selector
    for made in (plain, full):
        assert selector.items() <= one(made, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
        assert one(made, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == selector
        assert one(made, "Service")["spec"]["selector"] == selector
    assert one(full, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == selector


# -- the CRD


def test_the_crd_is_the_one_of_the_models_and_is_kept(chart: Chart) -> None:
    made, wanted = one(chart.render(), "CustomResourceDefinition"), custom_resource_definition()
    assert made["spec"] == wanted["spec"]
    assert made["metadata"]["name"] == wanted["metadata"]["name"]
    assert made["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_the_crd_can_be_left_to_others_or_go_with_the_release(chart: Chart) -> None:
    assert of_kind(chart.render({"crds": {"install": False}}), "CustomResourceDefinition") == []
    made = one(chart.render({"crds": {"keep": False}}), "CustomResourceDefinition")
    assert "annotations" not in made["metadata"]


# -- being available


def test_one_replica_has_no_budget(chart: Chart) -> None:
    """It would hold up every drain of that node."""
    budget = one(chart.render(), "PodDisruptionBudget")["spec"]
    assert (budget["minAvailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
    assert of_kind(chart.render({"replicas": 1}), "PodDisruptionBudget") == []
    assert of_kind(chart.render({"podDisruptionBudget": {"enabled": False}}), "PodDisruptionBudget") == []


# -- the store


def test_the_store_s_claim_lies_with_the_base_and_stays(chart: Chart) -> None:
    assert of_kind(chart.render(), "PersistentVolumeClaim") == []
    claim = one(chart.render({"store": {"create": True, "namespace": "llm"}}), "PersistentVolumeClaim")
    assert (claim["metadata"]["namespace"], claim["metadata"]["name"]) == ("llm", "store")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


# -- the end of an installation


def test_the_notes_say_what_to_do_next(chart: Chart) -> None:
    def notes(values: Json | None) -> str:
        status, output = chart.helm(
            *("install", NAME, CHART, "--namespace", NAMESPACE, "--dry-run=client"), values=values
        )
        assert status == 0, output
        return output.partition("NOTES:")[2]

    said = notes({"admissionPolicy": {"enabled": True}})
    assert f"rollout status deployment/{NAME}" in said and f"helm test {NAME}" in said
    assert "policy is not installed" not in said and "keeps the CRD" in said
    assert "policy is not installed" in notes({"admissionPolicy": {"enabled": False}})
    assert "looked after in: llm" in notes({"rbac": {"scope": "Namespaced"}, "watchNamespaces": ["llm"]})


def test_the_test_s_pod_is_a_hook_and_asks_the_service(chart: Chart) -> None:
    made = chart.render()
    (pod,) = of_kind(made, "Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (container,) = pod["spec"]["containers"]
    service = one(made, "Service")
    url = {"name": "CONTROLLER", "value": f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"}
    assert container["env"] == [url]
    assert container["args"][0].strip() == (CHART / "files" / "smoke.py").read_text().strip()


def test_the_package_has_what_the_chart_needs_and_nothing_else(chart: Chart, tmp_path: Path) -> None:
    status, output = chart.helm(
        "package", CHART, "--destination", tmp_path, "--version", "1.2.3", "--app-version", "1.2.3"
    )
    assert status == 0, output
    shutil.unpack_archive(tmp_path / f"{NAME}-1.2.3.tgz", tmp_path, filter="data")
    packaged = {str(p.relative_to(tmp_path / NAME)) for p in (tmp_path / NAME).rglob("*") if p.is_file()}
    here = {str(p.relative_to(CHART)) for p in CHART.rglob("*") if p.is_file()}
    assert packaged == {path for path in here if not any(part.startswith(".") for part in Path(path).parts)} | (
        {".helmignore"} & packaged
    )
    made = chart.at(tmp_path / f"{NAME}-1.2.3.tgz").render()
    assert container_of(made)["image"] == "localhost/adapterrelease/controller:1.2.3"
