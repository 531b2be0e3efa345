"""What is around the controller: the network, Prometheus, Grafana."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.reconcile.objects.jobs import PROGRESS_PORT
from tests.chart.everything import ALL
from tests.chart.rendering import (
    CHART,
    NAME,
    ROOT,
    Chart,
    of_kind,
    one,
)

pytestmark = pytest.mark.helm

Json = dict[str, Any]


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
