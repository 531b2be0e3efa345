"""A cluster in one process: the fake API server, a fake vLLM for each pod, and what Kubernetes' own controllers do.

`settle` plays the Deployment, EndpointSlice and Job controllers once, so that a test decides when they act. Caches
read the API server's storage directly: they are never behind, except where a test makes them.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from kubernetes.client.configuration import Configuration

from controller.domain.plan import plan
from controller.domain.snapshot import Snapshot
from controller.engine.server import new_http
from controller.engine.vllm import Timeouts
from controller.reconcile.act import Actor
from controller.reconcile.act_engine import EngineObjects
from controller.reconcile.act_objects import ObjectActions
from controller.reconcile.act_pods import PodActions
from controller.reconcile.board import Board
from controller.reconcile.caches import RELEASES, SERVICE_NAME_LABEL, Caches
from controller.reconcile.engines import Engine, Engines, Secrets
from controller.reconcile.failures import LoadFailures
from controller.reconcile.jobs import JOB_NAME_LABEL, Progress
from controller.reconcile.observe import Observer
from controller.reconcile.reconciler import Reconciler
from controller.reconcile.status import StatusWriter
from controller.reconcile.turn import Fence, Turn
from controller.runtime.client import KubeClient
from controller.runtime.resources import (
    DEPLOYMENTS,
    ENDPOINTSLICES,
    JOBS,
    PODS,
    SERVICES,
    Key,
    Object,
    Resource,
)
from controller.runtime.transport import Transport
from controller.runtime.worker import Result
from tests.builders import D1, T0, ReleaseBuilder
from tests.fakes.apiserver import ApiServer
from tests.fakes.plugin import FakePlugin
from tests.fakes.vllm import FakeVllm
from tests.reconcile.deployments import PLUGIN, container, deployment

Json = dict[str, Any]

NAMESPACE = "llm"
KEY = Key(NAMESPACE, "support-bot")
_hosts = (f"127.0.{high}.{low}" for high in range(1, 250) for low in range(1, 250))


class LiveLister:
    """Reads the API server's storage."""

    def __init__(self, api: ApiServer, resource: Resource) -> None:
        self._api = api
        self._resource = resource

    def get(self, namespace: str, name: str) -> Object | None:
        return next((o for o in self.list(namespace) if o["metadata"]["name"] == name), None)

    def list(self, namespace: str | None = None, selector: Mapping[str, str] | None = None) -> list[Object]:
        wanted = (selector or {}).items()
        with self._api.etcd.changed:
            return [
                obj
                for place, obj in self._api.etcd.objects.items()
                if place.plural == self._resource.plural
                and namespace in (None, place.namespace)
                and wanted <= (obj["metadata"].get("labels") or {}).items()
            ]


class FakeEngines(Engines):
    """The kube-proxy's part: an address of a Service leads to one of the ready pods behind it."""

    def __init__(self, cluster: Cluster, *args: Any) -> None:
        super().__init__(*args)
        self._cluster = cluster

    def at(self, host: str, port: int, api_key: str | None, tokens: Sequence[str] = ()) -> Engine:
        for service in self._cluster.listers.services.list():
            if service["spec"].get("clusterIP") == host:
                behind = self._cluster.ready_pods(service["spec"]["selector"])
                target = behind[0]["status"]["podIP"] if behind else "127.255.0.1"
                return super().at(target, self._cluster.port, api_key, tokens)
        return super().at(host, port, api_key, tokens)


