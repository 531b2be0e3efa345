"""The network around the controller: what gets in, and what it may ask."""

from __future__ import annotations

from typing import Any

import pytest

from controller.reconcile.objects.jobs import PROGRESS_PORT
from tests.chart.rendering import CHART, Chart, of_kind, one, pods

pytestmark = pytest.mark.helm

Json = dict[str, Any]


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


def test_rules_of_one_s_own_come_behind(chart: Chart) -> None:
    proxy = {"to": [{"ipBlock": {"cidr": "10.0.0.2/32"}}], "ports": [{"port": 3128, "protocol": "TCP"}]}
    made = chart.render({"networkPolicy": {"enabled": True, "egress": [proxy]}})
    assert one(made, "NetworkPolicy")["spec"]["egress"][3:] == [proxy]


def test_whoever_may_read_metrics_the_pod_of_helm_test_may(chart: Chart) -> None:
    mine = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    made = chart.render({"networkPolicy": {"enabled": True, "metricsFrom": [mine]}})
    (ingress,) = one(made, "NetworkPolicy")["spec"]["ingress"]
    named, smoke = ingress["from"]
    (tester,) = of_kind(made, "Pod")
    assert named == mine
    assert smoke["podSelector"]["matchLabels"].items() <= tester["metadata"]["labels"].items()
    (operator,) = [pod for pod in pods(made) if pod is not tester]
    assert not smoke["podSelector"]["matchLabels"].items() <= operator["metadata"]["labels"].items()


def test_the_port_of_a_job_s_progress_is_the_one_that_values_name() -> None:
    assert f"by number, of the progress of jobs ({PROGRESS_PORT})" in (CHART / "values.yaml").read_text()
