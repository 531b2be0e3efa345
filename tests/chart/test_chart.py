"""The chart as Helm renders it: what is in it by default, and what each value makes of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts.generate import installation
from controller.api.crd import custom_resource_definition
from controller.reconcile.objects.jobs import PROGRESS_PORT
from controller.settings import Settings
from tests.chart.rendering import (
    CHART,
    NAME,
    NAMESPACE,
    ROOT,
    Chart,
    container_of,
    environment,
    identity,
    of_kind,
    one,
    pods,
)
from tests.chart.restricted import violations

pytestmark = pytest.mark.helm

Json = dict[str, Any]
DIGEST = "sha256:" + "a" * 64
# Everything that there is, on: each template renders something.
ALL: Json = {
    "namespace": {"create": True},
    "image": {"tag": "1.2.3", "digest": DIGEST},
    "imagePullSecrets": [{"name": "pull"}],
    "jobs": {"image": {"tag": "1.2.3"}, "serviceAccountName": "jobs"},
    "watchNamespaces": ["llm", "prod"],
    "settings": {"workers": 8, "logLevel": "DEBUG"},
    "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "replicas": 3,
    "rbac": {"apiKeySecrets": [{"namespace": "llm", "name": "vllm-api-key"}]},
    "serviceAccount": {"annotations": {"a": "b"}},
    "networkPolicy": {"enabled": True, "metricsFrom": [{"podSelector": {}}], "enginePorts": [8000, 9402]},
    "commonLabels": {"team": "ml"},
    "podLabels": {"x": "y"},
    "podAnnotations": {"x": "y"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "cpu", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
    ],
    "priorityClassName": "system-cluster-critical",
    "metrics": {
        "service": {"annotations": {"a": "b"}},
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "interval": "15s", "scrapeTimeout": "5s"},
        "jobsPodMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
    },
    "grafana": {"dashboards": {"enabled": True}},
    "store": {"create": True, "namespace": "llm", "annotations": {"a": "b"}},
}


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


# -- settings

OF_EACH_SETTING: Json = {
    "kubeconfig": "/etc/kubeconfig",
    "context": "prod",
    "artifactCheck": "Sizes",
    "workers": 12,
    "retryMaxDelay": 12.5,
    "drainTimeout": 15,
    "engineAskTimeout": 3,
    "engineLoadTimeout": 1000000,
    "engineProbeTimeout": 0.25,
    "engineConnections": 64,
    "leaseNamespace": "leases",
    "leaseName": "mine",
    "leaseDuration": 30,
    "leaseRenewDeadline": 20,
    "leaseRetryPeriod": 4,
    "metricsPort": 9090,
    "logLevel": "WARNING",
}


def test_every_setting_reaches_the_program(chart: Chart, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is not what the program would have without it."""
    values = {
        "settings": OF_EACH_SETTING,
        "watchNamespaces": ["llm", "prod"],
        "jobs": {"image": {"repository": "example/job", "tag": "7"}, "serviceAccountName": "jobs"},
    }
    defaults = Settings()
    for name, value in environment(chart.render(values)).items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    same = [name for name in Settings.model_fields if getattr(settings, name) == getattr(defaults, name)]
    assert same == []
    assert (settings.namespaces, settings.job_image) == (("llm", "prod"), "example/job:7")
    assert (settings.engine_load_timeout, settings.engine_probe_timeout) == (1000000, 0.25)


def test_what_is_not_set_is_left_to_the_program(chart: Chart) -> None:
    assert environment(chart.render()) == {"ADAPTERRELEASE_JOB_IMAGE": Settings().job_image}


def test_the_port_of_metrics_is_that_of_probes_service_and_annotations(chart: Chart) -> None:
    made = chart.render({"settings": {"metricsPort": 9090}, "networkPolicy": {"enabled": True}})
    container = container_of(made)
    assert container["ports"] == [{"name": "http", "containerPort": 9090}]
    assert {container[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "liveness", "readiness")} == {"http"}
    assert one(made, "Service")["spec"]["ports"][0]["targetPort"] == "http"
    annotations = one(made, "Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == "9090"
    assert one(made, "NetworkPolicy")["spec"]["ingress"] == [{"ports": [{"port": 9090, "protocol": "TCP"}]}]


def test_the_lease_s_role_lies_where_the_lease_does(chart: Chart) -> None:
    made = chart.render({"settings": {"leaseNamespace": "leases"}})
    for kind in ("Role", "RoleBinding"):
        assert one(made, kind, "adapter-release-leader")["metadata"]["namespace"] == "leases"


# -- images


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        ({}, "adapterrelease/controller:dev"),
        ({"tag": "1.2.3"}, "adapterrelease/controller:1.2.3"),
        ({"repository": "registry.example:5000/arc"}, "registry.example:5000/arc:dev"),
        ({"tag": "1.2.3", "digest": DIGEST}, f"adapterrelease/controller:1.2.3@{DIGEST}"),
    ],
)
def test_an_image_is_named_by_tag_and_pulled_by_digest(chart: Chart, image: Json, wanted: str) -> None:
    made = chart.render({"image": image})
    assert {c["image"] for pod in pods(made) for c in pod["spec"]["containers"]} == {wanted}
    job = chart.render({"jobs": {"image": image | {"repository": "adapterrelease/controller", **image}}})
    assert environment(job)["ADAPTERRELEASE_JOB_IMAGE"] == wanted


