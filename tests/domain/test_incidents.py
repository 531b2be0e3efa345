"""One test for each incident of another controller that the decision has to be proof against, and named after it.

A number is that of the issue or pull request in the named project.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.api.reasons import Reason
from controller.api.status import Step
from controller.domain import actions as act
from controller.domain.plan import plan
from controller.domain.snapshot import SHORT, LoadFailure, Snapshot, hex_of
from tests.builders import T0, adapter, artifact
from tests.domain.lives import M1, M2, V1, V2, break_it, observing, promoted, serving_v1
from tests.domain.turns import Controller, run, settle, until
from tests.domain.world import ROUTE, World


def actions_of(world: World, rounds: int, *kinds: type[act.Action]) -> list[act.Action]:
    return [a for done in run(world, rounds) for a in done.actions if isinstance(a, kinds)]


# -- Flagger


def test_flagger_1931_a_rollback_after_a_promotion_goes_back_to_the_last_backend_that_answers() -> None:
    """There the rollback after the promotion routed to the broken primary, and deleted the only pods that worked."""
    world = settle(promoted().set_version(2), 120)
    assert world.served == artifact(M2)
    world.merged_goes(M2, available=False)
    world.merged[M2].never_starts = True
    settle(world, 60)
    assert world.served == adapter(V2) and world.answering()


def test_flagger_1931_the_last_proven_server_is_never_removed_while_the_new_one_is_broken() -> None:
    world = promoted().set_version(2)
    until(world, lambda w: M2 in w.merged)
    world.merged[M2].never_starts = True
    for _ in run(world, 60, tick=30):
        assert M1 in world.merged and world.answering()
    assert world.served == artifact(M1)


def test_flagger_1931_a_rollback_whose_target_does_not_answer_leaves_the_route_where_it_is() -> None:
    world = observing()
    settle(world, 3)
    for pod in world.pods.values():
        pod.ready = False
    break_it(world)
    for done in run(world, 60):
        assert not [a for a in done.actions if isinstance(a, act.SwitchRoute | act.DeleteMerged)]
    assert world.routed_pods() == [f"merged-{world.merged[M1].uid}"]
    assert world.reason("Degraded") == ("True", "NoBackendToRollBackTo")
    for pod in world.pods.values():
        pod.ready = True
    settle(world, 10)
    assert world.served == adapter(V1) and world.answering()


def test_flagger_256_310_what_lost_the_route_stays_up_until_its_delay_is_over() -> None:
    """There the old pods went while requests were on their way to them."""
    world = promoted().edit(stage="Experimental")
    until(world, lambda w: w.served == adapter(V1))
    left_at = world.now
    until(world, lambda w: M1 not in w.merged)
    assert (world.now - left_at).total_seconds() >= 29


def test_flagger_256_310_a_pod_unloads_only_after_it_has_been_out_of_the_route_for_its_delay() -> None:
    world = serving_v1().set_version(2)
    until(world, lambda w: any(p.label is None for p in w.pods.values()))
    pod = next(p for p in world.pods.values() if p.label is None)
    left_at = world.now
    until(world, lambda w: ROUTE not in pod.adapters)
    assert (world.now - left_at).total_seconds() >= 4


@pytest.mark.parametrize("step", [s for s in Step if s is not Step.IDLE])
def test_flagger_1591_1450_no_step_waits_without_a_deadline(step: Step) -> None:
    """There a promotion that could not end waited for ever."""
    world = World() if step in (Step.IMPORTING, Step.LOADING) else serving_v1().promote()
    if step is Step.SHIFTING:
        canary = {"httpRoute": "bot", "steps": [{"weight": 10, "pause": "1m"}]}
        world.edit(rollout={"strategy": "Canary", "canary": canary})
    for _ in run(world, 100):
        if step is Step.ROLLING_BACK and world.status.rollout.step is Step.OBSERVING:
            world.merged[M1].never_starts = True
        if world.status.rollout.step is step:
            break
    assert world.status.rollout.step is step
    assert world.status.rollout.deadline is not None and world.status.rollout.deadline > T0


def test_flagger_1591_1450_a_controller_that_slept_through_a_deadline_takes_the_outcome_at_its_next_look() -> None:
    world = until(serving_v1().promote(), lambda w: w.status.rollout.step is Step.BUILDING, slow=True)
    settle(world.pass_time(86400), 2, slow=True)
    assert world.reason("ArtifactBuilt") == ("False", "BuildDeadlineExceeded")


# -- Argo Rollouts


def test_argo_2235_2050_3586_the_selector_moves_before_anything_is_taken_down() -> None:
    """There the old replicas went first, and the selector stood on nothing."""
    for world in (promoted().edit(stage="Experimental"), promoted().set_version(2)):
        order = [type(a) for a in actions_of(world, 130, act.SwitchRoute, act.DeleteMerged)]
        assert order == [act.SwitchRoute, act.DeleteMerged]


def test_argo_2235_2050_3586_the_route_moves_only_to_what_is_available() -> None:
    world = until(serving_v1().promote(), lambda w: w.status.rollout.step is Step.SWITCHING)
    world.merged_goes(M1, available=False)
    seen = world.snapshot()
    assert not [a for a in plan(seen, world.now).actions if isinstance(a, act.SwitchRoute)]


def test_argo_4867_no_delay_begins_before_the_shift_of_traffic_is_verified() -> None:
    """There the timer of the abort ran from the moment at which the Service was patched."""
    world = promoted()
    world.endpoints_lag = True
    world.edit(stage="Experimental")
    settle(world, 40)
    assert world.selector is not None and "adapterrelease.dev/artifact" not in world.selector, "it was patched"
    assert world.served == artifact(M1), "but nobody has proven yet that traffic arrives"
    assert M1 in world.merged and world.status.rollout.draining == []
    world.let_endpoints_catch_up()
    settle(world, 2)
    assert world.served == adapter(V1)
    assert [x.backend for x in world.status.rollout.draining] == [artifact(M1)]


def test_argo_4867_an_observation_begins_when_the_new_backend_was_reached() -> None:
    world = serving_v1().promote()
    until(world, lambda w: w.status.rollout.step is Step.VALIDATING)
    world.endpoints_lag = True
    until(world, lambda w: w.status.rollout.step is Step.SWITCHING)
    settle(world, 20)
    assert world.status.rollout.step is Step.SWITCHING
    world.let_endpoints_catch_up()
    settle(world, 1)
    rollout = world.status.rollout
    assert rollout.step is Step.OBSERVING
    assert rollout.deadline is not None
    assert (rollout.deadline - world.now).total_seconds() >= 58


@pytest.mark.parametrize("outcome", ["fails", "no result", "errors", "empty", "nan"])
def test_argo_4479_1329_2158_3850_an_analysis_that_erred_or_just_ended_is_no_success(outcome: str) -> None:
    world = until(serving_v1().promote(), lambda w: w.status.rollout.step is Step.VALIDATING)
    settle(world, 60, finish=outcome)
    assert world.status.artifact is not None and world.status.artifact.verdict == "Inconclusive"
    assert world.served == adapter(V1)
    assert world.reason("Validated") == ("False", "ValidationInconclusive")


def test_argo_4479_1329_2158_3850_an_observation_that_could_not_measure_is_not_counted_as_measured() -> None:
    world = observing()
    world.merged[M1].unreadable = True
    settle(world, 40)
    rollout = world.status.rollout
    assert rollout.measured == 0 and {s.verdict for s in rollout.samples} == {"NoData"}


# -- KubeAI, AIBrix, kthena


def test_kubeai_a_label_goes_as_soon_as_the_container_behind_it_was_restarted() -> None:
    """There the label went on claiming an adapter that the new container did not have."""
    world = serving_v1()
    world.crash_container("pod-0")
    world.pods["pod-0"].ready = True
    done = Controller(world).look()
    assert [type(a) for a in done.actions] == [act.RemoveLabel]
    assert world.snapshot().base_pods[0].loaded_label == hex_of(V1)[:SHORT]


@pytest.mark.parametrize("found", [{}, {ROUTE: f"/store/adapters/finetune/{hex_of(V2)}"}, {ROUTE: "/elsewhere"}])
def test_kubeai_a_label_is_never_taken_as_proof(found: dict[str, str]) -> None:
    world = serving_v1()
    world.pods["pod-0"].adapters = found
    done = Controller(world).look()
    assert any(isinstance(a, act.RemoveLabel) and a.pod == "pod-0" for a in done.actions)


def test_aibrix_801_1860_what_the_server_said_to_a_load_is_in_the_conditions() -> None:
    """There a load that failed was in no status at all."""
    world = World()
    settle(world, 3)
    words = "LoRA rank 64 is greater than max_lora_rank 16"
    seen = world.snapshot()
    failure = LoadFailure(V1, words, True, world.now)
    failing: Snapshot = replace(seen, base_pods=tuple(replace(p, load_failure=failure) for p in seen.base_pods))
    status = plan(failing, world.now).status
    said = {c.type: (c.status, c.reason, c.message) for c in status.conditions}
    assert said["AdapterLoaded"][:2] == ("False", "LoadFailed") and words in said["AdapterLoaded"][2]
    assert said["Ready"][:2] == ("False", "LoadFailed") and words in said["Ready"][2]
    assert said["Degraded"][0] == "True"
    assert status.adapter is not None
    assert {(p.state, p.message) for p in status.adapter.pods} == {("Failed", words)}


def test_aibrix_801_1860_a_load_that_failed_becomes_a_warning_event() -> None:
    world = World()
    for pod in world.pods.values():
        pod.refuses = {hex_of(V1)}
    notes = [n for done in run(world, 15) for n in done.notes]
    assert [(n.type, n.reason) for n in notes if n.reason == Reason.LOAD_FAILED] == [("Warning", "LoadFailed")]


def test_kthena_1778_nothing_is_unloaded_while_it_is_in_the_route() -> None:
    """There an adapter was unloaded under the requests that it was answering."""
    for change in ("version", "delete", "settle"):
        world = promoted() if change == "settle" else serving_v1()
        if change == "version":
            world.set_version(2)
        elif change == "delete":
            world.delete()
        else:
            world.pass_time(3600)
        for done in run(world, 30):
            labelled = {p.name for p in world.pods.values() if p.label}
            unloaded = {a.pod for a in done.actions if isinstance(a, act.UnloadAdapter) and a.engine_name == ROUTE}
            assert not labelled & unloaded
