"""Prometheus and Grafana: monitors that find what is there, and rules and dashboards that are those of the project."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from controller.api.v1alpha1 import RELEASE_LABEL
from controller.cli.metrics_reference import Declared, of_jobs, of_plugin, of_releases, of_runtime
from controller.domain.snapshot import JobKind
from controller.reconcile.objects.jobs import job
from controller.reconcile.objects.merged import merged_deployment
from controller.reconcile.objects.metadata import JOB_KIND_LABEL
from controller.reconcile.objects.verify import ArtifactCheck, Verification
from tests.builders import A1
from tests.chart.everything import ALL
from tests.chart.rendering import NAME, ROOT, Chart, of_kind, one
from tests.reconcile.test_objects import IMAGE, INPUTS, PATH, seen

pytestmark = pytest.mark.helm

Json = dict[str, Any]

RULES = sorted((ROOT / "manifests" / "prometheus").glob("*.yaml"))
DASHBOARDS = sorted((ROOT / "manifests" / "grafana").glob("*.json"))
RUNBOOKS = "https://runbooks.example.com/adapter-releases"
BASES = {"matchLabels": {"app": "vllm"}}
MONITORS: Json = {
    "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "interval": "15s", "scrapeTimeout": "5s"},
    "jobsPodMonitor": {"enabled": True},
    "vllmPodMonitor": {"enabled": True, "ports": ["http", 8000], "bases": BASES, "interval": "30s"},
}
# What the Prometheus Operator gives a target: a metric's own label of such a name is renamed, or wins by honorLabels.
OF_TARGETS = {"namespace", "pod", "container", "endpoint", "service", "job", "instance"}
CONTROLLER, JOBS, MERGED, OF_BASES = NAME, f"{NAME}-jobs", f"{NAME}-merged", f"{NAME}-bases"
SHOWN: dict[str, list[Declared]] = {
    CONTROLLER: [*of_releases(), *of_runtime()],
    JOBS: of_jobs(),
    MERGED: of_plugin(),
    OF_BASES: of_plugin(),
}


def a_job() -> Json:
    snapshot = seen()
    assert snapshot.base is not None
    return job(JobKind.BUILD, INPUTS, snapshot, snapshot.base, IMAGE)


def a_merged_deployment() -> Json:
    snapshot = seen()
    assert snapshot.base is not None
    return merged_deployment(snapshot, snapshot.base, A1, PATH, Verification(IMAGE, ArtifactCheck.DIGESTS))


def labels_of(pod_maker: Json) -> Json:
    labels: Json = pod_maker["spec"]["template"]["metadata"]["labels"]
    return labels


def endpoints(monitor: Json) -> list[Json]:
    spec = monitor["spec"]
    found: list[Json] = spec.get("podMetricsEndpoints") or spec["endpoints"]
    return found


# -- monitors


@pytest.mark.parametrize("name", SHOWN)
def test_labels_of_the_metrics_win_where_they_are_called_as_those_of_a_target(chart: Chart, name: str) -> None:
    """Else no alert and no dashboard finds the namespace of a release."""
    collide = any(OF_TARGETS.intersection(metric.labels) for metric in SHOWN[name])
    made = [one(chart.render({"metrics": MONITORS}), "PodMonitor", name)]
    if name == CONTROLLER:
        assert collide
        made.append(one(chart.render({"metrics": {"serviceMonitor": {"enabled": True}}}), "ServiceMonitor"))
    for monitor in made:
        assert [endpoint.get("honorLabels", False) for endpoint in endpoints(monitor)] == [collide] * len(
            endpoints(monitor)
        )


def test_the_controller_s_monitor_names_a_port_and_labels_that_are_there(chart: Chart) -> None:
    made = chart.render({"metrics": MONITORS})
    monitor, template = one(made, "PodMonitor", CONTROLLER), one(made, "Deployment")["spec"]["template"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    (endpoint,) = endpoints(monitor)
    assert endpoint["port"] in [port["name"] for port in template["spec"]["containers"][0]["ports"]]
    assert (endpoint["interval"], endpoint["scrapeTimeout"]) == ("15s", "5s")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_so_does_the_monitor_of_its_service(chart: Chart) -> None:
    made = chart.render({"metrics": {"serviceMonitor": {"enabled": True}}})
    monitor, service = one(made, "ServiceMonitor"), one(made, "Service")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert endpoints(monitor)[0]["port"] == service["spec"]["ports"][0]["name"]


def test_jobs_are_found_and_their_series_say_whose_they_are(chart: Chart) -> None:
    monitor = one(chart.render({"metrics": MONITORS}), "PodMonitor", JOBS)
    (wanted,) = monitor["spec"]["selector"]["matchExpressions"]
    assert (wanted["key"], wanted["operator"]) == (JOB_KIND_LABEL, "Exists")
    assert monitor["spec"]["podTargetLabels"] == [RELEASE_LABEL, JOB_KIND_LABEL]
    assert labels_of(a_job()).keys() >= {RELEASE_LABEL, JOB_KIND_LABEL}
    ports = a_job()["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert endpoints(monitor) == [{"port": ports[0]["name"], "path": "/metrics"}]


def test_merged_pods_are_found_and_nothing_else_of_the_controller_s(chart: Chart) -> None:
    made = chart.render({"metrics": MONITORS})
    selector = one(made, "PodMonitor", MERGED)["spec"]["selector"]["matchLabels"].items()
    assert selector <= labels_of(a_merged_deployment()).items()
    for other in (labels_of(a_job()), labels_of(one(made, "Deployment"))):
        assert not selector <= other.items()


def test_bases_are_those_that_one_names_or_none(chart: Chart) -> None:
    monitor = one(chart.render({"metrics": MONITORS}), "PodMonitor", OF_BASES)
    assert monitor["spec"]["selector"] == BASES
    asked = [{"port": "http"}, {"portNumber": 8000}]
    assert endpoints(monitor) == [{**port, "path": "/metrics", "interval": "30s"} for port in asked]
    alone = chart.render({"metrics": {"vllmPodMonitor": {"enabled": True}}})
    assert [m["metadata"]["name"] for m in of_kind(alone, "PodMonitor")] == [MERGED]


@pytest.mark.parametrize("name", [JOBS, MERGED, OF_BASES])
def test_what_is_in_watched_namespaces_is_looked_for_there(chart: Chart, name: str) -> None:
    everywhere = one(chart.render({"metrics": MONITORS}), "PodMonitor", name)
    assert everywhere["spec"]["namespaceSelector"] == {"any": True}
    there = one(chart.render({"metrics": MONITORS, "watchNamespaces": ["llm", "prod"]}), "PodMonitor", name)
    assert there["spec"]["namespaceSelector"] == {"matchNames": ["llm", "prod"]}


# -- rules and dashboards


def runbooks(rule: Json) -> Iterator[str]:
    for group in rule["spec"]["groups"]:
        yield from (r["annotations"]["runbook_url"] for r in group["rules"] if "alert" in r)


def boards(chart: Chart, values: Json) -> dict[str, Json]:
    made = of_kind(chart.render(values), "ConfigMap")
    return {key: json.loads(text) for config_map in made for key, text in config_map["data"].items()}


def test_by_default_there_is_none_of_it(chart: Chart) -> None:
    made = {o["kind"] for o in chart.render()}
    assert made & {"PodMonitor", "ServiceMonitor", "PrometheusRule", "ConfigMap"} == set()


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_rules_are_those_of_the_project_to_the_last_brace(chart: Chart, path: Any) -> None:
    made = chart.render({"metrics": {"prometheusRule": {"enabled": True, "labels": {"release": "p"}}}})
    rule = one(made, "PrometheusRule", f"{NAME}-{path.stem}")
    assert rule["spec"] == yaml.safe_load(path.read_text())
    assert rule["metadata"]["labels"]["release"] == "p"


def test_an_alert_links_to_where_runbooks_are_published(chart: Chart) -> None:
    made = chart.render({"metrics": {"runbookUrl": RUNBOOKS, "prometheusRule": {"enabled": True}}})
    alerts = one(made, "PrometheusRule", f"{NAME}-alerts")
    plain = yaml.safe_load((ROOT / "manifests" / "prometheus" / "alerts.yaml").read_text())
    pages = [path.removeprefix("docs/runbooks") for path in runbooks({"spec": plain})]
    assert len(pages) > 10
    assert list(runbooks(alerts)) == [RUNBOOKS + page for page in pages]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboards_are_those_of_the_project(chart: Chart, path: Any) -> None:
    found = boards(chart, {"grafana": {"dashboards": {"enabled": True}}})
    assert len(found) == len(DASHBOARDS)
    assert found[f"adapter-release-{path.name}"] == json.loads(path.read_text())


def test_a_dashboard_links_to_the_same_runbooks(chart: Chart) -> None:
    published = {"grafana": {"dashboards": {"enabled": True}}, "metrics": {"runbookUrl": RUNBOOKS}}
    for name, board in boards(chart, published).items():
        (variable,) = [v for v in board["templating"]["list"] if v["name"] == "runbooks"]
        assert (variable["query"], variable["current"]["value"]) == (RUNBOOKS, RUNBOOKS), name


def test_a_dashboard_is_a_config_map_that_the_sidecar_finds(chart: Chart) -> None:
    values = {"enabled": True, "namespace": "monitoring", "annotations": {"grafana_folder": "vLLM"}}
    made = one(chart.render({"grafana": {"dashboards": values}}), "ConfigMap", f"{NAME}-release")
    assert made["metadata"]["namespace"] == "monitoring"
    assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert made["metadata"]["annotations"] == {"grafana_folder": "vLLM"}


def test_two_installations_write_no_dashboard_over_another_one(chart: Chart) -> None:
    """The sidecar puts the files of all ConfigMaps into one directory."""
    values = {"grafana": {"dashboards": {"enabled": True}}}
    keys = [
        {key for o in of_kind(chart.render(values, name=name), "ConfigMap") for key in o["data"]} for name in ("a", "b")
    ]
    assert keys[0] & keys[1] == set()


def test_everything_at_once_is_four_monitors(chart: Chart) -> None:
    names = [m["metadata"]["name"] for m in of_kind(chart.render(ALL), "PodMonitor")]
    assert sorted(names) == sorted(SHOWN)