class Cluster:
    """Make it with `cluster()`."""

    def __init__(self, stack: ExitStack, api: ApiServer, port: int, engine_timeout: float) -> None:
        self._stack = stack
        self.api = api
        self.port = port
        self.disk: dict[str, str | None] = {adapter_path(D1): None}
        self.engines: dict[str, FakeVllm] = {}
        self.events: list[tuple[str, str, str]] = []
        self.now = T0
        self.leading = True
        self._names = itertools.count()
        configuration = Configuration()
        configuration.host = api.url
        self.client = KubeClient(Transport(configuration, "tests"))
        stack.callback(self.client.close)
        resources = {
            "releases": RELEASES,
            "deployments": DEPLOYMENTS,
            "pods": PODS,
            "services": SERVICES,
            "jobs": JOBS,
            "endpoint_slices": ENDPOINTSLICES,
        }
        self.listers = Caches(**{name: LiveLister(api, r) for name, r in resources.items()})
        self.failures = LoadFailures()
        self.engine_objects = EngineObjects(self.client, PLUGIN)
        http = stack.enter_context(new_http())
        executor = stack.enter_context(ThreadPoolExecutor(4))
        timeouts = Timeouts(ask=engine_timeout, load=engine_timeout, probe=engine_timeout)
        secrets = Secrets(self.client)
        engines = FakeEngines(self, http, secrets, executor, timeouts)
        self.board = Board(secrets.token_changed_at, lambda: self.now.timestamp())
        self.observer = Observer(self.client, self.listers, engines, self.failures, Progress(http), self.engine_objects)
        fence = Fence(self.client, lambda: self.leading)
        self.actor = Actor(
            ObjectActions(self.client, fence, "localhost/adapterrelease/job:dev", engine_objects=self.engine_objects),
            PodActions(self.client, engines, self.failures, fence, lambda: self.now),
        )
        self.reconciler = Reconciler(
            self.observer.observe, plan, self.actor, StatusWriter(self.client), self, self.board, lambda: self.now
        )

    # -- what the controller sees
    def event(self, obj: Object, kind: str, reason: str, message: str) -> None:
        self.events.append((kind, reason, message))

    def observe(self) -> Snapshot:
        snapshot = self.observer.observe(KEY)
        assert snapshot is not None
        return snapshot

    def turn(self) -> Turn:
        return Turn.of(self.observe())

    def reconcile(self) -> Result:
        return self.reconciler(KEY)

    def run(self, until: Callable[[], bool], passes: int = 60) -> None:
        """Reconcile, let Kubernetes act and a second pass, until it holds."""
        for _ in range(passes):
            if until():
                return
            self.reconcile()
            self.settle()
            self.now += timedelta(seconds=1)
        raise AssertionError(f"it never came to that; the release is {json.dumps(self.release(), indent=1)}")

    # -- what a user does
    def apply(self, release: ReleaseBuilder) -> None:
        wire = json.loads(json.dumps(release.wire))
        if release.memory != type(release.memory)():
            wire["status"] = release.memory.to_wire()
        self.api.create(RELEASES.path(NAMESPACE), {**wire, "metadata": {**wire["metadata"], "resourceVersion": ""}})

    def release(self) -> Json:
        return self.api.get(RELEASES.path(*KEY))

    def step(self) -> str:
        return str(self.release().get("status", {}).get("rollout", {}).get("step", ""))

    def serving(self) -> Json | None:
        served: Json | None = self.release().get("status", {}).get("serving")
        return served

    def get(self, resource: Resource, name: str) -> Json:
        return self.api.get(resource.path(NAMESPACE, name))

    def names(self, resource: Resource) -> list[str]:
        return sorted(o["metadata"]["name"] for o in LiveLister(self.api, resource).list(NAMESPACE))

    # -- what Kubernetes does
    def add_base(self, pods: int = 1, plugin: bool = False, **fields: Any) -> None:
        args = [*container()["args"], "--port", str(self.port)]
        if plugin:
            args.append("--middleware=adapterrelease_engine.Middleware")
        made = deployment(container(**({"args": args} | fields)), replicas=pods)
        self.api.create(DEPLOYMENTS.path(NAMESPACE), made)
        for _ in range(pods):
            self.add_pod(
                {"app": "tiny-llama"}, max_cpu_loras=8, plugin=FakePlugin(version=PLUGIN.version) if plugin else None
            )

    def change_base(self, **fields: Any) -> None:
        """Edit its vLLM container; its pods stay as they are."""
        template = deployment(container(**fields))["spec"]["template"]
        self.api.patch(DEPLOYMENTS.path(NAMESPACE, "tiny-llama"), {"spec": {"template": template}})

    def add_pod(self, labels: Json, **engine: Any) -> str:
        name, host = f"pod-{next(self._names)}", next(_hosts)
        fake = FakeVllm(host, self.port, **engine)
        fake.disk = self.disk
        self.engines[name] = self._stack.enter_context(fake)
        status = {
            "phase": "Running",
            "podIP": host,
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "vllm", "containerID": f"containerd://{name}-0", "state": {"running": {}}}],
        }
        self.api.create(PODS.path(NAMESPACE), {"metadata": {"name": name, "labels": labels}, "status": status})
        return name

    def restart(self, pod: str) -> None:
        """The container dies and is there again, without anybody having noticed yet."""
        self.engines[pod].restart(self.get(PODS, pod)["metadata"].get("annotations"))
        statuses = [{"name": "vllm", "containerID": f"containerd://{pod}-1", "state": {"running": {}}}]
        self.api.patch(PODS.path(NAMESPACE, pod, "status"), {"status": {"containerStatuses": statuses}})

    def ready_pods(self, selector: Mapping[str, str]) -> list[Object]:
        return [p for p in self.listers.pods.list(NAMESPACE, selector) if _is_ready(p)]

    def settle(self) -> None:
        for made in self.listers.deployments.list(NAMESPACE):
            if made["metadata"]["name"] != "tiny-llama":
                self._run_deployment(made)
        for service in self.listers.services.list(NAMESPACE):
            self._fill_endpoints(service)

    def finish_job(self, name: str, summary: Json, exit_code: int = 0) -> None:
        """The job's pod ends with the summary, the Job with it."""
        labels = {JOB_NAME_LABEL: name}
        when = datetime.now(UTC).isoformat()
        ended = {"exitCode": exit_code, "message": json.dumps(summary), "finishedAt": when}
        status = {"phase": "Succeeded", "containerStatuses": [{"name": "job", "state": {"terminated": ended}}]}
        self.api.create(PODS.path(NAMESPACE), {"metadata": {"name": f"{name}-x", "labels": labels}, "status": status})
        kind = "Failed" if exit_code else "Complete"
        conditions = [{"type": kind, "status": "True", "reason": "PodFailurePolicy" if exit_code else ""}]
        self.api.patch(JOBS.path(NAMESPACE, name, "status"), {"status": {"conditions": conditions}})

    def _run_deployment(self, made: Object) -> None:
        labels = made["spec"]["template"]["metadata"]["labels"]
        running = self.listers.pods.list(NAMESPACE, made["spec"]["selector"]["matchLabels"])
        line = made["spec"]["template"]["spec"]["containers"][0]["command"]
        for _ in range(made["spec"]["replicas"] - len(running)):
            self.add_pod(labels, served="support-bot", root=line[2])
        path = DEPLOYMENTS.path(NAMESPACE, made["metadata"]["name"], "status")
        self.api.patch(path, {"status": {"availableReplicas": made["spec"]["replicas"]}})

    def _fill_endpoints(self, service: Object) -> None:
        name = service["metadata"]["name"]
        pods = self.ready_pods(service["spec"]["selector"])
        endpoints = [{"targetRef": {"kind": "Pod", "name": p["metadata"]["name"]}} for p in pods]
        if "clusterIP" not in service["spec"]:
            self.api.patch(SERVICES.path(NAMESPACE, name), {"spec": {"clusterIP": f"10.96.0.{next(self._names)}"}})
        slice_path = ENDPOINTSLICES.path(NAMESPACE, name)
        made = {"metadata": {"name": name, "labels": {SERVICE_NAME_LABEL: name}}, "endpoints": endpoints}
        if any(s["metadata"]["name"] == name for s in self.listers.endpoint_slices.list(NAMESPACE)):
            self.api.patch(slice_path, {"endpoints": endpoints})
        else:
            self.api.create(ENDPOINTSLICES.path(NAMESPACE), made)


@contextmanager
def cluster(engine_timeout: float = 10.0) -> Iterator[Cluster]:
    """`engine_timeout`: seconds until a vLLM that does not answer is given up."""
    with ExitStack() as stack, FakeVllm() as probe:
        port = probe.port  # free on this address, and so, as a rule, on the others of the loopback
        yield Cluster(stack, stack.enter_context(ApiServer()), port, engine_timeout)


def adapter_path(digest: str) -> str:
    return f"/store/adapters/finetune/{digest.removeprefix('sha256:')}"


def import_summary(digest: str = D1) -> Json:
    result = {
        "kind": "Import",
        "digest": digest,
        "rank": 8,
        "path": adapter_path(digest),
        "sizeBytes": 1000,
        "files": ["adapter_config.json"],
    }
    return {"kind": "Import", "result": result}


def _is_ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions") or ()
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]
