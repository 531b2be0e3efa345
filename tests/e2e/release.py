"""One AdapterRelease on a real cluster: write it, wait for it, read what the controller says, ask its route."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import yaml

from controller.api.v1alpha1 import ARTIFACT_LABEL
from controller.domain.snapshot import artifact_label
from controller.errors import Conflict, NotFound
from controller.reconcile.caches import RELEASES
from controller.runtime.resources import DEPLOYMENTS, EVENTS, JOBS, PODS
from tests.e2e.cluster import BASE, NAMESPACE, Cluster

_DEMO = Path(__file__).resolve().parents[2] / "sandbox" / "demo"
_SUITE = "suites/support.jsonl"
QUESTION = "Hello, I was charged twice for the router. This is urgent. Regards, Ada"
ANSWER = "queue=billing urgency=high"

Json = dict[str, Any]


def spec_of(stage: str = "Experimental", source: str = "support-bot/v1", **rollout: Any) -> Json:
    """The demo's release; one merged replica, and an observation that is over soon."""
    spec: Json = yaml.safe_load((_DEMO / "manifests" / "release.yaml").read_text())["spec"]
    spec["stage"] = stage
    (adapter,) = spec["adapters"]
    adapter["version"] = source.rpartition("/")[2]
    adapter["source"] = {"uri": f"pvc://store/incoming/{source}"}
    spec["rollout"] |= {"replicas": 1, "scaleDownDelay": "1h", **rollout}
    spec["rollout"]["observe"] |= {"duration": "10s"}
    return spec


def cheaply(spec: Json) -> Json:
    """Merged and not quantized, and proven by fewer examples: where AWQ is not what the test is about."""
    spec = copy.deepcopy(spec)
    spec["build"]["quantization"] = {"method": "None"}
    (suite,) = spec["validation"]["suites"]
    suite["source"] = {"uri": "pvc://store/suites/short.jsonl"}
    spec["validation"]["benchmark"] = {"concurrency": 4, "requests": 8}
    return spec


class Release:
    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self._path = RELEASES.path(NAMESPACE, name)

    # -- writing
    def set_spec(self, spec: Json) -> None:
        """Make it, or give it exactly this spec."""
        known = self.cluster.get(RELEASES, self.name)
        if known is None:
            meta = {"name": self.name, "namespace": NAMESPACE}
            head = {"apiVersion": RELEASES.api_version, "kind": RELEASES.kind, "metadata": meta}
            self.cluster.apply({**head, "spec": spec})
            return
        try:
            self.cluster.client.replace(self._path, {**known, "spec": spec})
        except Conflict:  # the controller has just written its status
            self.set_spec(spec)

    def serve_v1_on(self, pods: int) -> None:
        """The adapter v1, at stage Experimental, on a base with so many pods."""
        self.set_spec(spec_of())
        self.cluster.scale_base(pods)
        self.cluster.until_base_has(pods)
        self.until("Ready", "True", "Serving")
        self.until("AdapterLoaded", "True", "Loaded")

    def patch(self, patch: Json) -> None:
        self.cluster.kubectl("-n", NAMESPACE, "patch", "ar", self.name, "--type=merge", "-p", json.dumps(patch))

    def delete(self) -> None:
        where = ("-n", NAMESPACE, "delete", "ar", self.name)
        self.cluster.kubectl(*where, "--ignore-not-found", "--timeout=120s")

    # -- reading
    def read(self) -> Json:
        return self.cluster.client.get(self._path)

    @property
    def status(self) -> Json:
        status: Json = self.read().get("status", {})
        return status

    @property
    def serving(self) -> Json:
        return dict(self.status.get("serving", {}).get("backend", {}))

    @property
    def step(self) -> str:
        return str(self.status.get("rollout", {}).get("step", ""))

    def condition(self, kind: str) -> Json:
        """For the spec as it is now; empty while the controller has not seen that."""
        release = self.read()
        conditions = release.get("status", {}).get("conditions", [])
        found: Json = next((c for c in conditions if c["type"] == kind), {})
        return found if found.get("observedGeneration") == release["metadata"]["generation"] else {}

    def events(self, reason: str) -> list[Json]:
        events = self.cluster.find(EVENTS)
        return [e for e in events if e["involvedObject"].get("name") == self.name and e["reason"] == reason]

    def jobs(self, kind: str) -> list[Json]:
        return self.cluster.find(JOBS, f"adapterrelease.dev/release={self.name},adapterrelease.dev/job={kind}")

    def merged(self) -> list[Json]:
        return self.cluster.find(DEPLOYMENTS, f"adapterrelease.dev/release={self.name}")

    def artifact_pod(self) -> Json:
        """The one pod of the artifact that the status names; others of the release may still be kept."""
        artifact = artifact_label(self.status["artifact"]["id"])
        (pod,) = self.cluster.find(PODS, f"adapterrelease.dev/release={self.name},{ARTIFACT_LABEL}={artifact}")
        return pod

    def artifact_directory(self) -> Path:
        """Where the artifact lies, seen from here."""
        return self.cluster.store / Path(self.status["artifact"]["path"]).relative_to("/store")

    # -- waiting
    def until(self, kind: str, status: str, reason: str = "", seconds: float = 300) -> Json:
        def there() -> Json:
            found = self.condition(kind)
            right = found.get("status") == status and reason in ("", found.get("reason"))
            return found if right else {}

        return self.cluster.until(f"{self.name}: {kind}={status} {reason}", there, seconds)

    def until_serving(self, kind: str, seconds: float = 120) -> None:
        self.cluster.until(f"{self.name}: {kind} serves", lambda: self.serving.get("kind") == kind, seconds)

    def until_answered(self, text: str = ANSWER, seconds: float = 120) -> None:
        self.cluster.until(f"{self.name} answers {text!r}", lambda: text in self.ask_or_empty(), seconds)

    # -- asking
    def ask(self, text: str = QUESTION) -> str:
        messages = [{"role": "system", "content": "Route the ticket."}, {"role": "user", "content": text}]
        body = {"model": self.name, "temperature": 0, "max_tokens": 24, "messages": messages}
        url = f"{self.cluster.service_url(self.name)}/v1/chat/completions"
        answer = self.cluster.http.post(url, json=body).raise_for_status().json()
        return str(answer["choices"][0]["message"]["content"])

    def ask_or_empty(self) -> str:
        """Empty while there is no route, or nothing behind it."""
        try:
            return self.ask()
        except (NotFound, httpx.HTTPError):
            return ""

    def score(self) -> float:
        return score(self.cluster, self.cluster.service_url(self.name), self.name)


def score(cluster: Cluster, url: str, model: str) -> float:
    """Share of right answers to the held-out set, asked as the demo's clients do."""
    script = _DEMO / "client" / "score.py"
    command = [sys.executable, str(script), url, model, str(cluster.store / _SUITE)]
    result = subprocess.run(command, text=True, capture_output=True, check=True)
    return float(json.loads(result.stdout)["score"])


def score_of_base(cluster: Cluster) -> float:
    return score(cluster, cluster.service_url(BASE), BASE)
