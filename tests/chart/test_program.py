"""Settings and images: what of the values reaches the program."""

from __future__ import annotations

from typing import Any

import pytest

from controller.settings import Settings
from tests.chart.everything import ALL, DIGEST, QUEUED
from tests.chart.rendering import (
    Chart,
    container_of,
    environment,
    one,
    pods,
)

pytestmark = pytest.mark.helm

Json = dict[str, Any]


# -- settings

OF_EACH_SETTING: Json = {
    "kubeconfig": "/etc/kubeconfig",
    "context": "prod",
    "artifactCheck": "Sizes",
    "keepExamples": "None",
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
        "jobs": {
            "image": {"repository": "example/job", "tag": "7"},
            "serviceAccountName": "jobs",
            "podTemplate": QUEUED,
        },
    }
    defaults = Settings()
    for name, value in environment(chart.render(values)).items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    same = [name for name in Settings.model_fields if getattr(settings, name) == getattr(defaults, name)]
    assert same == []
    assert (settings.namespaces, settings.job_image) == (("llm", "prod"), "example/job:7")
    assert settings.job_pod_template == QUEUED
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


def test_what_one_mounts_comes_beside_what_is_there(chart: Chart) -> None:
    made = chart.render(ALL)
    volumes = [v["name"] for v in one(made, "Deployment")["spec"]["template"]["spec"]["volumes"]]
    assert volumes == ["tmp", "kubeconfig"]
    assert [m["mountPath"] for m in container_of(made)["volumeMounts"]] == ["/tmp", "/etc/kubeconfig"]


# -- images


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        ({}, "localhost/adapterrelease/controller:dev"),
        ({"tag": "1.2.3"}, "localhost/adapterrelease/controller:1.2.3"),
        ({"repository": "registry.example:5000/arc"}, "registry.example:5000/arc:dev"),
        ({"tag": "1.2.3", "digest": DIGEST}, f"localhost/adapterrelease/controller:1.2.3@{DIGEST}"),
    ],
)
def test_an_image_is_named_by_tag_and_pulled_by_digest(chart: Chart, image: Json, wanted: str) -> None:
    made = chart.render({"image": image})
    assert {c["image"] for pod in pods(made) for c in pod["spec"]["containers"]} == {wanted}
    job = chart.render({"jobs": {"image": image | {"repository": "localhost/adapterrelease/controller", **image}}})
    assert environment(job)["ADAPTERRELEASE_JOB_IMAGE"] == wanted