# -- being available


def test_one_replica_has_no_budget(chart: Chart) -> None:
    """It would hold up every drain of that node."""
    assert one(chart.render(), "PodDisruptionBudget")["spec"]["minAvailable"] == 1
    assert of_kind(chart.render({"replicas": 1}), "PodDisruptionBudget") == []
    assert of_kind(chart.render({"podDisruptionBudget": {"enabled": False}}), "PodDisruptionBudget") == []


# -- the network


def test_the_policy_lets_in_metrics_and_out_what_the_controller_asks(chart: Chart) -> None:
    policy = one(chart.render({"networkPolicy": {"enabled": True}}), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    dns, api, engines = policy["egress"]
    assert {(p["port"], p["protocol"]) for p in dns["ports"]} == {(53, "UDP"), (53, "TCP")}
    assert [p["port"] for p in api["ports"]] == [443, 6443] and "to" not in api
    assert engines == {"to": [{"namespaceSelector": {}}]}


def test_the_policy_is_as_narrow_as_one_says(chart: Chart) -> None:
    narrow = {"enabled": True, "apiServerTo": [{"ipBlock": {"cidr": "10.0.0.1/32"}}], "enginePorts": [8000]}
    made = chart.render({"networkPolicy": narrow, "watchNamespaces": ["llm"]})
    _, api, engines = one(made, "NetworkPolicy")["spec"]["egress"]
    assert api["to"] == [{"ipBlock": {"cidr": "10.0.0.1/32"}}]
    (expression,) = engines["to"][0]["namespaceSelector"]["matchExpressions"]
    assert (expression["key"], expression["values"]) == ("kubernetes.io/metadata.name", ["llm"])
    assert engines["ports"] == [{"port": 8000, "protocol": "TCP"}]


# -- Prometheus and Grafana


def test_monitors_name_ports_and_labels_that_are_there(chart: Chart) -> None:
    made = chart.render(ALL)
    operator, jobs = of_kind(made, "PodMonitor")
    template = one(made, "Deployment")["spec"]["template"]
    assert operator["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert operator["spec"]["podMetricsEndpoints"] == [
        {"port": "http", "path": "/metrics", "interval": "15s", "scrapeTimeout": "5s"}
    ]
    assert operator["metadata"]["labels"]["release"] == "prometheus"
    assert jobs["spec"]["namespaceSelector"] == {"matchNames": ["llm", "prod"]}
    assert jobs["spec"]["podMetricsEndpoints"] == [{"port": "progress", "path": "/metrics"}]
    made = chart.render({"metrics": {"serviceMonitor": {"enabled": True}}})
    monitor, service = one(made, "ServiceMonitor"), one(made, "Service")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]


def test_jobs_have_the_port_and_the_label_that_their_monitor_names() -> None:
    source = (ROOT / "controller" / "reconcile" / "objects" / "jobs.py").read_text()
    assert '"name": "progress", "containerPort": PROGRESS_PORT' in source
    assert str(PROGRESS_PORT) in (CHART / "values.yaml").read_text()


RULES = """\
groups:
- name: a
  rules:
  - alert: Down
    expr: up{job="x"} == 0
    annotations: {summary: "{{ $labels.instance }} is down: {{ $value | humanize }}"}
"""
DASHBOARD = '{"title": "Release", "legend": "{{backend}}", "expr": "rate(x[$__rate_interval])"}\n'


@pytest.fixture
def filled(chart: Chart, tmp_path: Path) -> Chart:
    """The chart with one file of rules and one dashboard, as `make generate` copies them."""
    shutil.copytree(CHART, tmp_path / "chart")
    for directory in ("prometheus", "dashboards"):
        for path in (tmp_path / "chart" / "files" / directory).glob("[!.]*"):
            path.unlink()
    (tmp_path / "chart" / "files" / "prometheus" / "alerts.yaml").write_text(RULES)
    (tmp_path / "chart" / "files" / "dashboards" / "release.json").write_text(DASHBOARD)
    return chart.at(tmp_path / "chart")


def test_rules_are_what_the_file_says_to_the_last_brace(filled: Chart) -> None:
    made = filled.render({"metrics": {"prometheusRule": {"enabled": True, "labels": {"release": "p"}}}})
    rule = one(made, "PrometheusRule", f"{NAME}-alerts")
    assert rule["spec"] == yaml.safe_load(RULES)
    assert rule["metadata"]["labels"]["release"] == "p"
    assert of_kind(filled.render(), "PrometheusRule") == []


def test_a_dashboard_is_a_config_map_that_the_sidecar_finds(filled: Chart) -> None:
    values = {"enabled": True, "namespace": "monitoring", "annotations": {"grafana_folder": "vLLM"}}
    made = one(filled.render({"grafana": {"dashboards": values}}), "ConfigMap", f"{NAME}-release")
    assert made["metadata"]["namespace"] == "monitoring"
    assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert made["metadata"]["annotations"] == {"grafana_folder": "vLLM"}
    assert made["data"]["release.json"].strip() == DASHBOARD.strip()
    assert of_kind(filled.render(), "ConfigMap") == []


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
    assert container_of(made)["image"] == "adapterrelease/controller:1.2.3"
