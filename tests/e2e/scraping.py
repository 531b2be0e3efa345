"""A real Prometheus beside the sandbox's node, which scrapes its pods as PodMonitors would have it.

Targets come from the list of pods, with the labels `namespace` and `pod`. The project's alerts are loaded without their
`for`: here it counts that a real cause makes them fire at all.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from controller.errors import TransientError
from controller.runtime.resources import PODS
from tests.e2e.cluster import NAMESPACE, SYSTEM, Cluster
from tests.prometheus.rules import groups
from tests.prometheus.server import Prometheus

Json = dict[str, Any]
JOBS = {"adapter-release-controller": 8080, "vllm": 8000, "jobs": 9402}
EVERY = 2  # seconds


@contextmanager
def scraping(program: Path, directory: Path, cluster: Cluster) -> Iterator[Prometheus]:
    """TEST_PROMETHEUS_DATA names a directory in which the data stays, for pictures of it."""
    targets = directory / "targets"
    targets.mkdir(parents=True)
    stop = threading.Event()
    _write(targets, cluster)
    keeper = threading.Thread(target=_keep, args=(targets, cluster, stop), name="targets", daemon=True)
    keeper.start()
    kept = os.environ.get("TEST_PROMETHEUS_DATA")
    rules = directory / "alerts.yaml"
    rules.write_text(yaml.safe_dump({"groups": at_once()}))
    try:
        with Prometheus(program, directory, _config(targets, rules), data=Path(kept) if kept else None) as server:
            yield server
    finally:
        stop.set()
        keeper.join(30)


def at_once() -> list[Json]:
    found = groups("alerts.yaml")
    for group in found:
        group["rules"] = [{key: value for key, value in rule.items() if key != "for"} for rule in group["rules"]]
    return found


def _config(targets: Path, rules: Path) -> str:
    scraped = [
        {
            "job_name": job,
            "honor_labels": True,
            "file_sd_configs": [{"files": [str(targets / f"{job}.json")], "refresh_interval": "1s"}],
        }
        for job in JOBS
    ]
    every = {"scrape_interval": f"{EVERY}s", "scrape_timeout": f"{EVERY}s", "evaluation_interval": f"{EVERY}s"}
    return yaml.safe_dump({"global": every, "rule_files": [str(rules)], "scrape_configs": scraped})


def _keep(targets: Path, cluster: Cluster, stop: threading.Event) -> None:
    while not stop.wait(1):
        try:
            _write(targets, cluster)
        except TransientError:
            continue  # asked again in a second


def _write(targets: Path, cluster: Cluster) -> None:
    found: dict[str, list[Json]] = {job: [] for job in JOBS}
    for pod in [*cluster.find(PODS), *cluster.find(PODS, namespace=SYSTEM)]:
        job, address = _job_of(pod), pod.get("status", {}).get("podIP")
        if job and address and pod["status"].get("phase") == "Running":
            labels = {"namespace": pod["metadata"]["namespace"], "pod": pod["metadata"]["name"]}
            found[job].append({"targets": [f"{address}:{JOBS[job]}"], "labels": labels})
    for job, entries in found.items():
        beside = targets / f"{job}.new"
        beside.write_text(json.dumps(entries))
        beside.rename(targets / f"{job}.json")


def _job_of(pod: Json) -> str:
    labels = pod["metadata"].get("labels", {})
    if pod["metadata"]["namespace"] == SYSTEM:
        return "adapter-release-controller" if labels.get("app.kubernetes.io/component") == "operator" else ""
    assert pod["metadata"]["namespace"] == NAMESPACE
    if "adapterrelease.dev/job" in labels:
        return "jobs"
    return "vllm" if any(c["name"] == "vllm" for c in pod["spec"]["containers"]) else ""
