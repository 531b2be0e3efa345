"""Where merged pods run, and how many of them evictions may take at once."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.domain.actions import DeleteMerged, EnsureMerged, SwitchRoute
from controller.errors import AdapterReleaseError, LeadershipLost
from controller.reconcile.objects.budget import BUDGETS
from controller.reconcile.objects.placement import selects
from controller.runtime.resources import DEPLOYMENTS, SERVICES
from tests.builders import A1, artifact, release
from tests.fakes import faults
from tests.fakes.selectors import selects as selected_by_text
from tests.reconcile.cluster import NAMESPACE, Cluster, cluster
from tests.reconcile.deployments import deployment
from tests.reconcile.test_objects import merged_of, seen

pytestmark = pytest.mark.slow

Json = dict[str, Any]

OWN = {"adapterrelease.dev/release": "support-bot", "adapterrelease.dev/artifact": "a" * 12}
OF_BASE: Json = {"matchLabels": {"app": "tiny-llama"}}
HOST = "kubernetes.io/hostname"
MERGE = EnsureMerged("why", A1, f"/store/artifacts/{'a' * 64}")
NAME = f"support-bot-merged-{'a' * 12}"


def pod_of(**given: Any) -> Json:
    made: Json = merged_of(seen(made=deployment(**given)))["spec"]["template"]
    assert OWN.items() <= made["metadata"]["labels"].items()
    pod: Json = made["spec"]
    return pod


def spread(selector: Json | None) -> Json:
    made = {"maxSkew": 1, "topologyKey": HOST, "whenUnsatisfiable": "DoNotSchedule", "matchLabelKeys": ["x"]}
    return made if selector is None else made | {"labelSelector": selector}


def test_a_spread_of_the_bases_pods_becomes_one_of_the_merged_pods() -> None:
    (found,) = pod_of(topologySpreadConstraints=[spread(OF_BASE)])["topologySpreadConstraints"]
    assert found == spread({"matchLabels": OWN})


@pytest.mark.parametrize(
    "selector",
    [
        None,
        {},
        {"matchLabels": {"app": "redis"}},
        {"matchLabels": {"app": "tiny-llama", "tier": "gold"}},
        {"matchLabels": {"app.kubernetes.io/component": "merged"}},
        {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["tiny-llama"]}]},
        {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]},
    ],
)
def test_a_spread_of_other_pods_stays_as_it_is(selector: Json | None) -> None:
    given = spread(selector)
    assert pod_of(topologySpreadConstraints=[given])["topologySpreadConstraints"] == [given]


@pytest.mark.parametrize(
    "expression",
    [
        {"key": "app", "operator": "In", "values": ["x", "tiny-llama"]},
        {"key": "team", "operator": "Exists"},
    ],
)
def test_the_bases_pods_are_known_by_expressions_too(expression: Json) -> None:
    (found,) = pod_of(topologySpreadConstraints=[spread({"matchExpressions": [expression]})])[
        "topologySpreadConstraints"
    ]
    assert found["labelSelector"] == {"matchLabels": OWN}


def test_affinity_among_the_bases_pods_becomes_affinity_among_merged_ones() -> None:
    node = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": []}]}}
    cache = {"labelSelector": {"matchLabels": {"app": "redis"}}, "topologyKey": "zone"}
    elsewhere = {"labelSelector": OF_BASE, "topologyKey": HOST, "namespaces": ["other"]}
    given = {
        "nodeAffinity": node,
        "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [cache, elsewhere]},
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": OF_BASE, "topologyKey": HOST}],
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 3, "podAffinityTerm": {"labelSelector": OF_BASE, "topologyKey": "zone"}}
            ],
        },
    }
    before = copy.deepcopy(given)
    own = {"matchLabels": OWN}
    assert pod_of(affinity=given)["affinity"] == {
        "nodeAffinity": node,
        "podAffinity": given["podAffinity"],
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": own, "topologyKey": HOST}],
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 3, "podAffinityTerm": {"labelSelector": own, "topologyKey": "zone"}}
            ],
        },
    }
    assert given == before


def test_a_base_without_any_gets_none() -> None:
    assert not {"affinity", "topologySpreadConstraints"} & pod_of().keys()


LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"))
EQUALS = st.tuples(st.sampled_from("abc"), st.sampled_from(["In", "NotIn"]), st.sampled_from("xy"))


@given(LABELS, LABELS, st.lists(EQUALS, max_size=2))
def test_a_selector_selects_as_one_written_as_text_does(wanted: Json, labels: Json, more: list[Any]) -> None:
    """Against the fake API server's own reading of `a=x,b!=y`."""
    expressions = [{"key": key, "operator": operator, "values": [value]} for key, operator, value in more]
    written = [f"{k}={v}" for k, v in wanted.items()]
    written += [f"{key}{'=' if operator == 'In' else '!='}{value}" for key, operator, value in more]
    by_text = selected_by_text({"labelSelector": ",".join(written)}, {"metadata": {"labels": labels}})
    assert selects({"matchLabels": wanted, "matchExpressions": expressions}, labels) == by_text


