"""Capacity in the life of a release: a preview that grows, a base that goes and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from controller.api.v1alpha1 import FINALIZER
from controller.errors import NotFound
from controller.reconcile.caches import RELEASES
from controller.runtime.resources import DEPLOYMENTS, PODS, SERVICES
from tests.builders import D1, ROLLOUT, release
from tests.reconcile.cluster import KEY, NAMESPACE, Cluster, adapter_path, cluster
from tests.reconcile.test_life import (
    build_summary,
    evaluate_summary,
    promote,
    serve_adapter,
    until_job,
)

pytestmark = pytest.mark.slow

Json = dict[str, Any]

BASE = DEPLOYMENTS.path(NAMESPACE, "tiny-llama")
MERGED = f"support-bot-merged-{'a' * 12}"
SETTLE = ROLLOUT | {"settle": {"scaleBaseTo": 0}}


class Scaling(Cluster):
    """Plays the base's Deployment, too: as many pods as it says."""

    def settle(self) -> None:
        wanted = int(self.api.get(BASE)["spec"]["replicas"])
        pods = self.listers.pods.list(NAMESPACE, {"app": "tiny-llama"})
        for pod in pods[wanted:]:
            self.api.delete(PODS.path(NAMESPACE, pod["metadata"]["name"]))
        for _ in range(wanted - len(pods)):
            self.add_pod({"app": "tiny-llama"}, max_cpu_loras=8)
        super().settle()


@contextmanager
def scaling() -> Iterator[Scaling]:
    with cluster() as made:
        made.__class__ = Scaling
        made.add_base(2)
        yield made  # type: ignore[misc]


@pytest.fixture
def world() -> Iterator[Scaling]:
    with scaling() as made:
        yield made


def replicas(world: Cluster, name: str = "tiny-llama") -> int:
    return int(world.get(DEPLOYMENTS, name)["spec"]["replicas"])


def kind(world: Cluster) -> str:
    return str((world.serving() or {}).get("backend", {}).get("kind", ""))


def settled(world: Scaling) -> None:
    """Promoted, observed, and its rollbackWindow over."""
    world.apply(release().stable().spec(rollout=SETTLE))
    serve_adapter(world)
    promote(world)
    world.run(lambda: world.step() == "Idle", passes=120)
    world.now += timedelta(hours=1)


def edit(world: Cluster, spec: Json) -> None:
    old = world.release()
    generation = old["metadata"]["generation"] + 1
    world.api.patch(RELEASES.path(*KEY), {"metadata": {"generation": generation}, "spec": spec})


def test_a_candidate_is_judged_small_and_has_all_replicas_when_the_route_reaches_it(world: Scaling) -> None:
    world.apply(release().stable().spec(rollout=ROLLOUT | {"replicas": 3, "previewReplicas": 1}))
    serve_adapter(world)
    world.finish_job(until_job(world, "build"), build_summary())
    validation = until_job(world, "validate")
    assert replicas(world, MERGED) == 1
    world.finish_job(validation, evaluate_summary())
    world.run(lambda: replicas(world, MERGED) == 3)
    assert kind(world) == "Adapter"
    assert "app" in world.get(SERVICES, "support-bot")["spec"]["selector"]
    world.run(lambda: kind(world) == "Artifact")


def test_one_that_cannot_grow_gets_no_traffic_and_is_given_up(world: Scaling) -> None:
    world.apply(release().stable().spec(rollout=ROLLOUT | {"previewReplicas": 1, "progressDeadline": "20s"}))
    serve_adapter(world)
    world.finish_job(until_job(world, "build"), build_summary())
    world.finish_job(until_job(world, "validate"), evaluate_summary())
    asked: set[int] = set()
    for _ in range(30):
        world.reconcile()  # Kubernetes does nothing: the second pod never comes
        world.now += timedelta(seconds=1)
        asked |= {
            d["spec"]["replicas"] for d in world.listers.deployments.list(NAMESPACE) if d["metadata"]["name"] == MERGED
        }
    status = world.release()["status"]
    assert asked == {1, 2} and MERGED not in world.names(DEPLOYMENTS)
    assert [r["reason"] for r in status["rollout"]["rejected"]] == ["CandidateNotReady"]
    assert kind(world) == "Adapter"


def test_a_base_that_nobody_needs_goes_and_comes_back_before_a_rollback(world: Scaling) -> None:
    settled(world)
    world.run(lambda: replicas(world) == 0)
    world.run(lambda: world.release()["status"]["base"]["state"] == "ScaledDown")
    assert kind(world) == "Artifact"
    edit(world, {"stage": "Experimental"})
    world.run(lambda: replicas(world) == 2)
    assert kind(world) == "Artifact"  # what serves goes on until the adapter is proven
    world.run(lambda: kind(world) == "Adapter")
    assert "base" not in world.release()["status"]
    up = world.ready_pods({"app": "tiny-llama"})
    assert all(world.engines[p["metadata"]["name"]].listed.get("support-bot") == adapter_path(D1) for p in up[:1])


def test_a_service_on_the_base_keeps_it_up_and_one_that_comes_brings_it_back(world: Scaling) -> None:
    settled(world)
    world.run(lambda: replicas(world) == 0)
    world.api.create(SERVICES.path(NAMESPACE), {"metadata": {"name": "x"}, "spec": {"selector": {"app": "tiny-llama"}}})
    world.run(lambda: replicas(world) == 2)
    world.run(lambda: "base" not in world.release()["status"])
    for _ in range(5):
        world.reconcile()
    assert replicas(world) == 2


def test_before_the_rollback_window_is_over_it_stays(world: Scaling) -> None:
    settled(world)
    world.now -= timedelta(minutes=30)
    for _ in range(5):
        world.reconcile()
    assert replicas(world) == 2


def test_a_release_that_is_deleted_gives_its_base_back(world: Scaling) -> None:
    settled(world)
    world.run(lambda: replicas(world) == 0)
    world.run(lambda: world.release()["status"]["base"]["state"] == "ScaledDown")
    assert world.release()["metadata"]["finalizers"] == [FINALIZER]
    when = world.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    with world.api.etcd.changed:
        place = next(p for p in world.api.etcd.objects if p.plural == "adapterreleases")
        world.api.etcd.objects[place]["metadata"]["deletionTimestamp"] = when
    for _ in range(20):
        try:
            world.release()
        except Exception:  # it is gone
            break
        world.reconcile()
        world.settle()
        world.now += timedelta(seconds=1)
    assert replicas(world) == 2
    with pytest.raises(NotFound):
        world.client.get(RELEASES.path(*KEY))


def test_an_old_picture_of_the_base_does_not_make_it_forgotten_at_zero(
    world: Scaling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch of Deployments stands still from before the base went, and a person wants the adapter back."""
    settled(world)
    old = world.listers.deployments.get(NAMESPACE, "tiny-llama")
    world.run(lambda: replicas(world) == 0)
    with monkeypatch.context() as patched:
        patched.setattr(world.listers.deployments, "get", lambda *_: old)
        edit(world, {"stage": "Experimental"})
        for _ in range(5):
            world.reconcile()
    world.run(lambda: kind(world) == "Adapter")
    assert replicas(world) == 2
