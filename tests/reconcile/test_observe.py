"""What a snapshot says, and what it says when something cannot be asked."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from controller.api.status import AdapterReleaseStatus, RolloutStatus, Step
from controller.domain.actions import EnsureMerged, LoadAdapter, ProbeAndLabel, SwitchRoute
from controller.domain.snapshot import PodFacts, Problem
from controller.engine.metrics import RequestCounters
from controller.job.summary import Failure, FailureKind, Summary
from controller.reconcile.caches import RELEASES
from controller.reconcile.engines import SECRETS, ApiKeyNotReadable, Secrets
from controller.reconcile.merged import sum_counters
from controller.reconcile.pods import trouble_of
from controller.reconcile.route import ready_endpoints
from controller.runtime.resources import DEPLOYMENTS, PODS, SERVICES
from tests.builders import A1, D1, adapter, artifact, base, release
from tests.reconcile.cluster import KEY, NAMESPACE, Cluster, adapter_path, cluster
from tests.reconcile.deployments import UNKNOWN, UPDATING, container

pytestmark = pytest.mark.slow

Json = dict[str, Any]

LOAD = LoadAdapter("why", "pod-0", "support-bot", D1, adapter_path(D1))
PROVE = ProbeAndLabel("why", "pod-0", "support-bot", D1, adapter_path(D1), "11111111")
PATH = f"/store/artifacts/{'a' * 64}"
FROM_SECRET = {"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"name": "vllm", "key": "key"}}}


@pytest.fixture
def world() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


def in_step(step: Step, **more: Any) -> AdapterReleaseStatus:
    return AdapterReleaseStatus(rollout=RolloutStatus(step=step, **more))


def test_a_release_that_is_gone_is_none(world: Cluster) -> None:
    assert world.observer.observe(KEY) is None


def test_without_a_base_there_are_no_facts_and_no_pods(world: Cluster) -> None:
    world.apply(release())
    snapshot = world.observe()
    assert (snapshot.base, snapshot.base_pods, snapshot.route) == (None, (), None)


def test_a_base_without_a_vllm_container_is_seen_with_its_problem(world: Cluster) -> None:
    world.add_base(**UNKNOWN)
    world.apply(release())
    snapshot = world.observe()
    assert snapshot.base is not None
    assert [p.reason for p in snapshot.base.problems] == ["NoVllmContainer"]
    world.reconcile()
    (ready,) = [c for c in world.release()["status"]["conditions"] if c["type"] == "Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "NoVllmContainer")


def test_only_adapters_are_listed_not_the_base_itself(world: Cluster) -> None:
    world.add_base()
    world.apply(release())
    assert world.observe().base_pods[0].adapters == {}
    world.actor(LOAD, world.turn())
    assert world.observe().base_pods[0].adapters == {"support-bot": adapter_path(D1)}


@pytest.mark.parametrize(("fault", "patience"), [("hang", 3.0), ("garbage", 10.0), ("500", 10.0)])
def test_a_server_that_cannot_be_asked_is_none_and_the_others_are_not(fault: str, patience: float) -> None:
    with cluster(engine_timeout=patience) as world:
        world.add_base(pods=2)
        world.apply(release())
        world.engines["pod-0"].fault = fault
        first, second = world.observe().base_pods
        assert (first.adapters, second.adapters) == (None, {})
        assert first.usable


def test_a_pod_that_is_not_ready_is_not_asked(world: Cluster) -> None:
    world.add_base()
    world.apply(release())
    not_ready = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    world.api.patch(PODS.path(NAMESPACE, "pod-0", "status"), not_ready)
    (pod,) = world.observe().base_pods
    assert (pod.usable, pod.adapters) == (False, None)
    assert world.engines["pod-0"].requests == []


def test_an_evicted_pod_is_no_pod(world: Cluster) -> None:
    world.add_base()
    world.apply(release())
    world.api.patch(PODS.path(NAMESPACE, "pod-0", "status"), {"status": {"phase": "Failed", "reason": "Evicted"}})
    assert world.observe().base_pods == ()


def test_the_older_release_with_the_same_model_name_is_a_rival(world: Cluster) -> None:
    world.add_base()
    world.apply(release())
    others: Json = {
        "older": {"modelName": "support-bot"},
        "younger": {"modelName": "support-bot"},
        "different": {"modelName": "other"},
        "elsewhere": {"modelName": "support-bot", "baseRef": {"name": "another"}},
    }
    for name, spec in others.items():
        wire = release(name).spec(**spec).wire
        world.api.create(RELEASES.path(NAMESPACE), {"metadata": {"name": name}, "spec": wire["spec"]})
        when = "2030-01-01T00:00:00Z" if name == "younger" else "2020-01-01T00:00:00Z"
        # creationTimestamp is the server's to set, and all of these were made in one second.
        place = next(p for p in world.api.etcd.objects if p.plural == "adapterreleases" and p.name == name)
        world.api.etcd.objects[place]["metadata"]["creationTimestamp"] = when
    assert world.observe().rivals == ("older",)


def test_the_route_is_asked_only_while_it_has_to_be_proven(world: Cluster) -> None:
    world.add_base()
    world.apply(release())
    for action in (LOAD, PROVE, SwitchRoute("why", adapter(D1))):
        world.actor(action, world.turn())
    world.settle()
    route = world.observe().route
    assert route is not None and (route.endpoints, route.answered_root) == (frozenset({"pod-0"}), None)
    status = in_step(Step.SWITCHING, target=adapter(D1)).to_wire()
    world.api.patch(RELEASES.path(*KEY, subresource="status"), {"status": status})
    route = world.observe().route
    assert route is not None and (route.owned, route.answered_root) == (True, adapter_path(D1))


def test_a_route_that_does_not_answer_says_why(world: Cluster) -> None:
    world.add_base()
    world.apply(release().status(**dict(in_step(Step.SWITCHING, target=adapter(D1)))))
    for action in (LOAD, PROVE, SwitchRoute("why", adapter(D1))):
        world.actor(action, world.turn())
    world.settle()
    world.engines["pod-0"].restart()
    route = world.observe().route
    assert route is not None
    assert (route.answered_root, route.answer_problem) == (None, "a server behind the route does not know support-bot")


def test_counters_are_read_only_while_the_artifact_is_observed(world: Cluster) -> None:
    world.add_base()
    world.apply(release().stable().status(**dict(in_step(Step.OBSERVING, target=artifact(A1)))))
    world.actor(EnsureMerged("why", A1, PATH), world.turn())
    world.settle()
    pod = next(n for n, e in world.engines.items() if e.root == PATH)
    world.engines[pod].serve(requests=8, errors=2, latency=0.5)
    (merged,) = world.observe().merged
    assert merged.counters is not None
    assert (merged.counters.requests, merged.counters.errors, merged.counters.latency_milliseconds) == (8, 2, 3000)
    assert merged.counters.pods == [f"{pod}/{pod}-0"]
    world.api.patch(RELEASES.path(*KEY, subresource="status"), {"status": in_step(Step.VALIDATING).to_wire()})
    (merged,) = world.observe().merged
    assert merged.counters is None


@pytest.mark.parametrize("base_is", ["deleted", "changed"])
def test_a_merged_model_is_asked_at_the_port_and_with_the_key_of_its_own_template(world: Cluster, base_is: str) -> None:
    secret(world)
    world.add_base(env=[UPDATING, FROM_SECRET])
    world.apply(release().stable().status(**dict(in_step(Step.OBSERVING, target=artifact(A1)))))
    world.actor(EnsureMerged("why", A1, PATH), world.turn())
    world.settle()
    next(e for e in world.engines.values() if e.root == PATH).api_key = "s3cret-key"
    world.actor(SwitchRoute("why", artifact(A1)), world.turn())
    world.settle()
    if base_is == "deleted":
        world.api.delete(DEPLOYMENTS.path(NAMESPACE, "tiny-llama"))
    else:
        world.change_base(args=[*container()["args"], "--port", "9999"], env=[UPDATING])
    (merged,) = world.observe().merged
    assert merged.counters is not None and (merged.root, merged.port) == (PATH, world.port)
    status = in_step(Step.SWITCHING, target=artifact(A1)).to_wire()
    world.api.patch(RELEASES.path(*KEY, subresource="status"), {"status": status})
    route = world.observe().route
    assert route is not None and route.answered_root == PATH


def test_one_unreadable_container_makes_the_sum_unreadable() -> None:
    pods = [a_pod("a"), a_pod("b")]
    one = RequestCounters(5, 1, 2.0, 4)
    assert sum_counters(pods, [one, None]) is None
    assert sum_counters([], []) is None
    both = sum_counters(pods, [one, one])
    assert both is not None and (both.requests, both.latency_milliseconds, len(both.pods)) == (10, 4000, 2)


def a_pod(name: str) -> PodFacts:
    return PodFacts(name, name, container_id=f"containerd://{name * 20}")


def test_a_merged_model_that_does_not_start_says_why(world: Cluster) -> None:
    world.add_base()
    world.apply(release().stable())
    world.actor(EnsureMerged("why", A1, PATH), world.turn())
    world.settle()
    (before,) = world.observe().merged
    assert before.trouble == ""
    crashed = {
        "name": "vllm",
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "out of GPU memory"}},
    }
    status = {"conditions": [{"type": "Ready", "status": "False"}], "containerStatuses": [crashed]}
    world.api.patch(PODS.path(NAMESPACE, before.pods[0].name, "status"), {"status": status})
    (merged,) = world.observe().merged
    assert "CrashLoopBackOff; Error (exit code 1): out of GPU memory" in merged.trouble


def verified(failure: Failure | str, exit_code: int = 2, running: bool = False) -> Json:
    """A pod whose artifact was verified, and how that ended."""
    message = failure if isinstance(failure, str) else Summary(kind="Verify", failure=failure).to_json()
    ended = {"terminated": {"exitCode": exit_code, "reason": "Error", "message": message}}
    state = {"state": {"running": {}}, "lastState": ended} if running else {"state": ended}
    conditions = [{"type": "Ready", "status": "False"}]
    return {"conditions": conditions, "initContainerStatuses": [{"name": "verify-artifact", **state}]}


CHANGED = Failure(kind=FailureKind.PERMANENT, reason="ArtifactCorrupted", message="config.json: missing")


@pytest.mark.parametrize("running", [False, True])
def test_a_pod_that_finds_its_artifact_changed_refuses_for_good(world: Cluster, running: bool) -> None:
    world.add_base()
    world.apply(release().stable())
    world.actor(EnsureMerged("why", A1, PATH), world.turn())
    world.settle()
    (before,) = world.observe().merged
    assert before.refused is None
    name = before.pods[0].name
    world.api.patch(PODS.path(NAMESPACE, name, "status"), {"status": verified(CHANGED, running=running)})
    (merged,) = world.observe().merged
    assert merged.refused == Problem("ArtifactCorrupted", f"pod {name} does not start: config.json: missing")
    assert merged.trouble == f"pod {name}: container verify-artifact: ArtifactCorrupted: config.json: missing"


def test_what_a_pod_said_that_is_being_deleted_is_not_held_against_its_successor(world: Cluster) -> None:
    world.add_base()
    world.apply(release().stable())
    world.actor(EnsureMerged("why", A1, PATH), world.turn())
    world.settle()
    name = world.observe().merged[0].pods[0].name
    going = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": verified(CHANGED)}
    world.api.patch(PODS.path(NAMESPACE, name), going)
    assert world.observe().merged[0].refused is None


UNREADABLE = Failure(kind=FailureKind.TRANSIENT, reason="StorageError", message="Input/output error")


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (verified(UNREADABLE, 1), "StorageError: Input/output error"),
        (verified("No such option: --digest"), "Error (exit code 2): No such option: --digest"),
        (verified("", 137), "Error (exit code 137)"),
        (verified("", 0), ""),
    ],
)
def test_a_verification_that_could_not_be_done_may_be_tried_again(world: Cluster, ended: Json, words: str) -> None:
    world.add_base()
    world.apply(release().stable())
    world.actor(EnsureMerged("why", A1, PATH), world.turn())
    world.settle()
    name = world.observe().merged[0].pods[0].name
    world.api.patch(PODS.path(NAMESPACE, name, "status"), {"status": ended})
    (merged,) = world.observe().merged
    assert merged.refused is None
    assert words in merged.trouble


def test_a_pod_that_is_just_starting_is_in_no_trouble() -> None:
    status = {"containerStatuses": [{"name": "vllm", "state": {"waiting": {"reason": "ContainerCreating"}}}]}
    assert trouble_of({"metadata": {}, "status": status}) == ""


def test_endpoints_that_are_not_ready_get_no_requests() -> None:
    def endpoint(name: str, **conditions: Any) -> Json:
        return {"targetRef": {"name": name}, "conditions": conditions}

    slices: list[Json] = [
        {"endpoints": [endpoint("a", ready=True), endpoint("b", ready=False), endpoint("c")]},
        {"endpoints": None},
    ]
    assert ready_endpoints(slices) == frozenset({"a", "c"})


# -- the API key


def secret(world: Cluster, value: str = "s3cret-key") -> None:
    data = {"key": base64.b64encode(value.encode()).decode()}
    world.api.create(SECRETS.path(NAMESPACE), {"metadata": {"name": "vllm"}, "data": data})


def test_servers_are_asked_with_the_key_from_the_secret(world: Cluster) -> None:
    secret(world)
    world.add_base(env=[UPDATING, FROM_SECRET])
    for engine in world.engines.values():
        engine.api_key = "s3cret-key"
    world.apply(release())
    assert world.observe().base_pods[0].adapters == {}
    world.actor(LOAD, world.turn())
    world.actor(PROVE, world.turn())


def test_a_key_that_cannot_be_read_is_a_problem_of_the_base(world: Cluster) -> None:
    world.add_base(env=[UPDATING, FROM_SECRET])
    world.apply(release())
    snapshot = world.observe()
    assert snapshot.base is not None
    (problem,) = snapshot.base.problems
    assert problem.reason == "ApiKeyNotReadable"
    assert "allow its service account to get this Secret by a Role in namespace llm" in problem.message


def test_a_key_is_read_once_a_minute(world: Cluster) -> None:
    secret(world)
    now = [0.0]
    keys = Secrets(world.client, lambda: now[0])
    facts = base(api_key_secret=("vllm", "key"))
    for moment in (0.0, 59.0, 61.0):
        now[0] = moment
        assert keys.key_of(NAMESPACE, facts) == "s3cret-key"
    assert world.api.count("GET", path=SECRETS.path(NAMESPACE, "vllm")) == 2


def test_a_secret_without_the_key_is_named(world: Cluster) -> None:
    secret(world)
    with pytest.raises(ApiKeyNotReadable, match="Secret vllm has no usable key other"):
        Secrets(world.client).key_of(NAMESPACE, base(api_key_secret=("vllm", "other")))


def test_a_service_that_is_taken_is_seen_under_each_of_its_names(world: Cluster) -> None:
    world.apply(release())
    for name in ("support-bot-preview", "support-bot-adapter", "shop"):
        world.api.create(SERVICES.path(NAMESPACE), {"metadata": {"name": name}, "spec": {}})
    assert world.observe().services_taken == ("support-bot-adapter", "support-bot-preview")
