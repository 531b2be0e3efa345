"""What only a real API server can say: are the objects valid and restricted, do patches do what they should?"""

from __future__ import annotations

import copy
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.api.status import AdapterReleaseStatus, Backend, BackendKind, HistoryEntry
from controller.api.v1alpha1 import STORE_ANNOTATION
from controller.domain.actions import AddFinalizer, EnsureJob, EnsureMerged
from controller.domain.snapshot import JobKind, Snapshot
from controller.errors import Conflict, Forbidden
from controller.reconcile.act_engine import EngineObjects
from controller.reconcile.act_objects import ObjectActions
from controller.reconcile.base import base_facts
from controller.reconcile.caches import RELEASES
from controller.reconcile.objects.budget import BUDGETS
from controller.reconcile.observe import read_release
from controller.reconcile.pods import condition
from controller.reconcile.status import StatusWriter
from controller.reconcile.turn import Fence, Turn
from controller.runtime.client import KubeClient
from controller.runtime.resources import CONFIGMAPS, DEPLOYMENTS, JOBS, PODS, SERVICES, Key, Resource
from tests.builders import A1, A2, BUILD, D1, T0, release
from tests.reconcile.deployments import (
    MODELS,
    PLUGIN,
    PRODUCTION_STACK,
    SHELL_FORM,
    SIDECAR,
    STORE,
    container,
    deployment,
)
from tests.reconcile.test_objects import GPU, MEMORY, PATH

pytestmark = pytest.mark.apiserver

Json = dict[str, Any]

NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
CRD_FILE = Path(__file__).resolve().parents[2] / "manifests" / "crd.yaml"
# There is no such class here, and admission asks.
GPU_WITHOUT_CLASS = copy.deepcopy(GPU)
del GPU_WITHOUT_CLASS["spec"]["priorityClassName"]
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}


@pytest.fixture(scope="session")
def client(apiserver: Path) -> Iterator[KubeClient]:
    client = KubeClient.from_config(str(apiserver))
    crd = yaml.safe_load(CRD_FILE.read_text())
    client.apply(CRDS.path(name=crd["metadata"]["name"]), crd, "tests")
    _wait_until_established(client, crd["metadata"]["name"])
    yield client
    client.close()


def _wait_until_established(client: KubeClient, name: str) -> None:
    """A field selector makes the watch tell the object's state at once."""
    for event in client.watch(CRDS.path(), "", 60, field_selector=f"metadata.name={name}"):
        if condition(event["object"], "Established") == "True":
            return
    raise AssertionError(f"{name} was not established")


@pytest.fixture
def namespace(client: KubeClient) -> Iterator[str]:
    """One that takes restricted pods only."""
    name = f"reconcile-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    client.create(NAMESPACES.path(), {"metadata": {"name": name, "labels": RESTRICTED}})
    account = {"metadata": {"name": "default"}}  # pods are refused before the controller has made it
    client.apply(
        SERVICE_ACCOUNTS.path(name, "default"), {**account, "apiVersion": "v1", "kind": "ServiceAccount"}, "tests"
    )
    yield name
    client.delete(NAMESPACES.path(name=name))


def turn_of(client: KubeClient, namespace: str, made: Json, **spec: Any) -> Turn:
    """A stable release that has imported and built, as the API server has it."""
    wire = release().stable().spec(**spec).wire
    meta = {"name": wire["metadata"]["name"], "namespace": namespace}
    body = {
        "apiVersion": "adapterrelease.dev/v1alpha1",
        "kind": "AdapterRelease",
        "metadata": meta,
        "spec": wire["spec"],
    }
    client.create(RELEASES.path(namespace), body)
    seen = read_release(client, Key(namespace, meta["name"]))
    assert seen is not None
    return Turn.of(Snapshot(release=seen.model_copy(update={"status": MEMORY}), base=base_facts(made)))


def actions_of(client: KubeClient) -> ObjectActions:
    return ObjectActions(
        client,
        Fence(client, lambda: True),
        "localhost/adapterrelease/job:dev",
        engine_objects=EngineObjects(client, PLUGIN),
    )


