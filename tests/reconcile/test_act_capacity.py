"""Candidates and bases are scaled: repeated, raced, refused."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from controller.api.status import ScaledBase, Serving
from controller.domain.actions import EnsureMerged, ScaleBase, ScaleMerged
from controller.errors import Conflict, LeadershipLost
from controller.reconcile.act_capacity import BaseNeeded, CapacityActions, StaleDeployment
from controller.reconcile.caches import RELEASES
from controller.reconcile.turn import Fence, StaleRelease
from controller.runtime.client import KubeClient
from controller.runtime.resources import DEPLOYMENTS, PODS, SERVICES
from tests.builders import A1, T0, ReleaseBuilder, artifact, release
from tests.fakes.connection import Connection
from tests.reconcile.cluster import KEY, NAMESPACE, Cluster, cluster
from tests.reconcile.deployments import deployment
from tests.reconcile.test_real_apiserver import actions_of, client, namespace, turn_of

pytestmark = pytest.mark.slow

__all__ = ["client", "namespace"]  # fixtures

Json = dict[str, Any]

MERGE = EnsureMerged("why", A1, f"/store/artifacts/{'a' * 64}")
NAME = f"support-bot-merged-{'a' * 12}"
DOWN = ScaleBase("why", "tiny-llama", 2, 0)
UP = ScaleBase("why", "tiny-llama", 0, 2)


def settled(name: str = "support-bot") -> ReleaseBuilder:
    serving = Serving(backend=artifact(A1), revision=3, since=T0, settle_at=T0)
    made = release(name).stable().spec(rollout={"settle": {"scaleBaseTo": 0}, "previewReplicas": 1})
    return made.status(serving=serving, observed_generation=1)


@pytest.fixture
def world() -> Iterator[Cluster]:
    with cluster() as made:
        made.add_base(2)
        made.apply(settled())
        made.now = T0 + timedelta(hours=1)
        yield made


def capacity(world: Cluster) -> CapacityActions:
    return CapacityActions(world.client, Fence(world.client, lambda: world.leading), lambda: world.now)


def replicas(world: Cluster, name: str = "tiny-llama") -> int:
    return int(world.get(DEPLOYMENTS, name)["spec"]["replicas"])


def writes(world: Cluster) -> int:
    return world.api.count("PATCH", path="/scale")


def test_a_base_that_nobody_needs_goes_to_zero_and_comes_back(world: Cluster) -> None:
    template = world.get(DEPLOYMENTS, "tiny-llama")["spec"]["template"]
    for action, has in ((DOWN, 0), (DOWN, 0), (UP, 2), (UP, 2)):
        capacity(world).scale_base(action, world.turn())
        assert replicas(world) == has
    assert writes(world) == 2
    assert world.get(DEPLOYMENTS, "tiny-llama")["spec"]["template"] == template


@pytest.mark.parametrize(("action", "has"), [(DOWN, 5), (UP, 1)])
def test_a_number_that_somebody_set_meanwhile_stays(world: Cluster, action: ScaleBase, has: int) -> None:
    world.api.patch(DEPLOYMENTS.path(NAMESPACE, "tiny-llama"), {"spec": {"replicas": has}})
    capacity(world).scale_base(action, world.turn())
    assert (replicas(world), writes(world)) == (has, 0)


def test_a_number_that_changes_at_the_last_moment_stays(world: Cluster) -> None:
    def somebody_else_first(connection: Connection) -> None:
        world.api.patch(DEPLOYMENTS.path(NAMESPACE, "tiny-llama"), {"spec": {"replicas": 5}})
        connection.answer_truly()

    world.api.inject(somebody_else_first, "PATCH", "/scale")
    capacity(world).scale_base(DOWN, world.turn())
    assert replicas(world) == 5


def test_a_status_that_changes_at_the_last_moment_does_not_matter(world: Cluster) -> None:
    def busy(connection: Connection) -> None:
        path = DEPLOYMENTS.path(NAMESPACE, "tiny-llama", "status")
        world.api.patch(path, {"status": {"observedGeneration": world.api.etcd.revision}})
        connection.answer_truly()

    world.api.inject(busy, "PATCH", "/scale", times=2)
    capacity(world).scale_base(DOWN, world.turn())
    assert replicas(world) == 0
    world.api.inject(busy, "PATCH", "/scale")
    with pytest.raises(Conflict):  # the next look tries again
        capacity(world).scale_base(UP, world.turn())


def service(world: Cluster, selector: dict[str, str]) -> None:
    made = {"metadata": {"name": "direct"}, "spec": {"selector": selector}}
    world.api.create(SERVICES.path(NAMESPACE), made)


@pytest.mark.parametrize("selector", [{"app": "tiny-llama"}, {"team": "ml"}, {"put-on": "later"}])
def test_a_service_that_leads_to_its_pods_keeps_it_up(world: Cluster, selector: dict[str, str]) -> None:
    world.api.patch(PODS.path(NAMESPACE, "pod-1"), {"metadata": {"labels": {"put-on": "later"}}})
    turn = world.turn()
    service(world, selector)  # after the look
    with pytest.raises(BaseNeeded, match="tiny-llama is not scaled to zero: Service direct selects its pods"):
        capacity(world).scale_base(DOWN, turn)
    assert replicas(world) == 2


def test_a_service_that_leads_elsewhere_does_not(world: Cluster) -> None:
    service(world, {"app": "else"})
    world.api.create(SERVICES.path(NAMESPACE), {"metadata": {"name": "external"}, "spec": {"externalName": "x.org"}})
    capacity(world).scale_base(DOWN, world.turn())
    assert replicas(world) == 0


def add(world: Cluster, builder: ReleaseBuilder) -> None:
    wire = builder.wire | ({"status": builder.memory.to_wire()} if builder.memory.serving else {})
    wire["metadata"] = {**wire["metadata"], "resourceVersion": ""}
    world.api.create(RELEASES.path(NAMESPACE), wire)


def test_another_release_that_came_a_moment_ago_keeps_it_up(world: Cluster) -> None:
    turn = world.turn()
    add(world, release("other"))
    with pytest.raises(BaseNeeded, match=r"release other: rollout\.settle\.scaleBaseTo is not set"):
        capacity(world).scale_base(DOWN, turn)
    assert replicas(world) == 2


def test_a_base_that_a_person_scaled_up_is_not_taken_away_for_another_release(world: Cluster) -> None:
    turn = world.turn()
    add(world, settled("twin").status(base=ScaledBase(state="Overruled", replicas=2, revision=3)))
    with pytest.raises(BaseNeeded, match="release twin had it at zero, and somebody has scaled it up again"):
        capacity(world).scale_base(DOWN, turn)
    assert replicas(world) == 2


def test_releases_on_other_bases_do_not(world: Cluster) -> None:
    add(world, release("other").spec(baseRef={"name": "another"}))
    add(world, settled("twin"))
    capacity(world).scale_base(DOWN, world.turn())
    assert replicas(world) == 0


def test_a_need_is_met_without_asking_who_else_has_one(world: Cluster) -> None:
    capacity(world).scale_base(DOWN, world.turn())
    add(world, release("other"))
    capacity(world).scale_base(UP, world.turn())
    assert replicas(world) == 2


def test_who_looked_at_an_older_release_or_leads_no_more_takes_nothing_away(world: Cluster) -> None:
    turn = world.turn()
    world.api.patch(RELEASES.path(*KEY), {"metadata": {"annotations": {"somebody": "else"}}})
    with pytest.raises(StaleRelease):
        capacity(world).scale_base(DOWN, turn)
    world.leading = False
    with pytest.raises(LeadershipLost):
        capacity(world).scale_base(DOWN, world.turn())
    assert replicas(world) == 2


# -- candidates


def test_a_candidate_is_made_with_the_previews_replicas_and_scaled_up_once(world: Cluster) -> None:
    world.api.patch(
        RELEASES.path(*KEY, subresource="status"),
        {"status": {"serving": None, "artifact": {"id": A1, "inputs": "i", "path": "/p", "adapterDigest": "x"}}},
    )
    world.actor(MERGE, world.turn())
    assert replicas(world, NAME) == 1
    (merged,) = world.observe().merged
    for _ in range(2):
        capacity(world).scale_merged(ScaleMerged("why", merged.name, merged.uid, 3), world.turn())
    assert (replicas(world, NAME), writes(world)) == (3, 1)


def test_a_merged_deployment_is_never_scaled_down(world: Cluster) -> None:
    world.actor(MERGE, world.turn())
    (merged,) = world.observe().merged
    capacity(world).scale_merged(ScaleMerged("why", merged.name, merged.uid, 1), world.turn())
    assert (replicas(world, NAME), writes(world)) == (2, 0)


def test_one_that_was_made_again_under_its_name_is_not_scaled(world: Cluster) -> None:
    world.actor(MERGE, world.turn())
    with pytest.raises(StaleDeployment):
        capacity(world).scale_merged(ScaleMerged("why", NAME, "another uid", 3), world.turn())
    assert replicas(world, NAME) == 2


@pytest.mark.apiserver
def test_a_real_api_server_scales_and_holds_uid_and_version_against_it(client: KubeClient, namespace: str) -> None:
    base = deployment()
    base["metadata"] = {"name": "tiny-llama"}
    client.create(DEPLOYMENTS.path(namespace), base)
    turn = turn_of(client, namespace, deployment())
    actions_of(client).ensure_merged(MERGE, turn)
    acting = CapacityActions(client, Fence(client, lambda: True))
    merged = client.get(DEPLOYMENTS.path(namespace, NAME))
    with pytest.raises(StaleDeployment):
        acting.scale_merged(ScaleMerged("why", NAME, "another uid", 3), turn)
    acting.scale_merged(ScaleMerged("why", NAME, merged["metadata"]["uid"], 3), turn)
    assert client.get(DEPLOYMENTS.path(namespace, NAME))["spec"]["replicas"] == 3
    with pytest.raises(BaseNeeded, match="scaleBaseTo is not set"):
        acting.scale_base(DOWN, turn)
    path = DEPLOYMENTS.path(namespace, "tiny-llama")
    client.merge_patch(path, {"spec": {"replicas": 0}})
    acting.scale_base(DOWN, turn)
    assert client.get(path)["spec"]["replicas"] == 0
    acting.scale_base(UP, turn)
    assert client.get(path)["spec"]["replicas"] == 2
