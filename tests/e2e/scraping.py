"""A real Prometheus beside the sandbox's node, which scrapes its pods as PodMonitors would have it.

Targets come from the list of pods, with the labels `namespace` and `pod`. The project's alerts are loaded twice: as
they are, and hurried, so that a cause that lasts for seconds is enough. Knows no release.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from controller.errors import TransientError
from controller.runtime.resources import PODS
from tests.e2e.cluster import NAMESPACE, SYSTEM, Cluster
from tests.prometheus.rules import groups, hurried
from tests.prometheus.server import Prometheus

Json = dict[str, Any]
JOBS = {"adapter-release-controller": 8080, "vllm": 8000, "jobs": 9402}
EVERY = 5  # seconds, and the longest wait for an answer: two cores that also serve, build and test


@contextmanager
def prometheus(program: Path, directory: Path, data: Path | None, kubelet: int) -> Iterator[Prometheus]:
    """`kubelet`: a port of this machine. It scrapes what `targets` writes into the same directory."""
    for name, found in (("alerts", groups("alerts.yaml")), ("hurried", hurried())):
        (directory / f"{name}.rules").write_text(yaml.safe_dump({"groups": found}))
    with Prometheus(program, directory, _config(directory, kubelet), data) as server:
        yield server


def _config(directory: Path, kubelet: int) -> str:
    scraped: list[Json] = [
        {"job_name": job, "file_sd_configs": [{"files": [_file(directory, job)], "refresh_interval": "1s"}]}
        for job in JOBS
    ]
    scraped.append({"job_name": "kubelet", "static_configs": [{"targets": [f"127.0.0.1:{kubelet}"]}]})
    every = {"scrape_interval": f"{EVERY}s", "scrape_timeout": f"{EVERY}s", "evaluation_interval": f"{EVERY}s"}
    return yaml.safe_dump(
        {
            "global": every,
            "rule_files": [str(directory / "*.rules")],
            "scrape_configs": [{**one, "honor_labels": True} for one in scraped],
        }
    )


@contextmanager
def targets(directory: Path, cluster: Cluster) -> Iterator[None]:
    """The pods that run, anew each second; none any more afterwards."""
    stop = threading.Event()
    _write(directory, _pods(cluster))
    keeper = threading.Thread(target=_keep, args=(directory, cluster, stop), name="targets", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        stop.set()
        keeper.join(30)
        _write(directory, [])


@contextmanager
def volume(store: Path) -> Iterator[int]:
    """The kubelet counts no volume that is a directory of its node. What it does for others is done here in its place:
    ask the file system. The port that tells."""
    registry, labels = CollectorRegistry(), ["namespace", "persistentvolumeclaim"]
    for name, blocks in (("capacity", _capacity), ("available", _available)):
        gauge = Gauge(f"kubelet_volume_stats_{name}_bytes", f"Bytes: {name}", labels, registry=registry)
        gauge.labels(NAMESPACE, "store").set_function(_bytes(store, blocks))
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)


def _capacity(found: os.statvfs_result) -> int:
    return found.f_blocks


def _available(found: os.statvfs_result) -> int:
    return found.f_bavail


def _bytes(store: Path, blocks: Callable[[os.statvfs_result], int]) -> Callable[[], float]:
    def count() -> float:
        found = os.statvfs(store)
        return blocks(found) * found.f_frsize

    return count


def _keep(directory: Path, cluster: Cluster, stop: threading.Event) -> None:
    while not stop.wait(1):
        try:
            _write(directory, _pods(cluster))
        except TransientError:
            continue  # asked again in a second


def _pods(cluster: Cluster) -> list[Json]:
    return [pod for namespace in (NAMESPACE, SYSTEM) for pod in cluster.find(PODS, namespace=namespace)]


def _write(directory: Path, pods: list[Json]) -> None:
    found: dict[str, list[Json]] = {job: [] for job in JOBS}
    for pod in pods:
        job, status = _job_of(pod), pod.get("status", {})
        if job and status.get("podIP") and status.get("phase") == "Running":
            labels = {"namespace": pod["metadata"]["namespace"], "pod": pod["metadata"]["name"]}
            found[job].append({"targets": [f"{status['podIP']}:{JOBS[job]}"], "labels": labels})
    for job, entries in found.items():
        beside = Path(_file(directory, job)).with_suffix(".new")
        beside.write_text(json.dumps(entries))
        beside.rename(_file(directory, job))


def _file(directory: Path, job: str) -> str:
    return str(directory / f"{job}.json")


def _job_of(pod: Json) -> str:
    labels = pod["metadata"].get("labels", {})
    if pod["metadata"]["namespace"] == SYSTEM:
        return "adapter-release-controller" if labels.get("app.kubernetes.io/component") == "operator" else ""
    if "adapterrelease.dev/job" in labels:
        return "jobs"
    return "vllm" if any(c["name"] == "vllm" for c in pod["spec"]["containers"]) else ""
