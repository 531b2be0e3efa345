"""Actions one by one: repeated, raced, refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from controller.api.status import ArtifactStatus, CanaryStatus, RolloutStatus
from controller.domain.actions import (
    AddFinalizer,
    DeleteMerged,
    EnsureJob,
    EnsureMerged,
    LoadAdapter,
    PointPreview,
    ProbeAndLabel,
    RemoveLabel,
    ReplaceAdapter,
    StageAdapter,
    SwitchRoute,
    UnloadAdapter,
)
from controller.domain.snapshot import JobKind
from controller.engine.errors import EngineRefused, EngineTroubled, LoadRejected, NameTaken
from controller.errors import Conflict, Forbidden, LeadershipLost, NotFound, PermanentError
from controller.reconcile.act import carry_out
from controller.reconcile.act_objects import NameInUse, ServiceNameTaken, TargetNotReady
from controller.reconcile.act_pods import NoFreeSlot, StillRouted
from controller.reconcile.caches import RELEASES
from controller.reconcile.engines import ApiKeyNotReadable
from controller.reconcile.status import StatusWriter
from controller.reconcile.turn import StalePod, StaleRelease
from controller.runtime.resources import CONFIGMAPS, DEPLOYMENTS, JOBS, PODS, SERVICES
from tests.builders import A1, A2, D1, D2, ReleaseBuilder, adapter, artifact, release
from tests.fakes.connection import Connection
from tests.reconcile.cluster import KEY, NAMESPACE, Cluster, adapter_path, cluster
from tests.reconcile.deployments import UPDATING, container

pytestmark = pytest.mark.slow

LABEL = "loaded.adapterrelease.dev/support-bot"
UNROUTED = "unrouted.adapterrelease.dev/support-bot"
LOAD = LoadAdapter("why", "pod-0", "support-bot", D1, adapter_path(D1))
PROVE = ProbeAndLabel("why", "pod-0", "support-bot", D1, adapter_path(D1), "11111111")
STAGING = f"support-bot@{'2' * 12}"
STAGE = StageAdapter("why", "pod-0", STAGING, D2, adapter_path(D2))
REPLACE = ReplaceAdapter("why", "pod-0", "support-bot", D2, adapter_path(D2), adapter_path(D1), STAGING, "22222222")
MERGE = EnsureMerged("why", A1, f"/store/artifacts/{'a' * 64}")


@pytest.fixture
def world() -> Iterator[Cluster]:
    with cluster() as made:
        made.add_base()
        made.disk[adapter_path(D2)] = None
        made.apply(release())
        yield made


def labels(world: Cluster) -> dict[str, str]:
    found: dict[str, str] = world.get(PODS, "pod-0")["metadata"]["labels"]
    return found


def notes_on(world: Cluster) -> dict[str, str]:
    return world.get(PODS, "pod-0")["metadata"].get("annotations") or {}


def touch_release(world: Cluster) -> None:
    world.api.patch(RELEASES.path(*KEY), {"metadata": {"annotations": {"somebody": "else"}}})


# -- base pods


def test_a_load_is_done_once_however_often_it_is_asked_for(world: Cluster) -> None:
    for _ in range(3):
        world.actor(LOAD, world.turn())
    assert world.engines["pod-0"].count("/v1/load_lora_adapter") == 1


def test_a_server_without_a_free_slot_is_not_asked_to_load(world: Cluster) -> None:
    engine = world.engines["pod-0"]
    engine.listed = {f"other-{n}": f"/store/adapters/x/{n}" for n in range(8)}
    with pytest.raises(NoFreeSlot, match=r"holds 8 adapters of 8 \(--max-cpu-loras\)"):
        world.actor(LOAD, world.turn())
    assert engine.count("/v1/load_lora_adapter") == 0


def test_a_name_that_somebody_else_has_loaded_is_left_alone(world: Cluster) -> None:
    world.engines["pod-0"].listed = {"support-bot": "/elsewhere"}
    with pytest.raises(NameTaken):
        world.actor(LOAD, world.turn())
    assert world.engines["pod-0"].listed == {"support-bot": "/elsewhere"}


def test_a_refusal_is_remembered_for_this_container_only(world: Cluster) -> None:
    world.disk[adapter_path(D1)] = "rank 32 is greater than 16"
    with pytest.raises(LoadRejected):
        world.actor(LOAD, world.turn())
    failure = world.observe().base_pods[0].load_failure
    assert failure is not None and failure.permanent and failure.digest == D1 and "rank 32" in failure.message
    world.restart("pod-0")
    assert world.observe().base_pods[0].load_failure is None


def test_a_name_that_is_still_taken_by_another_version_is_no_refusal_of_this_one(world: Cluster) -> None:
    """vLLM ended a load after the controller had given it up; the version on the pod is not the wanted one any more."""
    turn = world.turn()
    world.actor(LOAD, world.turn())
    with pytest.raises(NameTaken):
        world.actor(LoadAdapter("why", "pod-0", "support-bot", D2, adapter_path(D2)), turn)
    failure = world.observe().base_pods[0].load_failure
    assert failure is not None and failure.digest == D2 and not failure.permanent


def test_an_api_key_that_cannot_be_read_is_no_refusal_by_vllm(world: Cluster) -> None:
    env = [UPDATING, {"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"name": "vllm", "key": "key"}}}]
    world.change_base(env=env)
    with pytest.raises(ApiKeyNotReadable):
        world.actor(LOAD, world.turn())
    assert world.observe().base_pods[0].load_failure is None


def test_a_load_that_goes_well_forgets_the_failure(world: Cluster) -> None:
    world.engines["pod-0"].fault = "500"
    with pytest.raises(EngineTroubled):
        world.actor(LOAD, world.turn())
    world.engines["pod-0"].fault = None
    world.actor(LOAD, world.turn())
    assert world.observe().base_pods[0].load_failure is None


def test_a_version_that_loads_does_not_make_another_forgotten_that_was_refused(world: Cluster) -> None:
    world.disk[adapter_path(D2)] = "rank 32 is greater than 16"
    with pytest.raises(LoadRejected):
        world.actor(LoadAdapter("why", "pod-0", "support-bot", D2, adapter_path(D2)), world.turn())
    world.actor(LOAD, world.turn())
    world.actor(PROVE, world.turn())
    failure = world.observe().base_pods[0].load_failure
    assert failure is not None and failure.digest == D2


def test_a_server_that_says_200_and_lists_nothing_has_not_loaded(world: Cluster) -> None:
    world.engines["pod-0"].fault = "lazy"
    with pytest.raises(EngineTroubled, match="lists support-bot with root None"):
        world.actor(LOAD, world.turn())


def test_a_pod_is_labelled_only_after_it_answered(world: Cluster) -> None:
    with pytest.raises(EngineTroubled):
        world.actor(PROVE, world.turn())
    assert LABEL not in labels(world)
    world.actor(LOAD, world.turn())
    world.actor(PROVE, world.turn())
    assert labels(world)[LABEL] == "11111111"
    assert world.engines["pod-0"].count("/v1/completions") == 1


def test_a_container_that_restarts_before_the_label_gets_none(world: Cluster) -> None:
    world.actor(LOAD, world.turn())
    turn = world.turn()
    world.restart("pod-0")
    with pytest.raises(StalePod):
        world.actor(PROVE, turn)
    assert LABEL not in labels(world)


def test_a_pod_that_changes_during_the_probe_gets_no_label(world: Cluster) -> None:
    world.actor(LOAD, world.turn())
    engine, asked = world.engines["pod-0"], world.engines["pod-0"].answer

    def answer(method: str, path: str, body: Any) -> tuple[int, Any]:
        if path == "/v1/completions":
            world.api.patch(PODS.path(NAMESPACE, "pod-0", "status"), {"status": {"restarted": "now"}})
        return asked(method, path, body)

    engine.answer = answer  # type: ignore[method-assign]
    with pytest.raises(Conflict):
        world.actor(PROVE, world.turn())
    assert LABEL not in labels(world)


def test_taking_a_pod_out_of_the_route_says_when_and_labelling_forgets_it(world: Cluster) -> None:
    world.actor(LOAD, world.turn())
    world.actor(PROVE, world.turn())
    world.actor(RemoveLabel("why", "pod-0"), world.turn())
    assert LABEL not in labels(world)
    assert notes_on(world) == {UNROUTED: "2026-01-01T00:00:00Z"}
    assert world.observe().base_pods[0].unrouted_at == world.now
    world.actor(PROVE, world.turn())
    assert notes_on(world) == {}


def test_a_pod_of_the_same_name_but_another_one_is_not_touched(world: Cluster) -> None:
    turn = world.turn()
    pod = world.get(PODS, "pod-0")
    world.api.delete(PODS.path(NAMESPACE, "pod-0"))
    fresh = {"metadata": {"name": "pod-0", "labels": {LABEL: "x"}}, "status": pod["status"]}
    world.api.create(PODS.path(NAMESPACE), fresh)
    with pytest.raises(Conflict):
        world.actor(RemoveLabel("why", "pod-0"), turn)
    assert labels(world) == {LABEL: "x"}


def test_what_is_routed_is_not_unloaded(world: Cluster) -> None:
    world.actor(LOAD, world.turn())
    world.actor(PROVE, world.turn())
    with pytest.raises(StillRouted):
        world.actor(UnloadAdapter("why", "pod-0", "support-bot"), world.turn())
    assert "support-bot" in world.engines["pod-0"].listed


def test_what_left_the_route_a_moment_ago_is_not_unloaded_even_if_that_was_not_seen(world: Cluster) -> None:
    """Another controller took the label off; our cache is from before it was set."""
    world.actor(LOAD, world.turn())
    before = world.turn()
    world.actor(PROVE, world.turn())
    world.actor(RemoveLabel("why", "pod-0"), world.turn())
    world.now += timedelta(seconds=4)
    with pytest.raises(StillRouted):
        world.actor(UnloadAdapter("why", "pod-0", "support-bot"), before)
    world.now += timedelta(seconds=1)
    world.actor(UnloadAdapter("why", "pod-0", "support-bot"), before)
    assert world.engines["pod-0"].listed == {}


def test_a_staging_name_may_go_while_the_pod_is_routed(world: Cluster) -> None:
    for action in (LOAD, PROVE, STAGE, UnloadAdapter("why", "pod-0", STAGING)):
        world.actor(action, world.turn())
    assert set(world.engines["pod-0"].listed) == {"support-bot"}


def test_unloading_what_is_gone_is_done(world: Cluster) -> None:
    world.actor(UnloadAdapter("why", "pod-0", "support-bot"), world.turn())


def test_a_version_that_does_not_answer_is_not_left_staged(world: Cluster) -> None:
    asked = world.engines["pod-0"].answer

    def answer(method: str, path: str, body: Any) -> tuple[int, Any]:
        return (400, {"error": {"message": "no"}}) if path == "/v1/completions" else asked(method, path, body)

    world.engines["pod-0"].answer = answer  # type: ignore[method-assign]
    with pytest.raises(EngineRefused):
        world.actor(STAGE, world.turn())
    assert world.engines["pod-0"].listed == {}


def test_the_only_pod_is_updated_in_place(world: Cluster) -> None:
    for action in (LOAD, PROVE, STAGE, REPLACE):
        world.actor(action, world.turn())
    assert world.engines["pod-0"].listed == {"support-bot": adapter_path(D2)}
    assert labels(world)[LABEL] == "22222222"


def test_an_update_that_fails_puts_the_old_version_back(world: Cluster) -> None:
    for action in (LOAD, PROVE, STAGE):
        world.actor(action, world.turn())
    world.disk[adapter_path(D2)] = "corrupt"
    with pytest.raises(LoadRejected):
        world.actor(REPLACE, world.turn())
    assert world.engines["pod-0"].listed["support-bot"] == adapter_path(D1)
    assert labels(world)[LABEL] == "11111111"


def at_the_load_of(world: Cluster, engine_name: str, happens: Callable[[], object]) -> None:
    """Let something happen while vLLM loads it on the pod."""
    engine, asked = world.engines["pod-0"], world.engines["pod-0"].answer

    def answer(method: str, path: str, body: Any) -> tuple[int, Any]:
        if path == "/v1/load_lora_adapter" and body["lora_name"] == engine_name:
            happens()
        return asked(method, path, body)

    engine.answer = answer  # type: ignore[method-assign]


def touch_pod(world: Cluster) -> None:
    world.api.patch(PODS.path(NAMESPACE, "pod-0"), {"metadata": {"annotations": {"somebody": "else"}}})


def test_what_is_written_to_the_only_pod_during_its_update_does_not_keep_it_out_of_the_route(world: Cluster) -> None:
    """It held the new version under the old label until the next pass took that off: a second gap, and a long one."""
    for action in (LOAD, PROVE, STAGE):
        world.actor(action, world.turn())
    at_the_load_of(world, "support-bot", lambda: touch_pod(world))
    world.actor(REPLACE, world.turn())
    assert labels(world)[LABEL] == "22222222"
    assert world.engines["pod-0"].listed == {"support-bot": adapter_path(D2)}


def test_a_write_that_comes_just_before_the_label_of_an_update_makes_it_try_again_once(world: Cluster) -> None:
    for action in (LOAD, PROVE, STAGE):
        world.actor(action, world.turn())

    def meanwhile(connection: Connection) -> None:
        touch_pod(world)
        connection.answer_truly()

    world.api.inject(meanwhile, method="PATCH", path="pods/pod-0", times=1)
    world.actor(REPLACE, world.turn())
    assert labels(world)[LABEL] == "22222222"


def test_a_container_that_restarts_during_its_update_does_not_get_the_label(world: Cluster) -> None:
    for action in (LOAD, PROVE, STAGE):
        world.actor(action, world.turn())
    at_the_load_of(world, "support-bot", lambda: world.restart("pod-0"))
    with pytest.raises(StalePod):
        world.actor(REPLACE, world.turn())
    assert labels(world)[LABEL] == "11111111"


def test_a_pod_that_somebody_else_took_out_of_the_route_during_its_update_stays_out(world: Cluster) -> None:
    for action in (LOAD, PROVE, STAGE):
        world.actor(action, world.turn())
    out = {"metadata": {"labels": {LABEL: None}}}
    at_the_load_of(world, "support-bot", lambda: world.api.patch(PODS.path(NAMESPACE, "pod-0"), out))
    with pytest.raises(StalePod, match="from 11111111 to None during its update"):
        world.actor(REPLACE, world.turn())
    assert LABEL not in labels(world)


# -- the fence


TAKING_AWAY = [
    SwitchRoute("why", adapter(D1)),
    DeleteMerged("why", A1, "m", "u"),
    RemoveLabel("why", "pod-0"),
    UnloadAdapter("why", "pod-0", "support-bot"),
    PointPreview("why", A1),
]


@pytest.mark.parametrize("action", TAKING_AWAY)
def test_nothing_is_taken_away_by_a_plan_for_an_older_release(world: Cluster, action: Any) -> None:
    turn = world.turn()
    touch_release(world)
    with pytest.raises(StaleRelease):
        world.actor(action, turn)
    assert notes_on(world) == {}


@pytest.mark.parametrize("action", TAKING_AWAY)
def test_nothing_is_taken_away_by_one_who_no_longer_leads(world: Cluster, action: Any) -> None:
    world.actor(LOAD, world.turn())
    turn = world.turn()
    world.leading = False
    with pytest.raises(LeadershipLost):
        world.actor(action, turn)
    assert "support-bot" in world.engines["pod-0"].listed
    assert notes_on(world) == {}


def test_a_lease_that_ends_while_vllm_is_asked_unloads_nothing(world: Cluster) -> None:
    for action in (LOAD, PROVE, STAGE):
        world.actor(action, world.turn())
    turn, asked = world.turn(), world.engines["pod-0"].answer

    def answer(method: str, path: str, body: Any) -> tuple[int, Any]:
        world.leading = False
        return asked(method, path, body)

    world.engines["pod-0"].answer = answer  # type: ignore[method-assign]
    with pytest.raises(LeadershipLost):
        world.actor(REPLACE, turn)
    assert world.engines["pod-0"].listed["support-bot"] == adapter_path(D1)
    assert world.observe().base_pods[0].load_failure is None


def test_a_lease_that_ends_while_the_api_server_is_asked_unloads_nothing(world: Cluster) -> None:
    world.actor(LOAD, world.turn())
    turn = world.turn()

    def late_answer(connection: Connection) -> None:
        world.leading = False
        connection.answer_truly()

    world.api.inject(late_answer, method="GET", path="adapterreleases")
    with pytest.raises(LeadershipLost):
        world.actor(UnloadAdapter("why", "pod-0", "support-bot"), turn)
    assert "support-bot" in world.engines["pod-0"].listed


def test_a_stale_plan_stops_at_once_and_other_failures_do_not(world: Cluster) -> None:
    turn = world.turn()
    outcome = carry_out([PROVE, LOAD], turn, world.actor)
    assert (len(outcome.errors), outcome.unseen) == (1, True)
    assert "support-bot" in world.engines["pod-0"].listed
    touch_release(world)
    with pytest.raises(StaleRelease):
        carry_out([SwitchRoute("why", adapter(D1)), RemoveLabel("why", "pod-0")], turn, world.actor)
    assert notes_on(world) == {}


def test_a_failure_that_nobody_thought_of_does_not_keep_the_other_actions_from_being_done(world: Cluster) -> None:
    def act(action: Any, turn: Any) -> None:
        if action is PROVE:
            raise KeyError("name")
        world.actor(action, turn)

    outcome = carry_out([PROVE, LOAD], world.turn(), act)
    assert [error.reason for error in outcome.errors] == ["Unexpected"]
    assert outcome.refused == ("why: unexpected KeyError; see the controller's log",)
    assert "support-bot" in world.engines["pod-0"].listed


def test_a_person_is_told_of_what_only_a_person_can_mend(world: Cluster) -> None:
    def act(action: Any, turn: Any) -> None:
        raise {LOAD: LoadRejected("no"), PROVE: NotFound("gone"), STAGE: Conflict("changed")}.get(action) or Forbidden(
            "exceeded quota"
        )

    outcome = carry_out([LOAD, PROVE, STAGE, MERGE], world.turn(), act)
    assert len(outcome.errors) == 4
    assert outcome.refused == ("why: exceeded quota",)


def test_our_own_finalizer_does_not_make_the_plan_stale(world: Cluster) -> None:
    world.api.patch(RELEASES.path(*KEY), {"metadata": {"finalizers": None}})
    turn = world.turn()
    world.actor(AddFinalizer("why"), turn)
    assert world.release()["metadata"]["finalizers"] == ["adapterrelease.dev/unload"]
    with pytest.raises(TargetNotReady):  # the fence let it pass
        world.actor(SwitchRoute("why", adapter(D1)), turn)
    StatusWriter(world.client)(turn.snapshot.release.status, turn)
    with pytest.raises(TargetNotReady):
        world.actor(SwitchRoute("why", adapter(D1)), turn)


# -- the route


def test_the_route_is_not_pointed_at_nothing(world: Cluster) -> None:
    with pytest.raises(TargetNotReady):
        world.actor(SwitchRoute("why", adapter(D1)), world.turn())
    assert world.names(SERVICES) == []


def test_the_route_moves_wholly_from_one_backend_to_another_and_back(world: Cluster) -> None:
    world.actor(LOAD, world.turn())
    world.actor(PROVE, world.turn())
    world.actor(MERGE, world.turn())
    world.settle()
    for backend in (adapter(D1), artifact(A1), adapter(D1)):
        world.actor(SwitchRoute("why", backend), world.turn())
        selector = world.get(SERVICES, "support-bot")["spec"]["selector"]
        assert selector == world.observe().selector_for(backend)


def test_the_route_to_a_merged_model_needs_no_base(world: Cluster) -> None:
    world.actor(MERGE, world.turn())
    world.settle()
    world.api.delete(DEPLOYMENTS.path(NAMESPACE, "tiny-llama"))
    world.actor(SwitchRoute("why", artifact(A1)), world.turn())
    assert world.get(SERVICES, "support-bot")["spec"]["ports"][0]["targetPort"] == world.port


def test_the_route_to_a_merged_model_keeps_the_port_that_its_base_had(world: Cluster) -> None:
    world.actor(MERGE, world.turn())
    world.settle()
    world.change_base(args=[*container()["args"], "--port", "9999"])
    world.actor(SwitchRoute("why", artifact(A1)), world.turn())
    assert world.get(SERVICES, "support-bot")["spec"]["ports"][0]["targetPort"] == world.port


def test_a_service_of_somebody_else_is_never_taken_over(world: Cluster) -> None:
    theirs = {"metadata": {"name": "support-bot"}, "spec": {"selector": {"app": "shop"}, "clusterIP": "10.0.0.1"}}
    world.api.create(SERVICES.path(NAMESPACE), theirs)
    world.actor(LOAD, world.turn())
    world.actor(PROVE, world.turn())
    with pytest.raises(ServiceNameTaken, match="belongs to somebody else: rename it or the release"):
        world.actor(SwitchRoute("why", adapter(D1)), world.turn())
    assert world.get(SERVICES, "support-bot")["spec"]["selector"] == {"app": "shop"}
    snapshot = world.observe()
    assert snapshot.services_taken == ("support-bot",)
    assert snapshot.route is not None and not snapshot.route.owned


# -- objects


def test_a_job_is_made_once(world: Cluster) -> None:
    action = EnsureJob("why", JobKind.IMPORT, "f" * 64)
    world.actor(action, world.turn())
    made = world.get(JOBS, "support-bot-import-ffffffff")
    world.actor(action, world.turn())
    assert world.get(JOBS, "support-bot-import-ffffffff")["metadata"]["uid"] == made["metadata"]["uid"]
    assert world.names(CONFIGMAPS) == ["support-bot-import-ffffffff"]


def test_a_contract_goes_with_its_job(world: Cluster) -> None:
    world.actor(EnsureJob("why", JobKind.IMPORT, "f" * 64), world.turn())
    made = world.get(JOBS, "support-bot-import-ffffffff")
    (owner,) = world.get(CONFIGMAPS, "support-bot-import-ffffffff")["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Job", made["metadata"]["uid"], True)


def test_a_job_whose_maker_died_before_its_contract_was_there_gets_it(world: Cluster) -> None:
    """Its pod waits for it; without the contract it would until the Job's deadline."""
    action = EnsureJob("why", JobKind.IMPORT, "f" * 64)
    world.actor(action, world.turn())
    first = world.get(JOBS, "support-bot-import-ffffffff")["metadata"]["uid"]
    assert [job.name for job in world.observe().jobs] == ["support-bot-import-ffffffff"]
    world.api.delete(CONFIGMAPS.path(NAMESPACE, "support-bot-import-ffffffff"))
    assert world.observe().jobs == ()
    world.actor(action, world.turn())
    assert world.names(CONFIGMAPS) == ["support-bot-import-ffffffff"]
    assert world.get(JOBS, "support-bot-import-ffffffff")["metadata"]["uid"] == first


