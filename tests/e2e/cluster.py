"""A real cluster, as tests see it: read and change objects, wait for a state, and say what is the case if it never
comes. Knows nothing of how the cluster was made.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from controller.engine.server import TOKEN_HEADER
from controller.errors import NotFound, TransientError
from controller.reconcile.caches import RELEASES
from controller.reconcile.engines import SECRETS
from controller.reconcile.objects.engine import ENGINE_NAME
from controller.reconcile.pods import condition
from controller.runtime.client import KubeClient
from controller.runtime.resources import DEPLOYMENTS, ENDPOINTSLICES, EVENTS, JOBS, PODS, SERVICES, Resource

NAMESPACE = "llm"
SYSTEM = "adapter-release-system"
BASE = "tiny-llama"
_POLL = 0.3
_OF_BASE = f"app.kubernetes.io/name={BASE}"

Json = dict[str, Any]
T = TypeVar("T")


class Cluster:
    def __init__(self, kubeconfig: Path, kubectl: str, store: Path) -> None:
        self.kubeconfig = kubeconfig
        self.store = store
        self.client = KubeClient.from_config(str(kubeconfig), user_agent="tests")
        self.http = httpx.Client(trust_env=False, timeout=60, limits=httpx.Limits(max_keepalive_connections=0))
        self.kubectl_command = [kubectl, "--kubeconfig", str(kubeconfig)]

    def close(self) -> None:
        self.http.close()
        self.client.close()

    # -- reading and changing
    def kubectl(self, *arguments: object, stdin: str | None = None, check: bool = True) -> str:
        command = [*self.kubectl_command, *map(str, arguments)]
        result = subprocess.run(command, input=stdin, text=True, capture_output=True, check=False)
        if check and result.returncode:
            pytest.fail(f"kubectl {' '.join(map(str, arguments))}: {result.stderr}{self.report()}")
        return result.stdout if check else result.stdout + result.stderr

    def apply(self, manifest: Mapping[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))

    def get(self, resource: Resource, name: str, namespace: str = NAMESPACE) -> Json | None:
        try:
            return self.client.get(resource.path(namespace, name))
        except NotFound:
            return None

    def find(self, resource: Resource, selector: str = "", namespace: str = NAMESPACE) -> list[Json]:
        return self.client.list(resource.path(namespace), label_selector=selector or None)[0]

    def base_pods(self) -> list[Json]:
        """Those that are ready and stay, in the order of their names."""
        pods = self.find(PODS, _OF_BASE)
        ready = [p for p in pods if condition(p, "Ready") == "True" and "deletionTimestamp" not in p["metadata"]]
        return sorted(ready, key=lambda p: str(p["metadata"]["name"]))

    def scale_base(self, replicas: int) -> None:
        self.client.merge_patch(DEPLOYMENTS.path(NAMESPACE, BASE), {"spec": {"replicas": replicas}})

    def until_base_has(self, replicas: int) -> list[Json]:
        def there() -> list[Json]:
            pods = self.find(PODS, _OF_BASE)
            return self.base_pods() if len(pods) == replicas == len(self.base_pods()) else []

        return self.until(f"{replicas} base pods are ready and no other is left", there, 300)

    def endpoints(self, service: str) -> set[str]:
        """Names of the pods that get requests."""
        slices = self.find(ENDPOINTSLICES, f"kubernetes.io/service-name={service}")
        entries = [e for part in slices for e in part.get("endpoints") or ()]
        return {e["targetRef"]["name"] for e in entries if e.get("conditions", {}).get("ready") is not False}

    def kill_container(self, pod: Json, container: str = "vllm") -> None:
        """SIGKILL to its first process, from the node: what the kernel does when memory runs out."""
        (status,) = [s for s in pod["status"]["containerStatuses"] if s["name"] == container]
        container_id = status["containerID"].removeprefix("containerd://")
        script = Path(__file__).resolve().parents[2] / "sandbox" / "node" / "kube-up.sh"
        command = ["bash", script, "enter", "ctr", "-n", "k8s.io", "tasks", "kill", "-s", "SIGKILL", container_id]
        environment = os.environ | {"KUBE_RUN": str(self.kubeconfig.parent)}
        subprocess.run(command, env=environment, check=True, capture_output=True)

    # -- asking servers
    def service_url(self, name: str) -> str:
        """By its cluster IP: the tests run beside the node, where its names are not known."""
        service = self.client.get(SERVICES.path(NAMESPACE, name))
        return f"http://{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}"

    def models(self, url: str) -> dict[str, str]:
        """Name and root of what a server lists."""
        answer = self.http.get(f"{url}/v1/models").raise_for_status().json()
        return {card["id"]: card.get("root") or "" for card in answer["data"]}

    def token(self) -> dict[str, str]:
        """The header that opens the engine plugin's doors."""
        secret = self.client.get(SECRETS.path(NAMESPACE, ENGINE_NAME))
        return {TOKEN_HEADER: base64.b64decode(secret["data"]["token"]).decode()}

    def models_in(self, pod: Json) -> dict[str, str]:
        return self.models(pod_url(pod))

    # -- waiting
    def until(self, what: str, probe: Callable[[], T], seconds: float) -> T:
        """The first true answer of `probe`. A server that is busy is asked again."""
        deadline, pause, trouble = time.monotonic() + seconds, threading.Event(), ""
        while time.monotonic() < deadline:
            try:
                if found := probe():
                    return found
            except (TransientError, httpx.TransportError) as error:
                trouble = f"; the last try: {error!r}"
            pause.wait(_POLL)
        pytest.fail(f"not within {seconds:.0f} s: {what}{trouble}{self.report()}")

    def report(self) -> str:
        """What a reader of a failed test wants to know first."""
        lines = ["\n\n-- releases"]
        for release in self.find(RELEASES):
            lines.append(f"{release['metadata']['name']}: {_summary(release)}")
        lines.append("-- pods")
        lines += [_pod_line(pod) for pod in self.find(PODS)]
        lines.append("-- jobs")
        lines += [_job_line(job) for job in self.find(JOBS)]
        lines.append("-- warnings")
        events = sorted(self.find(EVENTS), key=lambda e: str(e.get("lastTimestamp") or e.get("eventTime")))
        warnings = [e for e in events if e.get("type") == "Warning"][-12:]
        lines += [f"{e['involvedObject']['name']}: {e['reason']}: {e.get('message', '')[:300]}" for e in warnings]
        lines += ["-- the controller's log", *self._operator_log()]
        return "\n".join(lines)

    def _operator_log(self) -> list[str]:
        selector = "app.kubernetes.io/component=operator"
        command = [*self.kubectl_command, "-n", SYSTEM, "logs", "-l", selector, "--tail=25"]
        said = subprocess.run(command, text=True, capture_output=True, check=False).stdout.splitlines()
        return [line[:400] for line in sorted(said)]


