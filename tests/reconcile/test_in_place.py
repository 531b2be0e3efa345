"""A base with the engine plugin, from end to end against fake servers: flips, memory, doors, tokens, keep-alive."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from controller.domain.actions import (
    ClearAlias,
    EnsureMerged,
    FlipAlias,
    ProbeAndLabel,
    StageAdapter,
    SwitchRoute,
    TellRouted,
)
from controller.engine.errors import EngineRefused, EngineTroubled
from controller.errors import AdapterReleaseError, LeadershipLost
from controller.reconcile.act_pods import StillRouted
from controller.reconcile.caches import RELEASES
from controller.reconcile.engines import SECRETS
from controller.reconcile.turn import StalePod, StaleRelease
from controller.runtime.resources import CONFIGMAPS, PODS, SERVICES
from tests.builders import A1, D1, D2, artifact, release
from tests.fakes.plugin import FakePlugin
from tests.fakes.vllm import NAN
from tests.reconcile.cluster import KEY, NAMESPACE, Cluster, adapter_path, cluster, import_summary
from tests.reconcile.test_life import job_names, until_job

pytestmark = pytest.mark.slow

LOADED, ROUTED = "loaded.adapterrelease.dev/support-bot", "routed.adapterrelease.dev/support-bot"
MEMORY = "engine.adapterrelease.dev/support-bot"
OLD, NEW = f"support-bot@{'1' * 12}", f"support-bot@{'2' * 12}"
FLIP = FlipAlias("why", "pod-0", NEW, D2, adapter_path(D2), "22222222", "v2")


@pytest.fixture
def world() -> Iterator[Cluster]:
    """The token is there already: what makes it is tested elsewhere."""
    with cluster() as made:
        give_token(made, "t0ken")
        made.disk[adapter_path(D2)] = None
        yield made


def give_token(world: Cluster, token: str, previous: str = "") -> None:
    data = {"token": token, "previous-token": previous}
    secret = {"metadata": {"name": "adapterrelease-engine"}, "data": {k: _encoded(v) for k, v in data.items() if v}}
    world.api.create(SECRETS.path(NAMESPACE), secret)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def serve(world: Cluster, pods: int = 1) -> None:
    world.add_base(pods, plugin=True)
    world.apply(release())
    world.finish_job(until_job(world, "import"), import_summary())
    world.run(lambda: world.serving() is not None)


def update(world: Cluster) -> None:
    world.api.patch(RELEASES.path(*KEY), {"spec": {"adapters": release().version("v2").wire["spec"]["adapters"]}})
    world.run(lambda: len(job_names(world, "import")) == 2)
    world.finish_job(next(n for n in reversed(job_names(world, "import")) if not _ended(world, n)), import_summary(D2))


def _ended(world: Cluster, job: str) -> bool:
    return any(p.startswith(job) for p in world.names(PODS))


def plugin(world: Cluster, pod: str = "pod-0") -> FakePlugin:
    found = world.engines[pod].plugin
    assert found is not None
    return found


def meta(world: Cluster, pod: str = "pod-0") -> dict[str, Any]:
    found: dict[str, Any] = world.get(PODS, pod)["metadata"]
    return found


def memory(world: Cluster, pod: str = "pod-0") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(meta(world, pod)["annotations"][MEMORY])
    return found


class InTheWay(FakePlugin):
    """While the alias flips, somebody else writes to the pod."""

    def __init__(self, world: Cluster, known: FakePlugin) -> None:
        super().__init__(version=known.version)
        self.models, self._world = known.models, world

    def answer(self, method: str, path: str, body: Any, listed: Mapping[str, str]) -> tuple[int, Any] | None:
        if method == "PUT":
            patch = {"metadata": {"annotations": {"somebody": "else"}}}
            self._world.api.patch(PODS.path(NAMESPACE, "pod-0"), patch)
        return super().answer(method, path, body, listed)


def test_the_first_load_ends_with_an_alias_two_labels_and_a_memory(world: Cluster) -> None:
    serve(world)
    assert world.engines["pod-0"].listed == {OLD: adapter_path(D1)}
    assert plugin(world).engine_name("support-bot") == OLD
    assert meta(world)["labels"] == {"app": "tiny-llama", LOADED: "11111111", ROUTED: "true"}
    assert memory(world) == {
        "name": "support-bot",
        "target": OLD,
        "path": adapter_path(D1),
        "release": "llm/support-bot",
        "version": "v1",
        "backend": f"adapter-{'1' * 12}",
    }
    assert world.get(SERVICES, "support-bot")["spec"]["selector"] == {"app": "tiny-llama", ROUTED: "true"}


def test_an_update_writes_nothing_to_the_service(world: Cluster) -> None:
    serve(world, pods=2)
    before = world.get(SERVICES, "support-bot")["metadata"]["resourceVersion"]
    update(world)
    world.run(lambda: (world.serving() or {})["backend"]["id"] == D2)
    assert world.get(SERVICES, "support-bot")["metadata"]["resourceVersion"] == before
    for pod in ("pod-0", "pod-1"):
        assert plugin(world, pod).engine_name("support-bot") == NEW
        assert meta(world, pod)["labels"][LOADED] == "22222222"
        assert memory(world, pod)["version"] == "v2"
    world.run(lambda: all(world.engines[p].listed == {NEW: adapter_path(D2)} for p in ("pod-0", "pod-1")))


def test_a_restart_without_the_controller_brings_back_what_served(world: Cluster) -> None:
    serve(world)
    update(world)
    world.run(lambda: (world.serving() or {})["backend"]["id"] == D2)
    world.restart("pod-0")
    assert world.engines["pod-0"].listed == {NEW: adapter_path(D2)}
    assert plugin(world).engine_name("support-bot") == NEW


def test_a_flip_that_was_not_written_down_is_written_with_the_next_probe(world: Cluster) -> None:
    serve(world)
    world.engines["pod-0"].listed[NEW] = adapter_path(D2)
    world.engines["pod-0"].plugin = InTheWay(world, plugin(world))
    world.actor(FLIP, world.turn())
    assert plugin(world).engine_name("support-bot") == NEW
    assert memory(world)["target"] == OLD
    world.actor(ProbeAndLabel("why", "pod-0", "support-bot", D2, adapter_path(D2), "22222222", "v2"), world.turn())
    assert memory(world)["target"] == NEW
    assert meta(world)["labels"][LOADED] == "22222222"


def test_a_flip_to_what_is_not_loaded_is_refused_and_changes_nothing(world: Cluster) -> None:
    serve(world)
    with pytest.raises(EngineTroubled, match=f"not {adapter_path(D2)}"):
        world.actor(FLIP, world.turn())
    assert plugin(world).engine_name("support-bot") == OLD
    assert memory(world)["target"] == OLD


def test_a_flip_may_be_done_twice(world: Cluster) -> None:
    serve(world)
    world.engines["pod-0"].listed[NEW] = adapter_path(D2)
    for _ in range(2):
        world.actor(FLIP, world.turn())
    assert plugin(world).engine_name("support-bot") == NEW


def test_a_flip_is_fenced(world: Cluster) -> None:
    serve(world)
    world.engines["pod-0"].listed[NEW] = adapter_path(D2)
    turn = world.turn()
    world.leading = False
    with pytest.raises(LeadershipLost):
        world.actor(FLIP, turn)
    world.leading = True
    world.api.patch(RELEASES.path(*KEY), {"metadata": {"annotations": {"somebody": "else"}}})
    with pytest.raises(StaleRelease):
        world.actor(FLIP, turn)
    assert plugin(world).engine_name("support-bot") == OLD


def test_a_flip_in_another_container_than_the_one_that_proved_it_is_refused(world: Cluster) -> None:
    serve(world)
    turn = world.turn()
    world.restart("pod-0")
    with pytest.raises(StalePod):
        world.actor(FLIP, turn)


def test_the_name_is_not_taken_from_a_pod_that_may_get_requests(world: Cluster) -> None:
    serve(world)
    with pytest.raises(StillRouted):
        world.actor(ClearAlias("why", "pod-0"), world.turn())
    assert plugin(world).engine_name("support-bot") == OLD


def test_a_deleted_release_leaves_nothing_on_the_server_nor_the_pod(world: Cluster) -> None:
    serve(world)
    world.api.delete(RELEASES.path(*KEY))
    world.run(lambda: not world.names(RELEASES))
    assert world.engines["pod-0"].listed == {}
    assert plugin(world).models == {}
    assert meta(world)["labels"] == {"app": "tiny-llama"}
    assert MEMORY not in meta(world)["annotations"]


def test_a_server_is_told_where_the_route_is(world: Cluster) -> None:
    serve(world)
    world.actor(TellRouted("why", "pod-0", False), world.turn())
    assert plugin(world).models["support-bot"]["routed"] is False
    world.run(lambda: plugin(world).models["support-bot"]["routed"] is True)


def ready_to_switch(world: Cluster) -> SwitchRoute:
    serve(world, pods=2)
    world.actor(EnsureMerged("why", A1, f"/store/artifacts/{'a' * 64}"), world.turn())
    world.settle()
    return SwitchRoute("why", artifact(A1), ("pod-0", "pod-1"))


def test_servers_are_told_that_they_lose_the_route_before_they_lose_it(
    world: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch, turn = ready_to_switch(world), world.turn()

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(world.client, "merge_patch", dies)
    with pytest.raises(KeyboardInterrupt):
        world.actor(switch, turn)
    assert [plugin(world, pod).models["support-bot"]["routed"] for pod in switch.leaving] == [False, False]


def test_a_server_that_gives_no_answer_does_not_keep_the_route(world: Cluster) -> None:
    switch, turn = ready_to_switch(world), world.turn()
    world.engines["pod-0"].fault = "500"
    world.actor(switch, turn)
    assert world.get(SERVICES, "support-bot")["spec"]["selector"] == world.observe().selector_for(artifact(A1))
    assert plugin(world, "pod-1").models["support-bot"]["routed"] is False


def test_while_a_pod_knows_the_token_before_the_last_one_it_is_used(world: Cluster) -> None:
    with cluster() as other:
        give_token(other, "n3w", previous="t0ken")
        serve(other)
        assert other.serving() is not None


def test_a_wrong_token_is_said_and_nothing_is_taken_from_clients(world: Cluster) -> None:
    serve(world)
    plugin(world).tokens = ("another",)
    for _ in range(3):
        world.reconcile()
    status = world.release()["status"]
    said = next(c for c in status["conditions"] if c["type"] == "GapFree")
    assert (said["status"], said["reason"]) == ("Unknown", "EnginePluginNotAsked")
    assert "adapterrelease-engine" in said["message"]
    assert "t0ken" not in json.dumps(status)
    assert meta(world)["labels"][ROUTED] == "true"


def test_the_namespace_gets_what_the_plugin_needs_before_anything_is_loaded() -> None:
    with cluster() as world:
        world.add_base(plugin=True)
        world.apply(release())
        world.run(
            lambda: (
                "adapterrelease-engine" in world.names(CONFIGMAPS) and "adapterrelease-engine" in world.names(SECRETS)
            )
        )
        assert world.engines["pod-0"].count("/v1/load_lora_adapter") == 0


# -- what reviewers found


def test_clients_do_not_get_a_version_that_nobody_has_proven(world: Cluster) -> None:
    """Who loaded it died before its probe."""
    serve(world)
    world.engines["pod-0"].listed[NEW] = adapter_path(D2)
    world.engines["pod-0"].alive = False
    with pytest.raises(EngineTroubled):
        world.actor(FLIP, world.turn())
    assert plugin(world).engine_name("support-bot") == OLD


def test_who_does_not_lead_any_more_unloads_nothing_after_a_failed_probe(world: Cluster) -> None:
    serve(world)
    turn = world.turn()
    world.engines["pod-0"].alive = False
    world.engines["pod-0"].disk[adapter_path(D2)] = NAN
    world.engines["pod-0"].listed[NEW] = adapter_path(D2)
    world.leading = False
    with pytest.raises(AdapterReleaseError):
        world.actor(StageAdapter("why", "pod-0", NEW, D2, adapter_path(D2)), turn)
    assert NEW in world.engines["pod-0"].listed


def test_a_load_that_the_door_refused_is_tried_again(world: Cluster) -> None:
    serve(world)
    turn = world.turn()
    plugin(world).tokens = ("another",)
    with pytest.raises(EngineRefused):
        world.actor(StageAdapter("why", "pod-0", NEW, D2, adapter_path(D2)), turn)
    plugin(world).tokens = ("t0ken",)
    failure = world.observe().base_pods[0].load_failure
    assert failure is None or not failure.permanent


def test_an_update_goes_through_while_the_token_is_changed() -> None:
    with cluster() as world:
        world.disk[adapter_path(D2)] = None
        give_token(world, "n3w", previous="t0ken")
        serve(world)
        update(world)
        world.run(lambda: (world.serving() or {})["backend"]["id"] == D2)


@pytest.mark.parametrize("token", ["first line\nsecond line", "t\u00f6ken"])
def test_a_token_that_fits_no_header_is_not_sent_and_not_said(token: str, caplog: pytest.LogCaptureFixture) -> None:
    with cluster() as world:
        give_token(world, token)
        world.add_base(plugin=True)
        world.apply(release())
        world.finish_job(until_job(world, "import"), import_summary())
        for _ in range(4):
            world.reconcile()
        said = json.dumps(world.release()["status"]) + caplog.text
        assert "first line" not in said
        assert "GapFree" in said
        assert "ken" not in said.replace("token", "").replace("taken", "")
