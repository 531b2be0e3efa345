"""A canary from the HTTPRoute as its owner wrote it to the same again, against a fake API server and fake vLLMs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from controller.reconcile.objects.httproute import HTTP_ROUTES
from tests.builders import A1, D1, ReleaseBuilder, release
from tests.reconcile.cluster import NAMESPACE, Cluster, cluster
from tests.reconcile.test_httproute import backend, http_route, parent, rule
from tests.reconcile.test_life import build_summary, evaluate_summary, serve_adapter, until_job

pytestmark = pytest.mark.slow

CANARY = {
    "httpRoute": "bot",
    "steps": [{"weight": 10, "pause": "2s"}, {"weight": 60, "pause": "2s"}],
}


@pytest.fixture
def world() -> Iterator[Cluster]:
    with cluster() as made:
        until_validated(made)
        yield made


def until_validated(world: Cluster) -> None:
    """The release of `canary` with its owner's HTTPRoute, whose artifact has just passed."""
    world.add_base()
    written = http_route(rule(backend("support-bot")))
    world.api.create(HTTP_ROUTES.path(NAMESPACE), written | {"metadata": {"name": "bot", "namespace": NAMESPACE}})
    world.apply(canary())
    serve_adapter(world)
    world.finish_job(until_job(world, "build"), build_summary())
    world.finish_job(until_job(world, "validate"), evaluate_summary())


def canary() -> ReleaseBuilder:
    observe = {"duration": "5s", "interval": "1s"}
    return release().stable().spec(rollout={"strategy": "Canary", "canary": CANARY, "observe": observe})


def weights(world: Cluster) -> list[tuple[str, int]]:
    refs = world.get(HTTP_ROUTES, "bot")["spec"]["rules"][0]["backendRefs"]
    return [(ref["name"], ref["weight"]) for ref in refs]


def gateway_accepts(world: Cluster) -> None:
    generation = world.get(HTTP_ROUTES, "bot")["metadata"]["generation"]
    world.api.patch(HTTP_ROUTES.path(NAMESPACE, "bot", "status"), {"status": {"parents": [parent(generation)]}})


def until_weights(world: Cluster, *wanted: tuple[str, int]) -> None:
    def so() -> bool:
        gateway_accepts(world)
        for engine in world.engines.values():
            engine.serve(5)
        return weights(world) == list(wanted)

    world.run(so, passes=120)


def test_weights_rise_with_answered_requests_and_the_http_route_is_given_back(world: Cluster) -> None:
    until_weights(world, ("support-bot", 90), ("support-bot-preview", 10))
    served: Any = world.serving()
    assert served["backend"] == {"kind": "Adapter", "id": D1}
    until_weights(world, ("support-bot", 40), ("support-bot-preview", 60))
    until_weights(world, ("support-bot", 1))
    served = world.serving()
    assert served["backend"] == {"kind": "Artifact", "id": A1}
    world.run(lambda: "canary" not in world.release()["status"]["rollout"])


def test_a_gateway_that_accepts_nothing_is_asked_once_a_second(world: Cluster) -> None:
    """Or for hours, as long as its rule has other backends, every server would be asked all the time."""
    world.run(lambda: world.step() == "Shifting")
    world.run(lambda: weights(world) == [("support-bot", 90), ("support-bot-preview", 10)])
    assert {world.reconcile().requeue_after for _ in range(5)} == {1.0}