def pod_from(client: KubeClient, namespace: str, template: Json) -> Json:
    """The pod that a controller would make of the template; refused when it is not restricted."""
    metadata = {**template["metadata"], "generateName": "made-"}
    return client.create(
        PODS.path(namespace), {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    )


@pytest.mark.parametrize("kind", list(JobKind))
def test_a_job_and_its_pod_are_accepted_in_a_restricted_namespace(
    client: KubeClient, namespace: str, kind: JobKind
) -> None:
    turn = turn_of(
        client,
        namespace,
        deployment(),
        build=BUILD | {"podTemplate": GPU_WITHOUT_CLASS},
    )
    actions_of(client).ensure_job(EnsureJob("why", kind, "f" * 64), turn)
    made = client.get(JOBS.path(namespace, f"support-bot-{kind}-ffffffff"))
    assert made["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [2]
    template = made["spec"]["template"]
    template["spec"].pop("runtimeClassName", None)
    pod_from(client, namespace, template)
    assert client.get(CONFIGMAPS.path(namespace, made["metadata"]["name"]))["immutable"] is True


@pytest.mark.parametrize(
    "made",
    [
        deployment(),
        deployment(SHELL_FORM),
        deployment(PRODUCTION_STACK, volumes=[STORE, MODELS], annotations={STORE_ANNOTATION: "store"}),
        deployment(
            container(securityContext={"privileged": True}),
            SIDECAR,
            hostNetwork=True,
            initContainers=[{"name": "fetch", "image": "fetch:1"}],
            volumes=[STORE],
            topologySpreadConstraints=[
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": {"matchLabels": {"app": "tiny-llama"}},
                    "matchLabelKeys": ["pod-template-hash"],
                }
            ],
        ),
    ],
)
def test_a_merged_deployment_and_its_pod_are_accepted_in_a_restricted_namespace(
    client: KubeClient, namespace: str, made: Json
) -> None:
    turn = turn_of(client, namespace, made)
    actions_of(client).ensure_merged(EnsureMerged("why", A1, PATH), turn)
    found = client.get(DEPLOYMENTS.path(namespace, f"support-bot-merged-{'a' * 12}"))
    pod_from(client, namespace, found["spec"]["template"])
    limits = client.get(BUDGETS.path(namespace, found["metadata"]["name"]))["spec"]
    assert (limits["maxUnavailable"], limits["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
    assert client.get(SERVICES.path(namespace, "support-bot-preview"))["spec"]["clusterIP"]


def test_the_namespace_does_refuse_other_pods(client: KubeClient, namespace: str) -> None:
    with pytest.raises(Forbidden, match="violates PodSecurity"):
        pod_from(client, namespace, deployment()["spec"]["template"])


def test_a_service_that_moves_selects_the_new_backend_alone(client: KubeClient, namespace: str) -> None:
    turn = turn_of(client, namespace, deployment())
    actions = actions_of(client)
    for artifact_id, short in ((A1, "a" * 12), (A2, "b" * 12)):
        actions.ensure_merged(EnsureMerged("why", artifact_id, PATH), turn)
        spec = client.get(SERVICES.path(namespace, "support-bot-preview"))["spec"]
        assert spec["selector"] == {
            "adapterrelease.dev/release": "support-bot",
            "adapterrelease.dev/artifact": short,
        }
    before = client.get(SERVICES.path(namespace, "support-bot-preview"))["metadata"]["resourceVersion"]
    actions.ensure_merged(EnsureMerged("why", A2, PATH), turn)
    assert client.get(SERVICES.path(namespace, "support-bot-preview"))["metadata"]["resourceVersion"] == before


def test_the_status_is_written_once_for_what_was_observed(client: KubeClient, namespace: str) -> None:
    turn = turn_of(client, namespace, deployment())
    actions_of(client).add_finalizer(AddFinalizer("why"), turn)
    write = StatusWriter(client)
    assert write(MEMORY, turn) == frozenset()
    stored = read_release(client, Key(namespace, "support-bot"))
    assert stored is not None and stored.status == MEMORY
    assert stored.metadata.finalizers == ["adapterrelease.dev/unload"]
    write(AdapterReleaseStatus(), turn)
    turn.resource_version = stored.metadata.resource_version
    with pytest.raises(Conflict):
        write(MEMORY, turn)


class NewerStatus(AdapterReleaseStatus):
    """Of a controller that is newer than the CRD."""

    def to_wire(self) -> Json:
        wire = super().to_wire()
        newer = [{**entry, "sinceThen": "a field of tomorrow"} for entry in wire["history"]]
        return {**wire, "history": newer, "tomorrow": {"a": "field"}}


def test_fields_that_the_crd_does_not_have_are_known_to_be_lost(client: KubeClient, namespace: str) -> None:
    turn = turn_of(client, namespace, deployment())
    write = StatusWriter(client)
    assert write(MEMORY, turn) == frozenset()
    entry = HistoryEntry(revision=1, backend=Backend(kind=BackendKind.ADAPTER, id=D1), since=T0, reason="FirstLoad")
    newer = NewerStatus(**{**dict(MEMORY), "history": [entry]})
    assert write(newer, turn) == {("history", "sinceThen"), ("tomorrow",)}
    stored = read_release(client, Key(namespace, "support-bot"))
    assert stored is not None and stored.status.history[0].revision == 1
