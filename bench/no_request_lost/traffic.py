"""The pod with the clients: one container for each way of asking, all begun and ended together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.no_request_lost.records import Record, records_from
from controller.runtime.resources import PODS
from sandbox.node.images import ML_ENV
from tests.e2e.cluster import NAMESPACE, Cluster

SCRIPTS = Path(__file__).with_name("clients")
CONFIGMAP = "no-request-lost-clients"
_START = 120  # seconds; the openai client takes some to import

Json = dict[str, Any]


@dataclass(frozen=True)
class Client:
    """`rate`: requests a second of all `workers` together, at most."""

    way: str
    workers: int
    rate: float


CLIENTS = {
    c.way: c
    for c in (
        Client("openai", 4, 3.7),
        Client("openai-retries", 4, 3.7),
        Client("keepalive", 4, 3.7),
        Client("new", 4, 3.7),
        Client("stream", 14, 5),
    )
}


def ship(cluster: Cluster, questions: Json) -> None:
    """Scripts and questions into the cluster."""
    data = {path.name: path.read_text() for path in sorted(SCRIPTS.glob("*.py"))}
    data["questions.json"] = json.dumps(questions)
    meta = {"name": CONFIGMAP, "namespace": NAMESPACE}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})


class Traffic:
    """Clients of one release, from `go` to `stop`."""

    def __init__(self, cluster: Cluster, model: str, clients: Sequence[Client]) -> None:
        self._cluster = cluster
        self._model = model
        self._clients = clients
        self.name = f"clients-{model}"

    def __enter__(self) -> Traffic:
        self._delete()
        self._cluster.apply(manifest(self.name, self._model, self._clients))
        self._cluster.until("the clients have their libraries", self._all_ready, _START)
        return self

    def __exit__(self, *_: object) -> None:
        self._delete()

    def go(self) -> None:
        self._touch("go")

    def done(self) -> dict[str, int]:
        """Requests so far, by way."""
        return {c.way: int(self._last(c).get("done", 0)) for c in self._clients}

    def stop(self) -> list[Record]:
        """Every request, when the last has ended."""
        self._touch("stop")
        self._cluster.until("the last requests have ended", self._all_ended, 180)
        found = []
        for client in self._clients:
            lines = self._exec("cat", f"/tmp/{client.way}.jsonl").splitlines()
            found += records_from(client.way, lines)
        return found

    def _all_ready(self) -> bool:
        pod = self._cluster.get(PODS, self.name)
        if pod is None or pod["status"]["phase"] != "Running":
            return False
        return all("ready" in self._last(c) for c in self._clients)

    def _all_ended(self) -> bool:
        return all("ended" in self._last(c) for c in self._clients)

    def _last(self, client: Client) -> Json:
        """What its script said last; it has nothing else to say but its death."""
        path = PODS.path(NAMESPACE, self.name, "log")
        line = self._cluster.client.get_text(path, {"container": client.way, "tailLines": "1"}).strip()
        try:
            said: Json = json.loads(line) if line else {}
        except json.JSONDecodeError:
            raise RuntimeError(f"the client {client.way} says: {line}") from None
        return said

    def _touch(self, name: str) -> None:
        self._exec("touch", f"/tmp/{name}")

    def _exec(self, *command: str) -> str:
        container = self._clients[0].way  # /tmp is the same for all of them
        return self._cluster.kubectl("-n", NAMESPACE, "exec", self.name, "-c", container, "--", *command)

    def _delete(self) -> None:
        where = ("-n", NAMESPACE, "delete", "pod", self.name)
        self._cluster.kubectl(*where, "--ignore-not-found", "--grace-period=1")


def manifest(name: str, model: str, clients: Sequence[Client]) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/name": name}},
        "spec": {
            "automountServiceAccountToken": False,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "runAsGroup": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(client, model) for client in clients],
            "volumes": [{"name": "scripts", "configMap": {"name": CONFIGMAP}}, {"name": "tmp", "emptyDir": {}}],
        },
    }


def _container(client: Client, model: str) -> Json:
    """With the Python of vLLM's environment, which has the openai client."""
    arguments = (client.way, f"http://{model}", model, client.workers, client.rate)
    return {
        "name": client.way,
        "image": "localhost/adapterrelease/controller:dev",
        "imagePullPolicy": "IfNotPresent",
        "command": [f"{ML_ENV}/bin/python", "-u", "/client/traffic.py", *map(str, arguments)],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},  # as a server has: clients must not starve
        "volumeMounts": [{"name": "scripts", "mountPath": "/client"}, {"name": "tmp", "mountPath": "/tmp"}],
    }