def test_a_contract_that_cannot_be_written_makes_no_job(world: Cluster) -> None:
    with pytest.raises(PermanentError, match="an imported adapter"):
        world.actor(EnsureJob("why", JobKind.BUILD, "f" * 64), world.turn())
    assert world.names(JOBS) == []


def test_a_job_of_a_release_that_is_gone_is_not_taken_for_ours(world: Cluster) -> None:
    orphan = {"metadata": {"name": "support-bot-import-ffffffff", "ownerReferences": [{"uid": "old"}]}}
    world.api.create(JOBS.path(NAMESPACE), orphan)
    with pytest.raises(NameInUse):
        world.actor(EnsureJob("why", JobKind.IMPORT, "f" * 64), world.turn())


def test_a_job_whose_result_went_with_its_pods_runs_again(world: Cluster) -> None:
    action = EnsureJob("why", JobKind.IMPORT, "f" * 64)
    world.actor(action, world.turn())
    first = world.get(JOBS, "support-bot-import-ffffffff")["metadata"]["uid"]
    done = {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    world.api.patch(JOBS.path(NAMESPACE, "support-bot-import-ffffffff", "status"), done)
    assert world.observe().jobs == ()
    world.actor(action, world.turn())
    with pytest.raises(NameInUse):  # the contract of the first one is still there
        world.actor(action, world.turn())
    second = world.get(JOBS, "support-bot-import-ffffffff")["metadata"]["uid"]
    world.api.delete(CONFIGMAPS.path(NAMESPACE, "support-bot-import-ffffffff"))  # as the garbage collector does
    world.actor(action, world.turn())
    (owner,) = world.get(CONFIGMAPS, "support-bot-import-ffffffff")["metadata"]["ownerReferences"]
    assert second == owner["uid"] != first


def test_a_merged_deployment_is_made_once_and_not_changed_by_a_new_base(world: Cluster) -> None:
    world.actor(MERGE, world.turn())
    (name,) = [n for n in world.names(DEPLOYMENTS) if "merged" in n]
    before = world.get(DEPLOYMENTS, name)
    world.api.patch(DEPLOYMENTS.path(NAMESPACE, "tiny-llama"), {"spec": {"replicas": 7}})
    world.actor(MERGE, world.turn())
    assert world.get(DEPLOYMENTS, name) == before
    assert "support-bot-preview" in world.names(SERVICES)


def test_a_merged_deployment_that_is_routed_is_not_deleted(world: Cluster) -> None:
    world.actor(MERGE, world.turn())
    world.settle()
    world.actor(SwitchRoute("why", artifact(A1)), world.turn())
    (merged,) = world.observe().merged
    with pytest.raises(StillRouted):
        world.actor(DeleteMerged("why", A1, merged.name, merged.uid), world.turn())
    assert merged.name in world.names(DEPLOYMENTS)


def test_a_merged_deployment_made_again_under_its_name_is_not_deleted(world: Cluster) -> None:
    world.actor(MERGE, world.turn())
    (merged,) = world.observe().merged
    world.actor(DeleteMerged("why", A1, merged.name, "another uid"), world.turn())
    assert merged.name in world.names(DEPLOYMENTS)
    world.actor(DeleteMerged("why", A1, merged.name, merged.uid), world.turn())
    assert merged.name not in world.names(DEPLOYMENTS)


def test_the_preview_follows_the_newest_artifact(world: Cluster) -> None:
    world.actor(MERGE, world.turn())
    world.actor(EnsureMerged("why", A2, f"/store/artifacts/{'b' * 64}"), world.turn())
    selector = world.get(SERVICES, "support-bot-preview")["spec"]["selector"]
    assert selector["adapterrelease.dev/artifact"] == "b" * 12


def test_the_preview_stays_while_an_http_route_sends_another_candidates_clients_there(world: Cluster) -> None:
    canary = CanaryStatus(http_route="bot", artifact=A1, weight=0)
    remember(world, release().status(rollout=RolloutStatus(canary=canary)))
    world.actor(MERGE, world.turn())
    world.actor(EnsureMerged("why", A2, f"/store/artifacts/{'b' * 64}"), world.turn())
    assert len([n for n in world.names(DEPLOYMENTS) if "merged" in n]) == 2, "the way back may need it"
    assert preview_of(world) == "a" * 12


def test_a_preview_that_was_pointed_elsewhere_is_pointed_at_the_candidate(world: Cluster) -> None:
    world.actor(EnsureMerged("why", A2, f"/store/artifacts/{'b' * 64}"), world.turn())
    world.actor(PointPreview("why", A1), world.turn())
    assert preview_of(world) == "a" * 12


def preview_of(world: Cluster) -> str:
    return str(world.get(SERVICES, "support-bot-preview")["spec"]["selector"]["adapterrelease.dev/artifact"])


VALIDATE = EnsureJob("why", JobKind.VALIDATE, "f" * 64)


def validating(artifact_id: str, adapter_digest: str) -> ReleaseBuilder:
    made = ArtifactStatus(id=artifact_id, inputs="i", path="p", digest=A1, adapter_digest=adapter_digest)
    return release().stable().status(artifact=made)


def remember(world: Cluster, builder: ReleaseBuilder) -> None:
    world.api.patch(RELEASES.path(*KEY), {"spec": builder.wire["spec"]})
    world.api.patch(RELEASES.path(*KEY, subresource="status"), {"status": builder.memory.to_wire()})


def test_a_validation_asks_its_own_adapter_and_its_own_candidate(world: Cluster) -> None:
    for artifact_id, digest, inputs in ((A1, D1, "e"), (A2, D2, "f")):
        remember(world, validating(artifact_id, digest))
        world.actor(EnsureJob("why", JobKind.VALIDATE, inputs * 64), world.turn())
        for name, backend in (("adapter", adapter(digest)), ("preview", artifact(artifact_id))):
            selector = world.get(SERVICES, f"support-bot-{name}")["spec"]["selector"]
            assert selector == world.observe().selector_for(backend)


def test_a_validation_of_what_vllm_cannot_serve_makes_no_service_of_the_adapter(world: Cluster) -> None:
    builder = validating(A1, D1)
    made = builder.memory.artifact
    assert made is not None
    remember(world, builder.status(artifact=made.model_copy(update={"merge_only": True})))
    world.actor(EnsureJob("why", JobKind.VALIDATE, "e" * 64), world.turn())
    made_now = world.names(SERVICES)
    assert "support-bot-preview" in made_now and "support-bot-adapter" not in made_now


@pytest.mark.parametrize("name", ["adapter", "preview"])
def test_a_validation_does_not_begin_before_both_services_lead_where_they_should(world: Cluster, name: str) -> None:
    remember(world, validating(A1, D1))
    theirs = {"metadata": {"name": f"support-bot-{name}"}, "spec": {"selector": {"app": "shop"}}}
    world.api.create(SERVICES.path(NAMESPACE), theirs)
    with pytest.raises(ServiceNameTaken):
        world.actor(VALIDATE, world.turn())
    assert world.names(JOBS) == []
    world.api.delete(SERVICES.path(NAMESPACE, f"support-bot-{name}"))
    world.actor(VALIDATE, world.turn())
    assert world.names(JOBS) == ["support-bot-validate-ffffffff"]


# -- the status


def test_a_status_decided_for_an_older_release_is_not_written(world: Cluster) -> None:
    turn = world.turn()
    touch_release(world)
    before = world.release()

    def observe_late(key: Any) -> Any:
        return turn.snapshot

    world.reconciler._observe = observe_late
    with pytest.raises((Conflict, StaleRelease)):
        world.reconcile()
    assert world.release() == before
    assert world.events == []
