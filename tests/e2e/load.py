"""A constant load on a route from inside the cluster, each request on a connection of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from controller.runtime.resources import PODS
from tests.e2e.cluster import NAMESPACE, Cluster, measured

_MANIFEST = Path(__file__).resolve().parents[2] / "sandbox" / "demo" / "manifests" / "load.yaml"


class Load:
    """A pod that runs the demo's load.py until `stop`."""

    def __init__(self, cluster: Cluster, model: str, rate: int) -> None:
        """`rate`: requests a second, few enough that a slow machine answers them before the client's patience ends."""
        self._cluster = cluster
        self.name = f"load-{model}"
        pod: dict[str, Any] = yaml.safe_load(_MANIFEST.read_text())
        pod["metadata"]["name"] = self.name
        url, suite = f"http://{model}", "/store/suites/support.jsonl"
        pod["spec"]["containers"][0]["command"] = ["python3", "-u", "/client/load.py", url, model, suite, str(rate)]
        self._manifest = pod
        self.result: dict[str, Any] | None = None

    def __enter__(self) -> Load:
        self.delete()
        self._cluster.apply(self._manifest)
        self._cluster.kubectl(*("-n", NAMESPACE, "wait", f"pod/{self.name}", "--for=condition=Ready", "--timeout=120s"))
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.delete()

    def stop(self) -> dict[str, Any]:
        """What it measured: requests, failed, causes, right, seconds, p50, p99."""
        if self.result is None:
            # Fails when the load has ended by itself: what came after that was measured by nobody.
            self._cluster.kubectl("-n", NAMESPACE, "exec", self.name, "--", "touch", "/tmp/stop")
            self._cluster.until(f"{self.name} has ended", self._has_ended, 120)
            self.result = json.loads(self._lines()[-1])
            for line in [line for line in self._lines() if line.startswith("FAILED")][:20]:
                print(line)
            measured(f"load on {self.name.removeprefix('load-')}", json.dumps(self.result))
        return self.result

    def assert_nothing_failed(self) -> None:
        result = self.stop()
        assert result["requests"] > 0
        assert result["failed"] == 0, f"{result}{self._cluster.report()}"

    def delete(self) -> None:
        where = ("-n", NAMESPACE, "delete", "pod", self.name)
        self._cluster.kubectl(*where, "--ignore-not-found", "--grace-period=1")

    def _has_ended(self) -> bool:
        pod = self._cluster.get(PODS, self.name)
        return pod is not None and pod["status"]["phase"] in ("Succeeded", "Failed")

    def _lines(self) -> list[str]:
        return self._cluster.kubectl("-n", NAMESPACE, "logs", self.name).strip().splitlines()
