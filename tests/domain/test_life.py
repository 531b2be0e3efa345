"""The life of a release, sentence by sentence, on the small cluster of world.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from controller.api.reasons import Reason
from controller.api.status import Step
from controller.domain import actions as act
from controller.domain.snapshot import JobKind, Problem, hex_of
from tests.builders import adapter, artifact
from tests.domain.turns import Controller, quiet, run, settle, until
from tests.domain.world import LOADED, RIVAL, ROUTE, World, adapter_digest, digest_of

V1, V2, V3 = (adapter_digest(n) for n in (1, 2, 3))
M1, M2 = (digest_of("artifact", digest) for digest in (V1, V2))


def serving_v1(pods: int = 2, slots: int = 4) -> World:
    return settle(World(pods, slots), 12)


def promoted(pods: int = 2, slots: int = 4) -> World:
    """v1 is merged, has the traffic, and the observation is over; the adapter is still loaded behind it."""
    return settle(serving_v1(pods, slots).promote(), 90)


def in_step(step: Step) -> Callable[[World], bool]:
    return lambda world: world.status.rollout.step is step


def observing() -> World:
    return until(serving_v1().promote(), in_step(Step.OBSERVING))


def labels(world: World) -> list[str | None]:
    return [pod.label for pod in world.pods.values()]


def steps_of(world: World, rounds: int) -> list[Step]:
    """The steps that it goes through, each once."""
    seen: list[Step] = []
    for done in run(world, rounds):
        if done.status.rollout.step not in seen[-1:]:
            seen.append(done.status.rollout.step)
    return seen


# -- the first load


def test_an_applied_release_is_imported_loaded_and_served() -> None:
    world = World()
    assert steps_of(world, 15) == [Step.IMPORTING, Step.LOADING, Step.SWITCHING, Step.IDLE]
    assert world.served == adapter(V1)
    assert sorted(world.answering()) == ["pod-0", "pod-1"]
    assert world.history[0].reason == Reason.FIRST_LOAD
    assert world.condition("Ready") == (
        "True",
        "Serving",
        f"adapter {hex_of(V1)[:12]} serves 'support-bot'",
    )
    assert world.condition("AdapterImported") == ("True", "Imported", f"version v1, digest {hex_of(V1)[:12]}, rank 8")
    assert world.condition("AdapterLoaded") == (
        "True",
        "Loaded",
        f"{hex_of(V1)[:8]} is loaded on 2 of 2 ready base pods",
    )
    assert world.reason("Promoted") == ("False", "NotRequested")
    assert world.reason("Progressing") == ("False", "Idle")
    assert world.reason("Degraded") == ("False", "AsExpected")


def test_every_condition_is_there_from_the_first_look_on() -> None:
    world = World()
    Controller(world).reconcile()
    assert {c.type for c in world.status.conditions} == {
        "AdapterImported",
        "AdapterLoaded",
        "ArtifactBuilt",
        "Validated",
        "Promoted",
        "Progressing",
        "Degraded",
        "Ready",
    }
    assert world.reason("Ready") == ("False", "Pending")
    assert all(c.observed_generation == 1 for c in world.status.conditions)


def test_the_route_is_not_made_before_a_pod_has_proven_that_it_answers() -> None:
    world = World()
    controller = Controller(world)
    for _ in range(100):
        controller.step()
        for key in world.jobs:
            world.end_job(key, "good")
        if world.selector is not None:
            break
    assert world.answering()


def test_a_release_that_rests_asks_for_nothing_and_looks_again_later() -> None:
    world = serving_v1()
    done = Controller(world).look()
    assert done.actions == ()
    assert done.status == world.status
    assert done.requeue_after is not None and done.requeue_after.total_seconds() == 15


def test_a_pod_that_is_added_gets_traffic_only_after_its_adapter_is_in() -> None:
    world = serving_v1()
    added = world.add_pod()
    assert added.name not in world.routed_pods()
    settle(world, 4)
    assert added.name in world.answering()


def test_a_pod_that_restarted_is_taken_out_and_comes_back_with_the_adapter() -> None:
    world = serving_v1()
    world.crash_container("pod-0")
    settle(world, 2)
    assert labels(world) == [None, hex_of(V1)[:8]]
    world.pods["pod-0"].ready = True
    settle(world, 4)
    assert sorted(world.answering()) == ["pod-0", "pod-1"]


def test_without_a_ready_pod_the_condition_says_so_and_nothing_else_happens() -> None:
    world = World(pods=1)
    world.pods["pod-0"].ready = False
    settle(world, 10)
    assert world.condition("AdapterLoaded") == ("False", "NoReadyBasePod", "base tiny-llama has no ready pod")
    assert world.reason("Ready") == ("False", "NoReadyBasePod")
    assert world.selector is None


def test_an_adapter_that_fails_on_one_pod_only_is_served_by_the_others() -> None:
    world = World(pods=3)
    world.pods["pod-1"].refuses = {hex_of(V1)}
    settle(world, 15)
    assert sorted(world.answering()) == ["pod-0", "pod-2"]
    assert world.condition("AdapterLoaded") == (
        "True",
        "LoadFailedOnSomePods",
        f"{hex_of(V1)[:8]} is loaded on 2 of 3 ready base pods; pod pod-1 says: no",
    )
    assert world.reason("Degraded") == ("True", "LoadFailedOnSomePods")
    assert world.reason("Ready") == ("True", "Serving")
    assert world.status.adapter is not None
    assert [(p.name, p.state) for p in world.status.adapter.pods] == [
        ("pod-0", "Loaded"),
        ("pod-1", "Failed"),
        ("pod-2", "Loaded"),
    ]


def test_a_pod_that_refuses_the_old_version_and_the_new_is_not_asked_all_the_time() -> None:
    world = serving_v1(pods=3)
    world.crash_container("pod-0")
    world.pods["pod-0"].ready, world.pods["pod-0"].refuses = True, {hex_of(V1), hex_of(V2)}
    loads = [a for done in run(world.set_version(2), 90) for a in done.actions if isinstance(a, act.LoadAdapter)]
    assert len([a for a in loads if a.pod == "pod-0"]) <= 6
    assert world.served == adapter(V2) and len(world.answering()) == 2


def test_an_adapter_that_fails_on_every_pod_serves_nothing_and_says_why() -> None:
    world = World()
    for pod in world.pods.values():
        pod.refuses = {hex_of(V1)}
    settle(world, 20)
    assert world.selector is None
    assert world.reason("Ready") == ("False", "LoadFailed")
    assert world.condition("AdapterLoaded")[2].endswith("pod pod-0 says: no")


def test_without_a_free_slot_the_server_is_not_even_asked() -> None:
    world = World(slots=1)
    for pod in world.pods.values():
        pod.adapters["stranger"] = "/elsewhere"
    deeds = [a for done in run(world, 20) for a in done.actions]
    assert not [a for a in deeds if isinstance(a, act.LoadAdapter)]
    assert world.condition("Ready") == (
        "False",
        "NoFreeAdapterSlot",
        f"{hex_of(V1)[:8]} is loaded on 0 of 2 ready base pods; the others have no free slot: "
        "raise --max-cpu-loras of the base, or retire a release",
    )


def test_a_name_that_a_pod_uses_for_something_else_is_left_alone_and_named() -> None:
    world = World()
    for pod in world.pods.values():
        pod.adapters[ROUTE] = "/somewhere/else"
    settle(world, 15)
    assert [p.adapters[ROUTE] for p in world.pods.values()] == ["/somewhere/else"] * 2
    assert world.reason("AdapterLoaded") == ("False", "ModelNameTaken")
    assert world.reason("Ready") == ("False", "ModelNameTaken")


def test_a_load_that_does_not_end_says_so_and_goes_on_trying() -> None:
    world = World()
    for pod in world.pods.values():
        pod.mute = True
    settle(world, 10, tick=120)
    assert world.reason("AdapterLoaded") == ("False", "LoadDeadlineExceeded")
    for pod in world.pods.values():
        pod.mute = False
    settle(world, 10)
    assert world.served == adapter(V1)


def test_a_deadline_that_is_over_does_not_make_it_look_again_without_a_pause() -> None:
    world = World()
    for pod in world.pods.values():
        pod.mute = True
    settle(world, 10, tick=120)
    done = Controller(world).look()
    assert done.requeue_after is not None and done.requeue_after.total_seconds() == 1


def test_a_first_load_that_the_route_never_proves_says_so_and_goes_on_trying() -> None:
    world = World()
    world.answers_wrong = True
    until(world, in_step(Step.SWITCHING))
    deadline = world.status.rollout.deadline
    settle(world, 59)
    assert world.reason("Ready") == ("False", "Pending")
    settle(world, 120)
    assert (world.status.rollout.step, world.status.rollout.deadline) == (Step.SWITCHING, deadline)
    assert world.condition("Ready") == (
        "False",
        "SwitchNotProven",
        f"the route was not proven to reach adapter {hex_of(V1)[:12]} in time: /store/models/base answers; "
        "still trying",
    )
    assert world.reason("Degraded") == ("True", "SwitchNotProven")
    quiet(world)
    world.answers_wrong = False
    settle(world, 2)
    assert world.served == adapter(V1)
    assert world.reason("Ready") == ("True", "Serving") and world.reason("Degraded") == ("False", "AsExpected")


def test_a_first_load_that_the_route_does_not_prove_in_time_makes_way_for_another_version() -> None:
    world = World()
    world.answers_wrong = True
    settle(world, 90)
    settle(world.set_version(2), 20)
    world.answers_wrong = False
    settle(world, 2)
    assert world.served == adapter(V2) and len(world.answering()) == 2


def test_a_first_load_whose_pods_are_lost_before_it_is_proven_loads_again() -> None:
    world = World()
    world.answers_wrong = True
    settle(world, 90)
    for name in world.pods:
        world.crash_container(name)
    settle(world, 3)
    assert world.status.rollout.step is Step.LOADING
    world.answers_wrong = False
    for pod in world.pods.values():
        pod.ready = True
    settle(world, 10)
    assert world.served == adapter(V1) and len(world.answering()) == 2


def test_when_the_base_mounts_the_store_elsewhere_its_old_pods_go_on_serving() -> None:
    """Their answers still come from the place that their own template named."""
    world = serving_v1()
    assert world.base is not None
    world.base = replace(world.base, store_path="/data")
    for _ in run(world, 10):
        assert len(world.answering()) == 2


# -- what keeps it from working at all


def test_rivals_the_release_that_came_first_keeps_the_name() -> None:
    world = World()
    world.rivals = (RIVAL,)
    settle(world, 10)
    assert world.jobs == {} and world.selector is None
    assert world.condition("Ready") == (
        "False",
        "ModelNameTaken",
        f"release {RIVAL} already serves 'support-bot' on this base; choose another modelName",
    )


def test_a_name_that_the_base_serves_itself_is_taken() -> None:
    world = World()
    assert world.base is not None
    world.base = replace(world.base, served_names=("tiny-llama", ROUTE))
    settle(world, 10)
    assert all(not pod.adapters for pod in world.pods.values())
    assert world.condition("Ready") == (
        "False",
        "ModelNameTaken",
        "base tiny-llama itself already serves 'support-bot' on this base; choose another modelName",
    )


def test_the_deletion_of_a_rival_leaves_the_first_release_its_adapter() -> None:
    world = World()
    world.rivals = (RIVAL,)
    for pod in world.pods.values():  # the other release has the same adapter and model name
        pod.adapters[ROUTE] = f"/store/adapters/finetune/{hex_of(V1)}"
    settle(world, 3)
    settle(world.delete(), 10)
    assert not world.finalizer
    assert all(ROUTE in pod.adapters for pod in world.pods.values())


def test_a_base_that_is_not_found_is_named() -> None:
    world = World()
    world.base_is_deleted()
    settle(world, 5)
    assert world.condition("Ready") == ("False", "BaseNotFound", "there is no Deployment tiny-llama in namespace llm")


def test_a_base_with_a_problem_is_not_touched_and_its_problem_is_the_reason() -> None:
    world = World()
    assert world.base is not None
    problem = Problem(Reason.LORA_NOT_ENABLED, "tiny-llama runs without --enable-lora")
    world.base = replace(world.base, problems=(problem,))
    settle(world, 5)
    assert world.condition("Ready") == ("False", "LoraNotEnabled", "tiny-llama runs without --enable-lora")
    assert not world.jobs


def test_when_the_base_is_deleted_a_merged_model_goes_on_serving() -> None:
    world = promoted()
    world.base_is_deleted()
    settle(world, 20)
    assert world.served == artifact(M1) and world.answering()
    assert world.reason("Ready") == ("False", "BaseNotFound")
    world.base_comes_back(2)
    settle(world, 10)
    assert world.served == artifact(M1)
    assert world.reason("Ready") == ("True", "Serving")


def test_when_the_base_is_deleted_the_route_to_a_merged_model_can_still_be_made_again() -> None:
    world = promoted()
    world.base_is_deleted()
    world.selector = None
    settle(world, 2)
    assert world.served == artifact(M1) and world.answering()


def test_when_the_base_is_deleted_during_a_switch_to_a_merged_model_that_is_proven_all_the_same() -> None:
    world = until(serving_v1().promote(), in_step(Step.SWITCHING))
    world.base_is_deleted()
    settle(world, 3)
    assert world.served == artifact(M1) and world.answering()
    assert world.status.rollout.rejected == []


def test_a_step_that_the_base_left_behind_does_not_wait_for_ever() -> None:
    world = until(serving_v1().promote(), in_step(Step.BUILDING), slow=True)
    world.base_is_deleted()
    settle(world, 3)
    assert world.status.rollout.step is Step.IDLE
    world.pass_time(24 * 3600).base_comes_back(2)
    settle(world, 90)
    assert world.served == artifact(M1)
    assert world.status.rollout.rejected == []


def test_a_service_of_somebody_else_under_the_release_name_is_not_touched() -> None:
    world = World()
    world.services_taken = {ROUTE}
    settle(world, 10)
    assert world.selector is None
    assert world.condition("Ready") == (
        "False",
        "ServiceNameTaken",
        "Service support-bot exists and was not made for this release; it is not touched. "
        "Rename the release or the Service.",
    )


def test_a_taken_preview_service_stops_the_promotion_and_nothing_else() -> None:
    world = serving_v1().promote()
    world.services_taken = {f"{ROUTE}-preview"}
    world.add_pod()
    settle(world, 20)
    assert world.merged == {} and len(world.answering()) == 3
    assert world.reason("Ready") == ("False", "ServiceNameTaken")


def test_a_taken_preview_service_does_not_keep_a_broken_artifact_in_the_route() -> None:
    world = promoted()
    world.services_taken = {f"{ROUTE}-preview"}
    world.merged_goes(M1, available=False)
    world.merged[M1].never_starts = True
    settle(world, 45)
    assert world.served == adapter(V1) and world.answering()


def test_a_route_that_the_user_deleted_comes_back() -> None:
    world = serving_v1()
    world.selector = None
    settle(world, 2)
    assert sorted(world.answering()) == ["pod-0", "pod-1"]


# -- a new version


def test_a_new_version_is_loaded_pod_by_pod_and_the_route_never_stands_empty() -> None:
    world = serving_v1(pods=4).set_version(2)
    for _ in run(world, 40):
        assert world.answering()
    assert world.served == adapter(V2)
    assert len(world.answering()) == 4
    assert [h.reason for h in world.history] == [Reason.ADAPTER_UPDATED, Reason.FIRST_LOAD]
    assert [h.version for h in world.history] == ["v2", "v1"]


def test_on_a_base_with_one_pod_a_new_version_is_proven_beside_the_old_and_then_replaces_it() -> None:
    world = serving_v1(pods=1).set_version(2)
    deeds = []
    for done in run(world, 20):
        deeds += [type(a) for a in done.actions]
        assert world.answering()
    order = [k for k in deeds if k in (act.StageAdapter, act.ReplaceAdapter)]
    assert order == [act.StageAdapter, act.ReplaceAdapter]
    assert act.UnloadAdapter not in deeds
    assert deeds[deeds.index(act.ReplaceAdapter) + 1] is act.SwitchRoute, "the route follows at once"
    assert world.served == adapter(V2)
    assert set(world.pods["pod-0"].adapters) == {ROUTE}


def test_on_a_base_with_one_pod_and_no_second_slot_the_old_version_goes_on_serving() -> None:
    world = serving_v1(pods=1, slots=1).set_version(2)
    settle(world, 30)
    assert world.served == adapter(V1) and world.answering()
    assert world.reason("AdapterLoaded") == ("False", "NoFreeAdapterSlot")
    assert world.reason("Ready") == ("False", "Pending")


def test_a_staged_version_that_is_not_wanted_any_more_gives_its_slot_back() -> None:
    world = serving_v1(pods=1, slots=2).set_version(2)
    until(world, lambda w: len(w.pods["pod-0"].adapters) == 2)
    settle(world.set_version(3), 20)
    assert world.served == adapter(V3)
    assert set(world.pods["pod-0"].adapters) == {ROUTE}


def test_a_replacement_that_fails_is_not_tried_again_by_itself() -> None:
    """Each try leaves a gap in which the only pod does not know the name."""
    world = serving_v1(pods=1)
    world.pods["pod-0"].replacing_fails = True
    world.set_version(2)
    deeds = [a for done in run(world, 300, tick=2) for a in done.actions]
    assert len([a for a in deeds if isinstance(a, act.ReplaceAdapter)]) == 1
    assert world.served == adapter(V1) and world.answering()
    assert world.status.rollout.step is Step.IDLE
    assert world.reason("Ready") == ("False", "RolledBack")
    assert world.reason("Degraded") == ("True", "RolledBack")


def test_an_update_that_the_route_never_proves_ends_with_the_old_version() -> None:
    world = serving_v1().set_version(2)
    world.answers_wrong = True
    until(world, in_step(Step.ROLLING_BACK))
    world.answers_wrong = False
    settle(world, 45)
    assert world.served == adapter(V1) and len(world.answering()) == 2
    assert world.condition("Degraded") == (
        "True",
        "RolledBack",
        "SwitchNotProven: the route was not proven to reach Adapter in time. What served before still serves. "
        "Change the spec, or set the annotation adapterrelease.dev/retry to a new value, to try again.",
    )
    settle(world.annotate(retry="1"), 30)
    assert world.served == adapter(V2)


def test_an_import_that_fails_leaves_the_old_version_serving() -> None:
    world = serving_v1().set_version(2)
    settle(world, 5, finish="fails")
    assert world.served == adapter(V1) and world.answering()
    assert world.condition("AdapterImported") == (
        "False",
        "Broken",
        "it broke. Change the spec, or set the annotation adapterrelease.dev/retry to a new value, to try again.",
    )
    assert world.reason("Degraded") == ("True", "Broken")
    assert world.reason("Ready") == ("False", "Broken")


def test_a_version_that_the_pods_refuse_leaves_the_old_one_serving() -> None:
    world = serving_v1().set_version(2)
    for pod in world.pods.values():
        pod.refuses = {hex_of(V2)}
    settle(world, 60)
    assert world.served == adapter(V1) and world.answering()


def test_when_the_version_that_serves_was_lost_everywhere_and_is_refused_the_new_one_is_loaded() -> None:
    """A base that came back with a lower --max-lora-rank takes v2, but not v1 any more."""
    world = serving_v1()
    for name, pod in world.pods.items():
        world.crash_container(name)
        pod.ready, pod.refuses = True, {hex_of(V1)}
    settle(world.set_version(2), 60)
    assert world.served == adapter(V2) and len(world.answering()) == 2


# -- promotion


def test_a_promoted_release_is_built_started_validated_switched_and_watched() -> None:
    world = serving_v1().promote()
    assert steps_of(world, 100) == [
        Step.BUILDING,
        Step.STARTING,
        Step.VALIDATING,
        Step.SWITCHING,
        Step.OBSERVING,
        Step.IDLE,
    ]
    assert world.served == artifact(M1)
    assert world.condition("Promoted") == ("True", "Promoted", "merged-tiny-llama serves")
    assert world.condition("ArtifactBuilt") == ("True", "Built", "merged-tiny-llama (0 bytes)")
    assert world.condition("Validated") == (
        "True",
        "Passed",
        "support: adapter 0.9900, artifact 0.9900; speedup 1.50",
    )
    assert world.reason("Ready") == ("True", "Serving")
    assert world.history[0].reason == Reason.PROMOTED
    assert world.history[0].adapter_digest == V1
    assert all(hex_of(V1)[:8] == label for label in labels(world)), "the adapter stays loaded behind it"


def test_clients_get_answers_all_the_way_through_a_promotion() -> None:
    world = serving_v1().promote()
    for _ in run(world, 100):
        assert world.answering()


def test_a_stable_release_from_the_start_serves_its_adapter_first() -> None:
    world = World().promote()
    until(world, lambda w: w.served is not None)
    assert world.served == adapter(V1)
    settle(world, 100)
    assert world.served == artifact(M1)


def test_while_it_is_observed_promoted_is_unknown() -> None:
    world = observing()
    assert world.condition("Promoted") == ("Unknown", "Observing", "the merged model has the traffic and is watched")
    assert world.reason("Ready") == ("False", "Pending")
    assert world.reason("Progressing") == ("True", "Observing")


def test_while_the_job_runs_its_progress_is_copied() -> None:
    world = until(serving_v1().promote(), in_step(Step.BUILDING), slow=True)
    settle(world, 1, slow=True)
    key = next(k for k in world.jobs if k[0] is JobKind.BUILD)
    world.jobs[key].facts = replace(world.jobs[key].facts, progress="merge 40 %")
    settle(world, 2, slow=True)
    assert world.condition("ArtifactBuilt") == ("Unknown", "Building", "merge 40 %")
    assert world.condition("Progressing")[2].startswith("merge 40 %, until 2026-01-01T")


def test_while_the_candidate_starts_the_condition_says_what_keeps_it() -> None:
    world = until(serving_v1().promote(), lambda w: bool(w.merged))
    world.merged[M1].never_starts = True
    world.merged[M1].available = False
    world.merged[M1].trouble = "pod m: ImagePullBackOff"
    settle(world, 3)
    assert world.condition("Validated") == ("Unknown", "Starting", "pod m: ImagePullBackOff")


def test_a_promoted_release_with_a_new_version_goes_on_serving_until_that_is_proven() -> None:
    world = promoted().set_version(2)
    for _ in run(world, 20):
        assert world.served == artifact(M1) and world.answering()
        if world.status.rollout.step is Step.SWITCHING:
            break
    settle(world, 90)
    assert world.served == artifact(M2)
    assert set(world.merged) == {M2}


def test_a_bad_new_version_leaves_the_old_artifact_serving() -> None:
    world = promoted().set_version(2)
    until(world, lambda w: w.status.adapter is not None and w.status.adapter.digest == V2)
    settle(world, 60, finish="bad")
    assert world.served == artifact(M1) and world.answering()
    assert world.reason("Validated") == ("False", "ValidationFailed")
    assert world.reason("Ready") == ("False", "ValidationFailed")
    assert set(world.merged) == {M1}, "the rejected candidate is gone"


def test_a_stage_that_goes_back_and_forth_builds_and_judges_nothing_twice() -> None:
    world = promoted()
    settle(world.edit(stage="Experimental"), 50)
    assert world.merged == {}
    settle(world.edit(stage="Stable"), 90)
    assert world.served == artifact(M1)
    assert sorted(kind for kind, _ in world.started) == [JobKind.BUILD, JobKind.IMPORT, JobKind.VALIDATE]


def test_a_changed_validation_is_carried_out_before_the_artifact_gets_traffic_again() -> None:
    world = promoted()
    settle(world.edit(stage="Experimental"), 50)
    suite = {"name": "stricter", "source": {"uri": "pvc://store/suites/stricter.jsonl"}}
    world.edit(stage="Stable", validation={"suites": [suite]})
    settle(world, 60)
    assert world.served == adapter(V1)
    assert world.condition("Validated")[:2] == ("False", "ValidationInconclusive")
    assert "suite stricter was not scored" in world.condition("Validated")[2]


def test_a_spec_change_that_has_nothing_to_do_with_it_does_not_turn_a_fail_into_a_pass() -> None:
    world = until(serving_v1().promote(), in_step(Step.VALIDATING))
    settle(world, 20, finish="bad")
    rollout = world.builder.wire["spec"]["rollout"]
    settle(world.edit(rollout=rollout | {"scaleDownDelay": "10s"}), 30)
    assert world.served == adapter(V1)
    assert world.reason("Validated") == ("False", "ValidationFailed")


def test_after_the_rollback_window_the_adapter_is_unloaded_and_the_artifact_serves_alone() -> None:
    world = promoted()
    world.pass_time(3600)
    settle(world, 15)
    assert all(not pod.adapters and pod.label is None for pod in world.pods.values())
    assert world.served == artifact(M1) and world.answering()
    assert world.condition("AdapterLoaded") == (
        "False",
        "Unloaded",
        "the rollback window is over; the merged model serves without the adapter",
    )
    assert world.reason("Ready") == ("True", "Serving")


def test_before_the_rollback_window_is_over_the_adapter_stays_loaded() -> None:
    world = promoted()
    world.pass_time(3600 - 120)
    settle(world, 15)
    assert all(ROUTE in pod.adapters for pod in world.pods.values())


# -- what is not proven gets no traffic


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        ("bad", "ValidationFailed"),
        ("nan", "ValidationInconclusive"),
        ("empty", "ValidationInconclusive"),
        ("errors", "ValidationInconclusive"),
        ("no result", "ValidationInconclusive"),
        ("fails", "ValidationInconclusive"),
    ],
)
def test_an_artifact_without_a_pass_gets_no_traffic_and_is_not_tried_again(outcome: str, reason: str) -> None:
    world = until(serving_v1().promote(), in_step(Step.VALIDATING))
    settle(world, 40, finish=outcome)
    assert world.served == adapter(V1) and world.answering()
    assert world.reason("Validated") == ("False", reason)
    assert world.reason("Promoted") == ("False", reason)
    assert world.reason("Degraded") == ("True", reason)
    assert world.merged == {} and world.status.rollout.step is Step.IDLE
    deeds = [a for done in run(world, 40, tick=100) for a in done.actions]
    assert deeds == []


def test_a_build_that_fails_is_remembered_and_the_adapter_goes_on_serving() -> None:
    world = settle(serving_v1().promote(), 30, finish="fails")
    assert world.served == adapter(V1) and world.answering()
    assert world.reason("ArtifactBuilt") == ("False", "Broken")
    assert world.reason("Ready") == ("False", "Broken")


def test_a_candidate_that_is_never_ready_is_rejected_at_its_deadline() -> None:
    world = until(serving_v1().promote(), lambda w: bool(w.merged))
    world.merged[M1].never_starts = True
    world.merged[M1].available = False
    world.merged[M1].trouble = "pod m: OOMKilled"
    settle(world, 40, tick=30)
    assert world.served == adapter(V1) and world.answering()
    assert world.merged == {}
    assert world.condition("Validated") == (
        "False",
        "CandidateNotReady",
        "the merged model was not available within 15m: pod m: OOMKilled. "
        "Change the spec, or set the annotation adapterrelease.dev/retry to a new value, to try again.",
    )


# -- rollback by itself


def break_it(world: World, artifact_id: str = M1) -> None:
    world.merged[artifact_id].errors += 1000
    world.merged[artifact_id].requests += 1000


def test_failing_checks_roll_back_by_themselves_and_the_artifact_is_remembered() -> None:
    world = observing()
    settle(world, 3)
    break_it(world)
    for _ in run(world, 60):
        assert world.answering()
    assert world.served == adapter(V1)
    assert world.history[0].reason == Reason.ROLLED_BACK
    assert world.reason("Promoted") == ("False", "ChecksFailed")
    assert world.reason("Degraded") == ("True", "RolledBack")
    status, reason, message = world.condition("Ready")
    assert (status, reason) == ("False", "RolledBack")
    assert message.startswith("ChecksFailed: error rate 0.9") and "over maxErrorRate 0.01" in message
    assert world.merged == {}
    settle(world, 60, tick=60)
    assert world.served == adapter(V1)


def test_the_broken_artifact_stays_up_for_its_delay_after_a_rollback() -> None:
    world = observing()
    settle(world, 3)
    break_it(world)
    until(world, lambda w: w.served == adapter(V1))
    settle(world, 25)
    assert M1 in world.merged
    settle(world, 10)
    assert world.merged == {}


@pytest.mark.parametrize("how", ["retry", "spec"])
def test_a_rejected_artifact_is_tried_again_when_the_user_says_so(how: str) -> None:
    world = observing()
    settle(world, 3)
    break_it(world)
    settle(world, 60)
    if how == "retry":
        world.annotate(retry="2026-01-02")
    else:
        rollout = world.builder.wire["spec"]["rollout"]
        world.edit(rollout=rollout | {"observe": {"duration": "60s", "interval": "10s", "maxErrorRate": "1"}})
    settle(world, 120)
    assert world.served == artifact(M1)
    assert world.reason("Promoted") == ("True", "Promoted")


def test_flipping_the_stage_does_not_make_a_rejected_artifact_good() -> None:
    world = observing()
    settle(world, 3)
    break_it(world)
    settle(world, 60)
    settle(world.edit(stage="Experimental"), 5)
    deeds = [a for done in run(world.promote(), 60) for a in done.actions]
    assert not [a for a in deeds if isinstance(a, act.EnsureMerged | act.SwitchRoute)]


def test_a_slow_artifact_is_rolled_back() -> None:
    world = observing()
    settle(world, 3)
    world.merged[M1].milliseconds += 1_000_000
    settle(world, 60)
    assert world.served == adapter(V1)
    assert "mean latency" in world.condition("Degraded")[2]


def test_failures_up_to_the_limit_are_borne() -> None:
    rollout = serving_v1().builder.wire["spec"]["rollout"]
    observe = {"duration": "60s", "interval": "10s", "failureLimit": 1}
    world = until(serving_v1().promote().edit(rollout=rollout | {"observe": observe}), in_step(Step.OBSERVING))
    settle(world, 3)
    break_it(world)
    settle(world, 90)
    assert world.served == artifact(M1)


def test_a_candidate_that_dies_while_it_is_observed_is_rolled_back_at_once() -> None:
    world = observing()
    world.merged_goes(M1, available=False)
    world.merged[M1].never_starts = True
    settle(world, 4)
    assert world.served == adapter(V1) and world.answering()
    assert "BackendUnavailable: no pod of the merged model is available" in world.condition("Degraded")[2]


def test_a_container_that_restarts_while_it_is_observed_is_a_failure() -> None:
    world = observing()
    settle(world, 3)
    world.merged[M1].container += 1
    settle(world, 40)
    assert world.served == adapter(V1)
    assert "is gone or was restarted" in world.condition("Degraded")[2]


def test_an_artifact_that_dies_after_its_promotion_has_30_seconds_to_come_back() -> None:
    world = promoted()
    world.merged_goes(M1, available=False)
    world.merged[M1].never_starts = True
    settle(world, 25)
    assert world.served == artifact(M1)
    assert world.reason("Ready") == ("False", "NoReadyBackend")
    assert world.reason("Degraded") == ("True", "NoReadyBackend")
    settle(world, 10)
    assert world.served == adapter(V1) and world.answering()
    assert "no pod of the merged model has been available for 30 s" in world.condition("Degraded")[2]
    assert world.reason("Validated") == ("True", "Passed"), "that was another question"


def test_an_artifact_that_comes_back_in_time_keeps_the_route() -> None:
    world = promoted()
    world.merged_goes(M1, available=False)
    world.merged[M1].never_starts = True
    settle(world, 20)
    world.merged_goes(M1, available=True)
    world.merged[M1].never_starts = False
    settle(world, 60)
    assert world.served == artifact(M1) and world.status.rollout.rejected == []


def test_an_artifact_that_dies_after_the_adapter_was_unloaded_waits_for_the_adapter() -> None:
    world = promoted()
    settle(world.pass_time(3600), 15)
    world.merged_goes(M1, available=False)
    world.merged[M1].never_starts = True
    until(world, in_step(Step.ROLLING_BACK))
    assert world.reason("Degraded") == ("True", "NoBackendToRollBackTo")
    settle(world, 10)
    assert world.served == adapter(V1) and world.answering()


def test_a_merged_deployment_that_somebody_deleted_goes_back_to_the_adapter() -> None:
    world = promoted()
    world.lose_deployment(M1)
    settle(world, 4)
    assert world.served == adapter(V1) and world.answering()


def test_a_merged_deployment_that_somebody_deleted_is_made_again_where_no_base_pod_could_take_over() -> None:
    """Who has promoted everything may scale the base to zero."""
    world = promoted()
    world.pods = {}
    world.lose_deployment(M1)
    settle(world, 5)
    assert world.served == artifact(M1) and world.answering()


@pytest.mark.parametrize(("outcome", "serves"), [("Keep", artifact(M1)), ("RollBack", adapter(V1))])
def test_an_observation_without_data_ends_as_the_spec_says(outcome: str, serves: object) -> None:
    world = serving_v1().promote()
    rollout = world.builder.wire["spec"]["rollout"]
    observe = {"duration": "60s", "interval": "10s", "onMissingData": outcome}
    world.edit(rollout=rollout | {"observe": observe})
    until(world, in_step(Step.OBSERVING))
    world.merged[M1].unreadable = True
    settle(world, 50)
    assert world.served == artifact(M1), "missing data holds"
    settle(world, 30)
    assert world.served == serves
    if outcome == "RollBack":
        assert "NoData: the observation ended without data" in world.condition("Degraded")[2]


def test_a_switch_that_the_route_never_proves_is_given_up_at_its_deadline() -> None:
    world = serving_v1().promote()
    until(world, in_step(Step.VALIDATING))
    world.answers_wrong = True
    settle(world, 66)
    world.answers_wrong = False
    settle(world, 60)
    assert world.served == adapter(V1) and world.answering()
    assert world.reason("Promoted") == ("False", "SwitchNotProven")
    assert [r.id for r in world.status.rollout.rejected] == [M1]


def test_a_way_back_whose_deployment_was_deleted_is_made_again() -> None:
    world = promoted()
    world.answers_wrong = True
    until(world.edit(stage="Experimental"), in_step(Step.ROLLING_BACK))
    world.lose_deployment(M1)
    world.answers_wrong = False
    settle(world, 3)
    assert world.history[0].backend == artifact(M1) and world.answering()


def test_a_way_back_that_is_dead_is_left_for_an_adapter_that_answers() -> None:
    world = promoted()
    world.answers_wrong = True
    until(world.edit(stage="Experimental"), in_step(Step.ROLLING_BACK))
    world.merged[M1].never_starts = True
    world.merged_goes(M1, available=False)
    world.answers_wrong = False
    settle(world, 70)
    assert world.served == adapter(V1) and world.answering()


def test_a_new_version_that_is_set_during_a_rollback_is_taken_when_that_is_done() -> None:
    world = observing()
    settle(world, 3)
    break_it(world)
    until(world, in_step(Step.ROLLING_BACK))
    world.set_version(2)
    until(world, lambda w: w.served == adapter(V1))
    settle(world, 120)
    assert world.served == artifact(M2)
    assert world.reason("Promoted") == ("True", "Promoted")


def rolling_back_to_nothing() -> World:
    """The merged model died after the adapter behind it was unloaded, and no base pod takes that again."""
    world = settle(promoted().pass_time(3600), 15)
    for pod in world.pods.values():
        pod.refuses = {hex_of(V1)}
    world.merged_goes(M1, available=False)
    world.merged[M1].never_starts = True
    return settle(until(world, in_step(Step.ROLLING_BACK)), 5)


def test_a_new_version_that_is_set_during_a_rollback_that_cannot_end_is_where_it_goes() -> None:
    world = rolling_back_to_nothing().set_version(2)
    until(world, lambda w: bool(w.answering()), rounds=70)
    settle(world, 2)
    assert world.served == adapter(V2) and len(world.answering()) == 2
    settle(world, 120)
    assert world.served == artifact(M2)


def test_a_new_version_that_is_refused_during_a_rollback_does_not_keep_the_old_one_from_coming_back() -> None:
    world = rolling_back_to_nothing()
    for pod in world.pods.values():
        pod.ready, pod.refuses = False, {hex_of(V2)}
    settle(world.set_version(2), 70)
    for name in world.pods:
        world.crash_container(name)
        world.pods[name].ready = True
    settle(world, 140)
    assert world.served == adapter(V1) and world.answering()


def test_the_import_of_a_new_version_that_fails_during_a_rollback_is_remembered() -> None:
    world = settle(rolling_back_to_nothing().set_version(2), 130, finish="fails")
    assert world.status.rollout.step is Step.ROLLING_BACK
    assert world.reason("AdapterImported") == ("False", "Broken")


# -- rollback by the user


def test_the_stage_set_back_brings_the_adapter_back() -> None:
    world = promoted().edit(stage="Experimental")
    for _ in run(world, 10):
        assert world.answering()
    assert world.served == adapter(V1)
    assert world.reason("Promoted") == ("False", "RolledBackByUser")
    assert world.reason("Ready") == ("True", "Serving")
    assert M1 in world.merged
    settle(world, 40)
    assert world.merged == {}


def test_the_stage_set_back_during_an_observation_brings_the_adapter_back_at_once() -> None:
    world = observing().edit(stage="Experimental")
    settle(world, 4)
    assert world.served == adapter(V1)
    assert world.status.rollout.rejected == [], "the user's wish is no verdict on the artifact"


def test_the_stage_set_back_does_not_wait_for_the_import_of_a_new_version() -> None:
    world = promoted().set_version(2).edit(stage="Experimental")
    settle(world, 6, slow=True)
    assert world.served == adapter(V1)
    settle(world, 30)
    assert world.served == adapter(V2)


def test_the_stage_set_back_after_the_adapter_was_unloaded_loads_it_first() -> None:
    world = promoted()
    settle(world.pass_time(3600), 15)
    world.edit(stage="Experimental")
    for _ in run(world, 12):
        assert world.answering()
    assert world.served == adapter(V1)


def test_a_revision_of_an_adapter_is_served_again() -> None:
    world = settle(serving_v1().set_version(2), 30)
    world.edit(rollback={"revision": 1})
    for _ in run(world, 30):
        assert world.answering()
    assert world.served == adapter(V1)
    assert world.reason("Ready") == ("True", "Serving")
    assert world.condition("Promoted") == ("False", "RolledBackByUser", "the spec asks for an earlier backend")
    settle(world.edit(rollback=None), 30)
    assert world.served == adapter(V2)


def test_a_revision_of_an_artifact_whose_deployment_is_gone_is_started_first() -> None:
    world = settle(promoted().set_version(2), 120)
    assert world.served == artifact(M2) and set(world.merged) == {M2}
    revision = next(h.revision for h in world.history if h.backend == artifact(M1))
    world.edit(rollback={"revision": revision})
    for _ in run(world, 20):
        assert world.answering()
    assert world.served == artifact(M1)
    assert world.reason("Ready") == ("True", "Serving")
    settle(world, 40)
    assert set(world.merged) == {M1}


def test_a_revision_whose_deployment_does_not_start_leaves_what_serves_and_says_so() -> None:
    world = settle(promoted().set_version(2), 120)
    revision = next(h.revision for h in world.history if h.backend == artifact(M1))
    world.edit(rollback={"revision": revision})
    until(world, lambda w: M1 in w.merged)
    world.merged[M1].never_starts, world.merged[M1].trouble = True, "pod m: ImagePullBackOff"
    world.merged[M1].available = False
    settle(world, 40, tick=30)
    assert world.served == artifact(M2) and world.answering()
    assert world.condition("Ready") == (
        "False",
        "CandidateNotReady",
        "the merged model of the revision is not available since 15m: pod m: ImagePullBackOff; still trying",
    )


def test_a_revision_whose_artifact_breaks_is_rolled_back_and_not_tried_again_by_itself() -> None:
    world = settle(promoted().set_version(2), 120)
    revision = next(h.revision for h in world.history if h.backend == artifact(M1))
    settle(world.edit(rollback={"revision": revision}), 60)
    assert world.served == artifact(M1)
    world.merged_goes(M1, available=False)
    world.merged[M1].never_starts = True
    until(world, lambda w: w.served != artifact(M1))
    world.merged[M1].never_starts = False
    for _ in run(world, 60):
        assert world.answering()
    assert world.served == adapter(V1)
    assert world.reason("Ready") == ("False", "RolledBack")
    assert M1 not in world.merged
    settle(world.annotate(retry="1"), 60)
    assert world.served == artifact(M1)


def test_a_revision_that_never_was_is_refused_and_what_serves_goes_on() -> None:
    world = serving_v1().edit(rollback={"revision": 7})
    settle(world, 5)
    assert world.served == adapter(V1) and world.answering()
    assert world.condition("Ready") == (
        "False",
        "RevisionNotFound",
        "spec.rollback names revision 7, which is not in status.history",
    )


def test_a_revision_that_never_was_ends_the_step_that_was_under_way() -> None:
    world = until(serving_v1().promote(), in_step(Step.BUILDING), slow=True)
    settle(world.edit(rollback={"revision": 7}), 3, slow=True)
    assert world.status.rollout.step is Step.IDLE


def test_the_revision_that_the_spec_names_is_not_cut_off_from_the_history() -> None:
    world = serving_v1()
    rollout = world.builder.wire["spec"]["rollout"]
    world.edit(rollout=rollout | {"revisionHistoryLimit": 1})
    settle(world.set_version(2), 30)
    settle(world.edit(rollback={"revision": 1}), 30)
    assert world.served == adapter(V1)
    assert world.reason("Ready") == ("True", "Serving")


# -- deletion


def test_a_deleted_release_leaves_the_route_then_unloads_and_only_then_goes() -> None:
    world = serving_v1().delete()
    controller = Controller(world)
    controller.reconcile()
    assert labels(world) == [None, None] and world.finalizer
    controller.reconcile()
    assert all(ROUTE in pod.adapters for pod in world.pods.values()), "requests may still be under way"
    settle(world, 10)
    assert all(not pod.adapters for pod in world.pods.values())
    assert not world.finalizer


def test_a_deleted_release_gives_back_what_was_staged() -> None:
    world = serving_v1(pods=1).set_version(2)
    until(world, lambda w: len(w.pods["pod-0"].adapters) == 2)
    settle(world.delete(), 15)
    assert world.pods["pod-0"].adapters == {} and not world.finalizer


def test_a_deleted_release_waits_for_a_server_that_does_not_answer_but_not_for_ever() -> None:
    world = serving_v1()
    world.pods["pod-0"].mute = True
    settle(world.delete(), 30)
    assert world.finalizer, "nobody knows whether the adapter is still there"
    settle(world, 40)
    assert not world.finalizer


def test_a_deleted_release_is_cleaned_up_even_when_the_controller_was_away_for_long() -> None:
    world = serving_v1().delete().pass_time(86400)
    settle(world, 10)
    assert not world.finalizer
    assert labels(world) == [None, None] and all(not pod.adapters for pod in world.pods.values())


def test_a_release_without_the_finalizer_gets_it_before_anything_is_loaded() -> None:
    world = World()
    world.finalizer = False
    settle(world, 2)
    assert world.finalizer


# -- deadlines: every waiting step has one, in status, and an outcome


@pytest.mark.parametrize(
    ("step", "limit", "reason"),
    [
        (Step.IMPORTING, 15 * 60, "ImportDeadlineExceeded"),
        (Step.BUILDING, 2 * 3600, "BuildDeadlineExceeded"),
        (Step.VALIDATING, 30 * 60, "ValidationInconclusive"),
    ],
)
def test_a_job_that_never_ends_is_given_up_at_its_deadline(step: Step, limit: int, reason: str) -> None:
    world = World() if step is Step.IMPORTING else serving_v1().promote()
    before = {Step.IMPORTING: "none", Step.BUILDING: "none", Step.VALIDATING: "build"}[step]
    if before == "build":
        until(world, lambda w: w.status.artifact is not None)
    until(world, in_step(step), slow=True)
    rollout = world.status.rollout
    assert rollout.started_at is not None and rollout.deadline is not None
    assert (rollout.deadline - rollout.started_at).total_seconds() == limit
    settle(world.pass_time(limit - 30), 10, slow=True)
    assert world.status.rollout.step is step, "not before its time"
    settle(world, 40, slow=True)
    assert world.status.rollout.step is Step.IDLE
    assert [r.reason for r in world.status.rollout.rejected] == [reason]
    assert world.reason("Degraded") == ("True", reason)
    quiet(world)


def test_the_deadline_of_a_switch_is_a_minute() -> None:
    world = until(serving_v1().set_version(2), in_step(Step.SWITCHING))
    rollout = world.status.rollout
    assert rollout.started_at is not None and rollout.deadline is not None
    assert (rollout.deadline - rollout.started_at).total_seconds() == 60


def test_the_route_selects_the_loaded_label_of_the_version_that_serves() -> None:
    world = serving_v1()
    assert world.selector == {"app": "tiny-llama", LOADED: hex_of(V1)[:8]}
