"""Observe, plan and act together, against a fake API server and fake vLLMs: the life of a release."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controller.api.v1alpha1 import RETRY_ANNOTATION
from controller.errors import PermanentError
from controller.reconcile.caches import RELEASES
from controller.runtime.resources import DEPLOYMENTS, JOBS, PODS, SERVICES
from tests.builders import A1, A2, D1, D2, release
from tests.reconcile.cluster import KEY, NAMESPACE, Cluster, adapter_path, cluster, import_summary
from tests.reconcile.deployments import UNKNOWN

pytestmark = pytest.mark.slow

ARTIFACT_PATH = f"/store/artifacts/{A1.removeprefix('sha256:')}"


@pytest.fixture
def world() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


def job_names(world: Cluster, kind: str) -> list[str]:
    return [n for n in world.names(JOBS) if n.startswith(f"support-bot-{kind}-")]


def until_job(world: Cluster, kind: str) -> str:
    world.run(lambda: bool(job_names(world, kind)))
    return job_names(world, kind)[-1]


def serve_adapter(world: Cluster) -> None:
    world.finish_job(until_job(world, "import"), import_summary())
    world.run(lambda: world.serving() is not None)


def build_summary() -> dict[str, Any]:
    provenance = {"baseName": "tiny-llama", "baseDigest": "x", "adapters": [], "dtype": "bfloat16"}
    result = {
        "kind": "Build",
        "artifactId": A1,
        "path": ARTIFACT_PATH,
        "name": "merged",
        "digest": A1,
        "sizeBytes": 1,
        "reused": False,
        "seconds": {},
        "provenance": provenance,
    }
    return {"kind": "Build", "result": result}


def evaluate_summary(candidate: float = 1.0) -> dict[str, Any]:
    suite = {"name": "support", "samples": 10, "reference": 1.0, "candidate": candidate, "agreement": 1.0, "errors": 0}
    return {"kind": "Evaluate", "result": {"kind": "Evaluate", "suites": [suite]}}


def promote(world: Cluster) -> None:
    world.finish_job(until_job(world, "build"), build_summary())
    world.finish_job(until_job(world, "validate"), evaluate_summary())
    world.run(lambda: (world.serving() or {}).get("backend", {}).get("kind") == "Artifact")


def test_an_adapter_is_imported_loaded_labelled_and_routed(world: Cluster) -> None:
    world.add_base(pods=2)
    world.apply(release())
    serve_adapter(world)
    assert world.serving()["backend"] == {"kind": "Adapter", "id": D1}  # type: ignore[index]
    selector = world.get(SERVICES, "support-bot")["spec"]["selector"]
    assert selector == {"app": "tiny-llama", "loaded.adapterrelease.dev/support-bot": "11111111"}
    world.run(lambda: len(world.ready_pods(selector)) == 2)
    assert all(e.listed == {"support-bot": adapter_path(D1)} for e in world.engines.values())
    assert ("Normal", "Serving") in {event[:2] for event in world.events}


def test_a_restarted_container_leaves_the_route_and_comes_back(world: Cluster) -> None:
    world.add_base(pods=2)
    world.apply(release())
    serve_adapter(world)
    selector = world.get(SERVICES, "support-bot")["spec"]["selector"]
    world.run(lambda: len(world.ready_pods(selector)) == 2)
    world.restart("pod-0")
    world.reconcile()
    assert [p["metadata"]["name"] for p in world.ready_pods(selector)] == ["pod-1"]
    world.run(lambda: len(world.ready_pods(selector)) == 2)
    assert world.engines["pod-0"].listed == {"support-bot": adapter_path(D1)}


@pytest.mark.parametrize("changed", [{"targetPort": 1}, {"port": 81}, {"targetPort": "http"}])
def test_ports_of_the_route_that_somebody_changed_are_put_right(world: Cluster, changed: dict[str, Any]) -> None:
    world.add_base()
    world.apply(release())
    serve_adapter(world)
    (right,) = world.get(SERVICES, "support-bot")["spec"]["ports"]
    world.api.patch(SERVICES.path(*KEY), {"spec": {"ports": [right | changed]}})
    world.run(lambda: world.get(SERVICES, "support-bot")["spec"]["ports"] == [right], passes=3)


def test_a_load_that_vllm_refuses_is_told_and_not_repeated(world: Cluster) -> None:
    world.add_base()
    world.disk[adapter_path(D1)] = "rank 32 is greater than max_lora_rank 16"
    world.apply(release())
    world.finish_job(until_job(world, "import"), import_summary())
    engine = world.engines["pod-0"]
    for _ in range(10):
        try:
            world.reconcile()
        except Exception as error:
            assert "max_lora_rank" in str(error)
    assert engine.count("/v1/load_lora_adapter") == 1
    (pod,) = world.release()["status"]["adapter"]["pods"]
    assert (pod["state"], "max_lora_rank 16" in pod["message"]) == ("Failed", True)


def test_a_stable_release_ends_on_the_merged_model(world: Cluster) -> None:
    world.add_base()
    world.apply(release().stable())
    serve_adapter(world)
    promote(world)
    name = f"support-bot-merged-{'a' * 12}"
    assert world.get(SERVICES, "support-bot")["spec"]["selector"] == {
        "adapterrelease.dev/release": "support-bot",
        "adapterrelease.dev/artifact": "a" * 12,
    }
    assert name in world.names(DEPLOYMENTS)
    world.run(lambda: world.step() == "Idle", passes=120)
    assert world.serving()["backend"] == {"kind": "Artifact", "id": A1}  # type: ignore[index]


def test_a_pass_without_news_writes_nothing_whatever_the_release_is_doing(world: Cluster) -> None:
    def writes_of_a_second_pass() -> list[str]:
        world.reconcile()
        world.settle()
        world.reconcile()
        before = len(world.api.requests)
        world.reconcile()
        return [f"{r.method} {r.path}" for r in world.api.requests[before:] if r.method != "GET"]

    world.add_base(pods=2)
    world.apply(release().stable())
    importing = until_job(world, "import")
    assert writes_of_a_second_pass() == []
    world.finish_job(importing, import_summary())
    building = until_job(world, "build")
    assert writes_of_a_second_pass() == []
    world.finish_job(building, build_summary())
    validating = until_job(world, "validate")
    assert writes_of_a_second_pass() == []
    world.finish_job(validating, evaluate_summary())
    world.run(lambda: world.step() == "Observing")
    assert writes_of_a_second_pass() == []
    world.run(lambda: world.step() == "Idle", passes=120)
    assert writes_of_a_second_pass() == []


def test_errors_after_the_swap_roll_back_and_the_artifact_goes(world: Cluster) -> None:
    world.add_base()
    world.apply(release().stable())
    serve_adapter(world)
    promote(world)
    merged = next(n for n, e in world.engines.items() if e.root == ARTIFACT_PATH)
    world.run(lambda: world.release()["status"]["rollout"].get("counters") is not None)
    world.engines[merged].serve(requests=100, errors=50)
    world.run(lambda: world.serving()["backend"]["kind"] == "Adapter")  # type: ignore[index]
    assert world.release()["status"]["rollout"]["rejected"][0]["reason"] == "ChecksFailed"
    world.run(lambda: world.names(DEPLOYMENTS) == ["tiny-llama"], passes=120)


def test_a_rollback_by_hand_is_decided_and_carried_out_at_one_look(world: Cluster) -> None:
    world.add_base()
    world.apply(release().stable())
    serve_adapter(world)
    promote(world)
    world.run(lambda: world.step() == "Idle", passes=120)
    world.api.patch(RELEASES.path(*KEY), {"spec": {"stage": "Experimental"}})
    world.reconcile()
    assert "loaded.adapterrelease.dev/support-bot" in world.get(SERVICES, "support-bot")["spec"]["selector"]


def test_a_score_that_drops_never_gets_traffic(world: Cluster) -> None:
    world.add_base()
    world.apply(release().stable())
    serve_adapter(world)
    world.finish_job(until_job(world, "build"), build_summary())
    world.finish_job(until_job(world, "validate"), evaluate_summary(candidate=0.2))
    world.run(lambda: bool(world.release()["status"]["rollout"].get("rejected")))
    assert world.serving()["backend"]["kind"] == "Adapter"  # type: ignore[index]
    assert world.release()["status"]["artifact"]["verdict"] == "Fail"


def test_a_new_version_replaces_the_old_one_on_a_base_with_one_pod(world: Cluster) -> None:
    world.add_base()
    world.disk[adapter_path(D2)] = None
    world.apply(release())
    serve_adapter(world)
    adapters = [{"name": "finetune", "version": "v2", "source": {"uri": "pvc://store/incoming/support-bot/v2"}}]
    world.api.patch(
        f"/apis/adapterrelease.dev/v1alpha1/namespaces/{NAMESPACE}/adapterreleases/support-bot",
        {"spec": {"adapters": adapters}},
    )
    before = set(job_names(world, "import"))
    world.run(lambda: bool(set(job_names(world, "import")) - before))
    (name,) = set(job_names(world, "import")) - before
    world.finish_job(name, import_summary(D2))
    world.run(lambda: world.serving()["backend"]["id"] == D2)  # type: ignore[index]
    world.run(lambda: world.engines["pod-0"].listed == {"support-bot": adapter_path(D2)})


def test_a_deleted_release_leaves_nothing_on_the_pods(world: Cluster) -> None:
    world.add_base()
    world.apply(release())
    serve_adapter(world)
    path = f"/apis/adapterrelease.dev/v1alpha1/namespaces/{NAMESPACE}/adapterreleases/support-bot"
    world.api.delete(path)

    def gone() -> bool:
        return not any(p.plural == "adapterreleases" for p in world.api.etcd.objects)

    world.run(gone)
    assert world.engines["pod-0"].listed == {}
    assert "loaded.adapterrelease.dev/support-bot" not in world.get(PODS, "pod-0")["metadata"]["labels"]


def test_a_short_absence_is_not_counted_from_when_the_first_of_two_replicas_was_lost(world: Cluster) -> None:
    """maxUnavailable is 0: the Available condition is False as soon as one of them is missing."""
    world.add_base(pods=2)
    world.apply(release().stable())
    serve_adapter(world)
    promote(world)
    world.run(lambda: world.step() == "Idle", passes=120)
    (merged,) = world.observe().merged
    hour_ago = {"type": "Available", "status": "False", "lastTransitionTime": "2025-12-31T23:00:00Z"}
    world.api.patch(DEPLOYMENTS.path(NAMESPACE, merged.name, "status"), {"status": {"conditions": [hour_ago]}})
    for ready in ("False", "True"):
        for pod in merged.pods:
            status = {"conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:05:00Z"}]}
            world.api.patch(PODS.path(NAMESPACE, pod.name, "status"), {"status": status})
        for _ in range(3):
            world.reconcile()
            world.now += timedelta(seconds=1)
    assert (world.serving() or {})["backend"] == {"kind": "Artifact", "id": A1}
    assert not world.release()["status"]["rollout"].get("rejected")


def test_a_release_goes_although_nobody_knows_its_base_s_container_any_more(world: Cluster) -> None:
    """Its pods cannot be asked; after a minute it is not waited for them any longer."""
    world.add_base()
    world.apply(release())
    serve_adapter(world)
    world.change_base(**UNKNOWN)
    world.engines["pod-0"].fault = "hang"
    world.api.delete(RELEASES.path(*KEY))
    world.now = datetime.now(UTC)  # the fake API server's clock, which says when the deletion was asked for
    world.reconcile()
    assert "loaded.adapterrelease.dev/support-bot" not in world.get(PODS, "pod-0")["metadata"]["labels"]
    world.run(lambda: not any(p.plural == "adapterreleases" for p in world.api.etcd.objects), passes=90)


def refused(world: Cluster) -> list[str]:
    return [message for kind, reason, message in world.events if (kind, reason) == ("Warning", "ActionRefused")]


def test_a_job_that_cannot_be_made_is_told_and_the_adapter_goes_on_being_kept(world: Cluster) -> None:
    world.add_base(pods=2)
    wrong = {"spec": {"containers": [{"name": "job", "env": [{"value": "1"}]}]}}
    made = release().stable()
    made.wire["spec"]["build"]["podTemplate"] = wrong
    world.apply(made)
    serve_adapter(world)
    for _ in range(20):
        with suppress(PermanentError):
            world.reconcile()
    (told,) = refused(world)
    assert told.startswith("An action was refused: build with inputs ")
    assert told.endswith(".containers[job].env must be a list of objects with a name.")
    assert "is not made yet" in message_of(world, "ArtifactBuilt")
    selector = world.get(SERVICES, "support-bot")["spec"]["selector"]
    world.restart("pod-0")
    for _ in range(4):
        with suppress(PermanentError):
            world.reconcile()
    assert len(world.ready_pods(selector)) == 2
    world.now += timedelta(minutes=10)
    with suppress(PermanentError):
        world.reconcile()
    assert len(refused(world)) == 2


def message_of(world: Cluster, condition: str) -> str:
    return next(str(c["message"]) for c in world.release()["status"]["conditions"] if c["type"] == condition)


def test_an_artifact_that_was_deleted_and_built_again_is_known_by_its_new_files(world: Cluster) -> None:
    """Else a validation would take it for one that somebody changed."""
    world.add_base(pods=2)
    world.apply(release().stable())
    serve_adapter(world)
    promote(world)
    before = {kind: set(job_names(world, kind)) for kind in ("import", "build")}
    world.api.patch(RELEASES.path(*KEY), {"metadata": {"annotations": {RETRY_ANNOTATION: "again"}}})
    rebuilt = build_summary()
    rebuilt["result"] |= {"digest": A2, "sizeBytes": 2}
    for kind, summary in (("import", import_summary()), ("build", rebuilt)):
        world.run(lambda kind=kind: set(job_names(world, kind)) != before[kind], passes=120)
        (again,) = set(job_names(world, kind)) - before[kind]
        world.finish_job(again, summary)

    def known() -> tuple[str, int]:
        artifact = world.release()["status"]["artifact"]
        return artifact["digest"], artifact["sizeBytes"]

    assert known() == (A1, 1)
    world.run(lambda: known() == (A2, 2))
