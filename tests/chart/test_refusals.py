"""Values that cannot work are refused before anything is installed, with words that name them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.rendering import Chart

pytestmark = pytest.mark.helm

Json = dict[str, Any]

REFUSED: list[tuple[Json, str]] = [
    ({"replicaCount": 2}, "replicaCount"),
    ({"replicas": "2"}, "/replicas"),
    ({"replicas": -1}, "/replicas"),
    ({"image": {"digest": "sha256:abc"}}, "/image/digest"),
    ({"image": {"repository": ""}}, "/image/repository"),
    ({"image": {"repository": "a@sha256:b"}}, "/image/repository"),
    ({"image": {"repository": "registry.example:5000/arc:1.2.3"}}, "/image/repository"),  # the tag has its own value
    ({"image": {"tag": "a b"}}, "/image/tag"),
    ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
    ({"imagePullSecrets": ["pull"]}, "/imagePullSecrets/0"),
    ({"jobs": {"image": {"name": "x"}}}, "/jobs/image"),
    ({"jobs": {"podTemplate": {"spec": {"hostNetwork": True}}}}, "/jobs/podTemplate/spec"),
    (
        {"jobs": {"podTemplate": {"spec": {"containers": [{"name": "vllm"}]}}}},
        "/jobs/podTemplate/spec/containers/0/name",
    ),
    ({"jobs": {"podTemplate": {"labels": {"a": "b"}}}}, "/jobs/podTemplate"),
    ({"settings": {"worker": 2}}, "/settings"),
    ({"settings": {"workers": 0}}, "/settings/workers"),
    ({"settings": {"workers": 65}}, "/settings/workers"),
    ({"settings": {"workers": "4"}}, "/settings/workers"),
    ({"settings": {"logLevel": "debug"}}, "/settings/logLevel"),
    ({"settings": {"artifactCheck": "Some"}}, "/settings/artifactCheck"),
    ({"settings": {"leaseDuration": 0}}, "/settings/leaseDuration"),
    ({"settings": {"metricsPort": 0}}, "/settings/metricsPort"),
    ({"settings": {"namespaces": "llm"}}, "/settings"),  # watchNamespaces, by which the roles go as well
    ({"settings": {"jobImage": "x"}}, "/settings"),
    ({"env": [{"name": "ADAPTERRELEASE_WORKERS", "value": "2"}]}, "/env/0"),  # twice, and it is unclear which holds
    ({"watchNamespaces": "llm"}, "/watchNamespaces"),
    ({"watchNamespaces": ["llm", "llm"]}, "/watchNamespaces"),
    ({"watchNamespaces": ["LLM"]}, "/watchNamespaces/0"),
    ({"rbac": {"scope": "namespaced"}}, "/rbac/scope"),
    ({"rbac": {"apiKeySecrets": [{"name": "key"}]}}, "/rbac/apiKeySecrets/0"),
    ({"podDisruptionBudget": {"minAvailable": "half"}}, "/podDisruptionBudget/minAvailable"),
    ({"networkPolicy": {"apiServerPorts": []}}, "/networkPolicy/apiServerPorts"),
    ({"networkPolicy": {"enginePorts": [0]}}, "/networkPolicy/enginePorts/0"),
    ({"metrics": {"podMonitor": {"interval": "often"}}}, "/metrics/podMonitor/interval"),
    ({"metrics": {"vllmPodMonitor": {"ports": []}}}, "/metrics/vllmPodMonitor/ports"),
    ({"metrics": {"vllmPodMonitor": {"bases": {"app": "vllm"}}}}, "/metrics/vllmPodMonitor/bases"),
    ({"metrics": {"runbookUrl": "https://runbooks.example.com/"}}, "/metrics/runbookUrl"),
    ({"metrics": {"runbookUrl": "docs"}}, "/metrics/runbookUrl"),
    ({"podLabels": {"a": 1}}, "/podLabels/a"),
    ({"fullnameOverride": "Not-A-Name"}, "/fullnameOverride"),
    ({"store": {"name": ""}}, "/store/name"),
    # what concerns two values
    ({"rbac": {"scope": "Namespaced"}}, "rbac.scope: Namespaced needs watchNamespaces"),
    ({"store": {"create": True}}, "store.create needs store.namespace"),
    ({"terminationGracePeriodSeconds": 20}, "must be more than settings.drainTimeout (20)"),
    ({"settings": {"drainTimeout": 30}}, "must be more than settings.drainTimeout (30)"),
    (
        {"metrics": {"serviceMonitor": {"enabled": True}, "service": {"enabled": False}}},
        "metrics.serviceMonitor.enabled needs metrics.service.enabled",
    ),
    (
        {"metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}},
        "would count everything twice",
    ),
    (
        {"settings": {"leaseDuration": 10, "leaseRenewDeadline": 10}},
        "settings.leaseDuration (10) > leaseRenewDeadline (10) > leaseRetryPeriod (2)",
    ),
]


@pytest.mark.parametrize(("values", "named"), REFUSED, ids=[str(values) for values, _ in REFUSED])
def test_it_is_refused_by_name(chart: Chart, values: Json, named: str) -> None:
    said = chart.refusal(values)
    assert named in said or named.lstrip("/").replace("/", ".") in said, said


@pytest.mark.parametrize(
    "values",
    [
        {"global": {"imageRegistry": "x"}},  # of a chart that has this one inside
        {"settings": {"kubeconfig": None}},
        {"podSecurityContext": {"runAsUser": None}},  # OpenShift gives one
        {"podDisruptionBudget": {"minAvailable": "50%"}},
        {"replicas": 0},
        {"settings": {"workers": 64, "metricsPort": 65535}},
        {"fullnameOverride": "arc"},
    ],
    ids=str,
)
def test_what_can_work_is_taken(chart: Chart, values: Json) -> None:
    assert chart.render(values)
