"""The release, its controller and its servers, as events move them; what is done to them is marked with its time.

Knows how a cluster is driven (tests/e2e), and nothing of clients or of what is right.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from bench.no_request_lost.questions import (
    ANSWER_TOKENS,
    LONG,
    SHORT,
    asked_of,
    for_clients,
    replies,
    telling,
    with_more,
)
from bench.no_request_lost.records import BEGAN, KILLED, KILLING, LEFT, NOTE, Question
from bench.no_request_lost.watcher import Watcher
from controller.runtime.resources import DEPLOYMENTS, LEASES, PODS
from tests.e2e.cluster import SYSTEM, Cluster
from tests.e2e.release import Release, cheaply, spec_of

CONTROLLER = "adapter-release-controller"
SOURCES = {"v1": "support-bot/v1", "v2": "shuffled"}
_CANDIDATES = {SHORT: 40, LONG: 16}
_CHOSEN = {SHORT: 16, LONG: 8}
_FEWEST = 4

Json = dict[str, Any]


def spec(version: str, stage: str = "Experimental") -> Json:
    """Merged and not quantized; its pods stay when they lose the route, so that swaps can follow each other."""
    made = cheaply(spec_of(stage, SOURCES[version]))
    made["adapters"][0]["version"] = version
    return made


class Versions:
    """The questions, and which text is of which version."""

    def __init__(self, cluster: Cluster, stream_tokens: int) -> None:
        suite = cluster.store / "suites" / "support.jsonl"
        tokens = {SHORT: ANSWER_TOKENS, LONG: stream_tokens}
        self._cluster = cluster
        self._asked = {kind: asked_of(suite, kind, tokens[kind])[:count] for kind, count in _CANDIDATES.items()}
        self.questions: dict[str, Question] = {}

    def learn(self, models: dict[str, str]) -> None:
        """`models`: the release that serves each version, asked through its route."""
        self.questions = {}
        for kind, asked in self._asked.items():
            said = {v: replies(self._cluster.http, self._cluster.service_url(m), m, asked) for v, m in models.items()}
            found = telling(said, _CHOSEN[kind])
            if len(found) < _FEWEST:
                raise RuntimeError(f"{len(found)} {kind} questions of {len(asked)} tell the versions apart: too few")
            self.questions |= found

    def learn_merged(self, version: str, model: str) -> None:
        asked = [a for every in self._asked.values() for a in every if a.id in self.questions]
        said = replies(self._cluster.http, self._cluster.service_url(model), model, asked)
        self.questions = with_more(self.questions, version, said)

    def for_clients(self) -> Json:
        return {kind: for_clients(asked, self.questions) for kind, asked in self._asked.items()}


@dataclass
class Scene:
    cluster: Cluster
    release: Release
    versions: Versions
    watcher: Watcher | None = None

    # -- what happens
    def begin(self, name: str) -> None:
        self._mark(BEGAN, name)

    def kill_server(self, pod: Json) -> None:
        name = pod["metadata"]["name"]
        self._mark(KILLING, f"vllm in pod {name}")
        self.cluster.kill_container(pod)
        self._mark(KILLED, f"vllm in pod {name}")
        self.cluster.until(f"{name} is out of the route", lambda: name not in self._behind(), 60)
        self._mark(LEFT, f"{name} is behind the route no more")

    def _behind(self) -> set[str]:
        return self.cluster.endpoints(self.release.name)

    def kill_controller(self) -> None:
        """The one that leads; the other takes over when its lease has run out."""
        leader = self.cluster.until("the controller that leads runs", self._leader, 60)
        self.cluster.kill_container(leader, "operator")
        self._mark(NOTE, f"the controller {leader['metadata']['name']} was killed")

    def _leader(self) -> Json | None:
        """None: the lease is nobody's who runs; the other has not taken over yet."""
        lease = self.cluster.get(LEASES, CONTROLLER, SYSTEM) or {}
        holder = str(lease.get("spec", {}).get("holderIdentity", ""))
        return next((p for p in self._controllers() if holder.startswith(p["metadata"]["name"]) and _all_run(p)), None)

    def renew_controllers(self) -> None:
        self._renew(self._controllers())
        self._until_controllers_run(2)

    def renew_servers(self) -> None:
        self._renew(self.cluster.base_pods())

    def _renew(self, pods: list[Json]) -> None:
        """Those that were killed, by new ones: a kubelet waits longer each time before it starts one again."""
        for pod in pods:
            if any(s["restartCount"] for s in pod["status"].get("containerStatuses") or ()):
                meta = pod["metadata"]
                self.cluster.kubectl("-n", meta["namespace"], "delete", "pod", meta["name"], "--wait=true")

    def scale_controller(self, replicas: int) -> None:
        patch = {"spec": {"replicas": replicas}}
        self.cluster.client.merge_patch(DEPLOYMENTS.path(SYSTEM, CONTROLLER), patch)
        self._until_controllers_run(replicas)
        self._mark(NOTE, f"{replicas} controllers run")

    def _until_controllers_run(self, replicas: int) -> None:
        def there() -> bool:
            pods = self._controllers()
            return len(pods) == len([p for p in pods if _all_run(p)]) == replicas

        self.cluster.until(f"{replicas} controllers run", there, 120)

    def _controllers(self) -> list[Json]:
        return self.cluster.find(PODS, "app.kubernetes.io/component=operator", SYSTEM)

    def steady(self, seconds: float) -> None:
        """Let the clients ask while nothing happens."""
        threading.Event().wait(seconds)

    # -- what is waited for
    def until_version(self, version: str) -> None:
        """Reported, and nothing left to do."""

        def there() -> bool:
            status = self.release.status
            serving = status.get("serving", {})
            history = {h["revision"]: h.get("version") for h in status.get("history", [])}
            return history.get(serving.get("revision")) == version

        self.cluster.until(f"{self.release.name}: {version} serves", there, 180)
        self.until_loaded()

    def until_loaded(self) -> None:
        self.release.until("Ready", "True", "Serving")
        self.release.until("AdapterLoaded", "True", "Loaded")

    def until_all_pods_serve(self, replicas: int = 2) -> None:
        def there() -> bool:
            pods = {p["metadata"]["name"] for p in self.cluster.base_pods()}
            return len(pods) == replicas and self.cluster.endpoints(self.release.name) == pods

        self.cluster.until(f"{replicas} base pods are behind {self.release.name}", there, 300)

    def _mark(self, kind: str, text: str) -> None:
        if self.watcher is not None:
            self.watcher.mark(kind, text)


def _all_run(pod: Json) -> bool:
    statuses = pod["status"].get("containerStatuses") or [{}]
    return all(s.get("ready") and "running" in s.get("state", {}) for s in statuses)
