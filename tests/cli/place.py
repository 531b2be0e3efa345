"""A cluster for the commands: the fake API server with the objects of a World in it, and a kubeconfig."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner, Result

from controller.cli.cluster import Cluster
from controller.cli.main import app
from controller.domain.snapshot import JobState, artifact_label
from controller.reconcile.caches import RELEASES
from controller.runtime.client import KubeClient
from controller.runtime.resources import DEPLOYMENTS, ENDPOINTSLICES, JOBS, PODS, SERVICES
from tests.builders import T0
from tests.domain.world import ARTIFACT, ROUTE, World
from tests.fakes.apiserver import ApiServer

Json = dict[str, Any]

RELEASE = RELEASES.path("llm", ROUTE)
_OURS = {"adapterrelease.dev/release": ROUTE}
_MADE = T0.strftime("%Y-%m-%dT%H:%M:%SZ")


class Place:
    """The API server, and the commands as a user calls them."""

    def __init__(self, api: ApiServer, kubeconfig: Path) -> None:
        self.api = api
        self.kubeconfig = kubeconfig

    def run(self, *arguments: str, env: dict[str, str] | None = None) -> Result:
        return CliRunner().invoke(app, [*arguments, "--kubeconfig", str(self.kubeconfig)], env=env)

    def release(self) -> Json:
        return self.api.get(RELEASE)

    def writes(self) -> list[Json]:
        """Bodies of all that was written."""
        return [r.body for r in self.api.requests if r.method != "GET"]

    @contextmanager
    def cluster(self) -> Iterator[Cluster]:
        client = KubeClient.from_config(str(self.kubeconfig))
        try:
            yield Cluster(client, "llm")
        finally:
            client.close()

    def hold(self, world: World) -> Place:
        """The release with its status and generation, and what is around it."""
        for path, obj in objects_of(world):
            self._put(path, obj)
        return self

    def _put(self, path: str, obj: Json) -> None:
        """Just as it is: etcd would make up generation, times and uid."""
        meta = {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}
        made = self.api.create(path, {**obj, "metadata": dict(meta)})
        with self.api.etcd.changed:
            made["metadata"] |= meta


@contextmanager
def place_in(directory: Path) -> Iterator[Place]:
    with ApiServer() as api:
        path = directory / "kubeconfig"
        path.write_text(yaml.safe_dump(kubeconfig(api.url)))
        yield Place(api, path)


def kubeconfig(url: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "fake", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me", "namespace": "llm"}}],
        "current-context": "fake",
    }


def objects_of(world: World) -> Iterator[tuple[str, Json]]:
    yield RELEASE, release_of(world)
    if world.selector is not None:
        yield SERVICES.path("llm", ROUTE), _named(ROUTE, {"spec": {"selector": dict(world.selector)}})
        yield ENDPOINTSLICES.path("llm", ROUTE), _slice(world)
    for merged in world.merged.values():
        name, label = f"support-bot-merged-{artifact_label(merged.artifact_id)}", artifact_label(merged.artifact_id)
        available = {"availableReplicas": int(merged.available)}
        made = {"spec": {"replicas": merged.replicas}, "status": available}
        marked = {ARTIFACT: label, "app.kubernetes.io/component": "merged"}
        yield DEPLOYMENTS.path("llm", name), _named(name, made, marked)
        if merged.replicas:
            pod = f"merged-{merged.uid}"
            yield PODS.path("llm", pod), _pod(pod, merged.available, merged.trouble, marked)
    for (kind, inputs), job in world.jobs.items():
        name = f"support-bot-{kind}-{inputs[:8]}"
        state = {JobState.SUCCEEDED: "Complete", JobState.FAILED: "Failed"}.get(job.facts.state)
        conditions = [{"type": state, "status": "True"}] if state else []
        marked = {"adapterrelease.dev/job": str(kind)}
        yield JOBS.path("llm", name), _named(name, {"status": {"conditions": conditions}}, marked)
        yield PODS.path("llm", f"{name}-p"), _pod(f"{name}-p", False, "", {"batch.kubernetes.io/job-name": name})


def release_of(world: World) -> Json:
    """As the API server has it: a release that no controller has seen has the status that the CRD gives it."""
    wire = world.release().to_wire()
    wire = {"apiVersion": "adapterrelease.dev/v1alpha1", "kind": "AdapterRelease"} | wire
    wire["metadata"]["creationTimestamp"] = _MADE
    if not world.status.conditions:
        wire["status"] = {"observedGeneration": -1}
    return wire


def _named(name: str, obj: Json, labels: Json | None = None) -> Json:
    meta = {"name": name, "namespace": "llm", "creationTimestamp": _MADE, "labels": _OURS | (labels or {})}
    return {"metadata": meta, **obj}


def _slice(world: World) -> Json:
    endpoints = [{"targetRef": {"name": n}, "conditions": {"ready": True}} for n in world.endpoints()]
    return _named(ROUTE, {"endpoints": endpoints}, {"kubernetes.io/service-name": ROUTE})


def _pod(name: str, ready: bool, trouble: str, labels: Json) -> Json:
    status: Json = {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]}
    if trouble:
        waiting = {"reason": "ImagePullBackOff", "message": "manifest unknown"}
        status["containerStatuses"] = [{"name": "vllm", "restartCount": 3, "state": {"waiting": waiting}}]
    return _named(name, {"status": status}, labels)