# -- evictions


@pytest.fixture
def world() -> Iterator[Cluster]:
    with cluster() as made:
        made.add_base()
        made.apply(release().stable())
        yield made


@pytest.mark.parametrize("replicas", [1, 3])
def test_evictions_take_one_merged_pod_after_another_and_never_hold_up_a_node(replicas: int) -> None:
    """minAvailable would: with one replica no eviction would ever be allowed."""
    with cluster() as world:
        world.add_base()
        world.apply(release().stable().spec(rollout={"replicas": replicas}))
        world.actor(MERGE, world.turn())
        made, found = world.get(DEPLOYMENTS, NAME), world.get(BUDGETS, NAME)
    assert found["spec"] == {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": OWN},
    }
    (owner,) = found["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Deployment", made["metadata"]["uid"])
    assert made["spec"]["selector"]["matchLabels"] == OWN


def test_a_budget_that_its_maker_did_not_live_to_make_is_there_before_the_traffic(world: Cluster) -> None:
    world.actor(MERGE, world.turn())
    world.api.delete(BUDGETS.path(NAMESPACE, NAME))
    world.settle()
    world.actor(SwitchRoute("why", artifact(A1)), world.turn())
    assert NAME in world.names(BUDGETS)
    assert "adapterrelease.dev/artifact" in world.get(SERVICES, "support-bot")["spec"]["selector"]


def test_traffic_does_not_wait_for_a_budget_that_nobody_may_make(
    world: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    world.api.inject(faults.status(403, "Forbidden"), "POST", "poddisruptionbudgets")
    with pytest.raises(AdapterReleaseError):
        world.actor(MERGE, world.turn())
    world.settle()
    with caplog.at_level(logging.WARNING):
        world.actor(SwitchRoute("why", artifact(A1)), world.turn())
    assert "adapterrelease.dev/artifact" in world.get(SERVICES, "support-bot")["spec"]["selector"]
    assert f"no PodDisruptionBudget for {NAME}" in caplog.text


def test_who_does_not_lead_any_more_goes_no_further(world: Cluster) -> None:
    world.actor(MERGE, world.turn())
    world.api.delete(BUDGETS.path(NAMESPACE, NAME))
    world.settle()
    turn = world.turn()
    world.leading = False
    with pytest.raises(LeadershipLost):
        world.actor(SwitchRoute("why", artifact(A1)), turn)
    assert "support-bot" not in world.names(SERVICES)


def test_a_budget_that_cannot_be_read_does_not_stop_a_way_back(world: Cluster) -> None:
    world.actor(MERGE, world.turn())
    world.settle()
    world.api.inject(faults.status(500, "InternalError"), "GET", "poddisruptionbudgets")
    world.actor(SwitchRoute("why", artifact(A1)), world.turn())
    assert "support-bot" in world.names(SERVICES)


def test_it_is_made_again_with_a_deployment_that_is_made_again(world: Cluster) -> None:
    world.actor(MERGE, world.turn())
    (merged,) = world.observe().merged
    world.actor(DeleteMerged("why", A1, merged.name, merged.uid), world.turn())
    with pytest.raises(AdapterReleaseError, match="belongs to somebody else, or is just being deleted"):
        world.actor(MERGE, world.turn())  # the garbage collector has not come yet
    world.api.delete(BUDGETS.path(NAMESPACE, NAME))
    world.actor(MERGE, world.turn())
    (owner,) = world.get(BUDGETS, NAME)["metadata"]["ownerReferences"]
    assert owner["uid"] == world.get(DEPLOYMENTS, NAME)["metadata"]["uid"]