def pod_url(pod: Json) -> str:
    return f"http://{pod['status']['podIP']}:8000"


def _summary(release: Json) -> str:
    status = release.get("status", {})
    rollout = status.get("rollout", {})
    conditions = [f"  {c['type']}={c['status']} {c['reason']}: {c['message']}" for c in status.get("conditions", [])]
    head = {
        "generation": (release["metadata"]["generation"], status.get("observedGeneration")),
        "stage": release["spec"].get("stage"),
        "serving": status.get("serving", {}).get("backend"),
        "step": rollout.get("step"),
        "deadline": rollout.get("deadline"),
        "rejected": [(r["step"], r["reason"]) for r in rollout.get("rejected", [])],
    }
    return "\n".join([str(head), *conditions])


def _pod_line(pod: Json) -> str:
    status, meta = pod.get("status", {}), pod["metadata"]
    states = [(s["restartCount"], _state(s["state"])) for s in status.get("containerStatuses", [])]
    labels = {k: v for k, v in meta.get("labels", {}).items() if "adapterrelease" in k}
    return f"{meta['name']} {status.get('phase')} ready={condition(pod, 'Ready')} {states} {labels}"


def _state(state: Json) -> str:
    """As in `terminated Error` or `running`."""
    return " ".join([*state, *(str(detail["reason"]) for detail in state.values() if "reason" in detail)])


def _job_line(job: Json) -> str:
    conditions = [c["type"] for c in job.get("status", {}).get("conditions", [])]
    return f"{job['metadata']['name']} {conditions}"


def measured(what: str, value: object) -> None:
    """Print a number that was measured; MEASURED_OUT names a file that collects them."""
    line = f"measured: {what}: {value}"
    print(line)
    if out := os.environ.get("MEASURED_OUT"):
        with Path(out).open("a") as file:
            file.write(line + "\n")
