"""A base with the engine plugin: updates are flips, nothing is taken from clients, and they follow the route."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from controller.api.reasons import Reason
from controller.api.status import Step
from controller.domain import actions as act
from controller.domain.plan import plan
from controller.domain.snapshot import JobState, PodFacts, Snapshot, hex_of
from tests.builders import adapter, artifact
from tests.domain.lives import M1, V1, V2, break_it, in_step, promoted, serving_v1, steps_of, switched_in_vain
from tests.domain.turns import Controller, quiet, run, settle, until
from tests.domain.world import ROUTE, ROUTED, World

OLD, NEW = (f"{ROUTE}@{hex_of(digest)[:12]}" for digest in (V1, V2))


def roots(world: World) -> set[str]:
    """Digests that clients of the route get."""
    return {(world.root(world.pods[name]) or "").rpartition("/")[2] for name in world.routed_pods()}


def actions_until_idle(world: World, rounds: int = 40) -> list[act.Action]:
    done: list[act.Action] = []
    for planned in run(world, rounds):
        done += planned.actions
    return done


# -- updates


@pytest.mark.parametrize("pods", [1, 2, 3])
def test_an_update_moves_neither_labels_nor_the_route(pods: int) -> None:
    world = settle(World(pods, plugin=True), 12)
    assert world.selector == {"app": "tiny-llama", ROUTED: "true"}
    world.set_version(2)
    done = actions_until_idle(world)
    assert world.served == adapter(V2)
    assert {type(a) for a in done} == {act.EnsureJob, act.StageAdapter, act.FlipAlias, act.UnloadAdapter}
    assert len(world.routed_pods()) == pods
    assert all(set(pod.adapters) == {NEW} for pod in world.pods.values())


def test_every_pod_has_proven_the_new_version_before_the_first_one_flips() -> None:
    world = serving_v1(3, plugin=True).set_version(2)
    until(world, in_step(Step.LOADING))
    controller = Controller(world)
    while world.status.rollout.step is not Step.SWITCHING:
        controller.step()
    assert all({OLD, NEW} <= set(pod.adapters) for pod in world.pods.values())
    assert roots(world) == {hex_of(V1)}
    flips = [a for a in controller.todo if isinstance(a, act.FlipAlias)]
    assert sorted(a.pod for a in flips) == ["pod-0", "pod-1", "pod-2"]
    assert {(a.engine_name, a.version) for a in flips} == {(NEW, "v2")}


def test_a_new_pod_gets_the_version_that_serves_while_the_next_one_is_loaded() -> None:
    world = serving_v1(2, plugin=True).set_version(2)
    world.pods["pod-1"].mute = True
    new = world.add_pod()
    for _ in run(world, 30):
        held = world.root(new)
        assert (
            held is None
            or held.endswith(hex_of(V1))
            or world.status.rollout.step is Step.SWITCHING
            or (world.served == adapter(V2))
        )
    assert new.routed


def test_without_a_free_slot_the_update_waits_and_says_so() -> None:
    world = serving_v1(1, slots=2, plugin=True)
    world.pods["pod-0"].adapters["stranger"] = "/elsewhere"
    settle(world.set_version(2), 30)
    assert world.served == adapter(V1)
    assert set(world.pods["pod-0"].adapters) == {OLD, "stranger"}
    _, reason, message = world.condition("AdapterLoaded")
    assert reason == Reason.NO_FREE_ADAPTER_SLOT
    assert "--max-cpu-loras" in message
    del world.pods["pod-0"].adapters["stranger"]
    settle(world, 30)
    assert world.served == adapter(V2)


def test_the_old_version_stays_until_its_last_request_has_ended() -> None:
    world = serving_v1(1, plugin=True)
    pod = world.pods["pod-0"]
    pod.running[OLD] = 1
    settle(world.set_version(2), 60)
    assert world.served == adapter(V2)
    assert set(pod.adapters) == {OLD, NEW}
    pod.running.clear()
    settle(world, 3)
    assert set(pod.adapters) == {NEW}


def test_a_request_that_never_ends_does_not_keep_the_old_version_for_ever() -> None:
    world = serving_v1(1, plugin=True)
    world.pods["pod-0"].running[OLD] = 1
    settle(world.set_version(2), 60, tick=15)
    assert set(world.pods["pod-0"].adapters) == {NEW}


def test_a_pod_that_refuses_the_new_version_leaves_the_route_after_the_others_have_flipped() -> None:
    world = serving_v1(2, plugin=True)
    world.pods["pod-1"].refuses = {hex_of(V2)}
    settle(world.set_version(2), 60)
    assert world.served == adapter(V2)
    assert world.routed_pods() == ["pod-0"]


def test_where_no_pod_takes_the_new_version_the_old_one_goes_on() -> None:
    world = serving_v1(2, plugin=True)
    for pod in world.pods.values():
        pod.refuses = {hex_of(V2)}
    settle(world.set_version(2), 60)
    assert world.served == adapter(V1)
    assert len(world.routed_pods()) == 2
    assert roots(world) == {hex_of(V1)}


def test_a_flip_whose_label_was_not_written_is_labelled_and_not_taken_out() -> None:
    world = serving_v1(1, plugin=True)
    world.pods["pod-0"].loses_writes = True
    until(world.set_version(2), lambda w: w.pods["pod-0"].alias == NEW)
    world.pods["pod-0"].loses_writes = False
    done = actions_until_idle(world)
    assert not any(isinstance(a, act.RemoveLabel) for a in done)
    assert world.pods["pod-0"].label == hex_of(V2)[:8]
    assert world.served == adapter(V2)


def test_going_back_to_a_revision_is_a_flip_too() -> None:
    world = settle(serving_v1(1, plugin=True).set_version(2), 40)
    world.edit(rollback={"revision": 1})
    done = actions_until_idle(world)
    assert world.served == adapter(V1)
    assert not any(isinstance(a, act.RemoveLabel | act.SwitchRoute) for a in done)


def test_after_a_restart_without_the_controller_the_label_is_true() -> None:
    world = settle(serving_v1(2, plugin=True).set_version(2), 40)
    world.crash_container("pod-0")
    world.pods["pod-0"].ready = True
    assert world.root(world.pods["pod-0"]) == world.root(world.pods["pod-1"])
    assert not world.lies(world.pods["pod-0"])
    quiet(world)
    assert len(world.routed_pods()) == 2


# -- with and without it


def test_a_base_gets_the_plugin_without_a_moment_without_an_answer() -> None:
    world = serving_v1(2)
    world.base_gets_the_plugin()
    for name in ["pod-0", "pod-1"]:
        settle(world, 15)
        assert world.condition("GapFree")[:2] == ("False", Reason.NO_ENGINE_PLUGIN)
        assert name in world.condition("GapFree")[2]
        del world.pods[name]
        assert world.answering()
    settle(world, 10)
    assert world.selector == {"app": "tiny-llama", ROUTED: "true"}
    assert world.reason("GapFree") == ("True", Reason.ENGINE_PLUGIN_DIFFERS)  # the world ships none


def test_a_server_with_one_slot_is_updated_pod_by_pod() -> None:
    world = serving_v1(2, slots=1, plugin=True)
    assert world.reason("GapFree") == ("False", Reason.ONE_ADAPTER_SLOT)
    settle(world.set_version(2), 60)
    assert world.served == adapter(V2)
    assert len(world.answering()) == 2


def test_a_base_without_the_plugin_says_what_is_not_promised() -> None:
    status, reason, message = serving_v1().condition("GapFree")
    assert (status, reason) == ("False", Reason.NO_ENGINE_PLUGIN)
    assert "one after the other" in message
    assert "adapterrelease enable tiny-llama" in message


def test_a_plugin_that_was_not_asked_is_named_with_the_cause() -> None:
    world = serving_v1(1, plugin=True)
    seen = world.snapshot()
    pods = tuple(replace(p, plugin=None, adapters=None, ask_problem="403: wrong token") for p in seen.base_pods)
    found = _gap_free(replace(seen, base_pods=pods), world)
    assert found == ("Unknown", Reason.ENGINE_PLUGIN_NOT_ASKED, "pod pod-0 was not asked: 403: wrong token")


def test_a_version_that_was_not_loaded_again_is_said() -> None:
    world = serving_v1(1, plugin=True)
    seen = replace(world.snapshot(), plugin_version="p1")
    assert _gap_free(seen, world)[:2] == ("True", Reason.ENGINE_PLUGIN)
    pods = tuple(_with_restore_failure(p) for p in seen.base_pods)
    assert "pod-0: no such file" in _gap_free(replace(seen, base_pods=pods), world)[2]


def _with_restore_failure(pod: PodFacts) -> PodFacts:
    assert pod.plugin is not None
    return replace(pod, plugin=replace(pod.plugin, restore_failure="no such file"))


def _gap_free(seen: Snapshot, world: World) -> tuple[str, str, str]:
    found = next(c for c in plan(seen, world.now).status.conditions if c.type == "GapFree")
    return found.status, found.reason, found.message


# -- the switch


def test_who_loses_the_route_is_told_before_the_switch_is_reported() -> None:
    world = serving_v1(2, plugin=True).promote()
    until(world, in_step(Step.SWITCHING))
    until(world, lambda w: w.selector is not None and ROUTED not in w.selector)
    moved_at = world.now
    assert world.served == adapter(V1)
    until(world, lambda w: w.served == artifact(M1))
    assert all(pod.told_away_at is not None for pod in world.pods.values())
    assert world.now - moved_at >= timedelta(seconds=6)


def about_to_switch(world: World) -> Controller:
    """Its next write moves the route to the merged model."""
    settle(until(world.promote(), in_step(Step.VALIDATING)), 3, slow=True)
    for key in [key for key, job in world.jobs.items() if job.facts.state is JobState.ACTIVE]:
        world.end_job(key, "good")
    controller = Controller(world)
    for _ in range(60):
        if controller.todo and isinstance(controller.todo[0], act.SwitchRoute):
            return controller
        controller.step()
    raise AssertionError("it never switches")


def test_a_controller_that_dies_as_it_moves_the_route_has_told_who_loses_it() -> None:
    world = serving_v1(2, plugin=True)
    about_to_switch(world).step()
    assert ROUTED not in (world.selector or {})
    assert all(pod.told_away_at is not None for pod in world.pods.values())


def test_who_was_told_of_a_switch_that_failed_is_not_told_the_contrary_while_it_is_tried_again() -> None:
    world = serving_v1(2, plugin=True)
    controller = about_to_switch(world)
    for pod in world.pods.values():
        pod.told_away_at = world.now
    told = [a for a in controller.look().actions if isinstance(a, act.SwitchRoute | act.TellRouted)]
    assert [type(a) for a in told] == [act.SwitchRoute]


def test_a_candidate_is_not_told_before_it_had_clients() -> None:
    world = until(serving_v1(2, plugin=True).promote(), in_step(Step.VALIDATING))
    settle(world, 3, finish="no result", slow=True)
    assert all(m.told_away_at is None for m in world.merged.values())
    until(world, lambda w: ROUTED not in (w.selector or {}))
    assert world.merged[M1].told_away_at is None


def test_after_a_rollback_the_adapter_is_told_that_it_has_the_route_again() -> None:
    world = until(serving_v1(2, plugin=True).promote(), in_step(Step.OBSERVING))
    settle(world, 3)
    break_it(world)
    until(world, lambda w: w.served == adapter(V1))
    assert all(pod.told_away_at is None for pod in world.pods.values())
    assert world.merged[M1].told_away_at is not None


def test_a_switch_is_reported_at_its_deadline_though_a_server_does_not_hear() -> None:
    world = serving_v1(1, plugin=True).promote()
    until(world, in_step(Step.SWITCHING))
    for _ in run(world, 70):
        for pod in world.pods.values():
            pod.told_away_at = None
        if world.served == artifact(M1):
            break
    assert world.served == artifact(M1)


def test_a_merged_model_that_lost_the_route_stays_while_requests_run() -> None:
    world = promoted(2, plugin=True)
    world.merged[M1].running = 1
    settle(world.edit(stage="Experimental"), 120)
    assert world.served == adapter(V1)
    assert M1 in world.merged
    world.merged[M1].running = 0
    settle(world, 5)
    assert M1 not in world.merged


def test_steps_of_an_update_are_those_of_any_other_base() -> None:
    world = serving_v1(2, plugin=True).set_version(2)
    assert steps_of(world, 20) == [Step.IMPORTING, Step.LOADING, Step.SWITCHING, Step.IDLE]


def test_a_release_whose_time_to_go_is_over_leaves_nothing_on_a_server_that_comes_back() -> None:
    world = serving_v1(1, plugin=True)
    world.crash_container("pod-0")
    settle(world, 3)
    settle(world.delete(), 30)
    world.pass_time(90)
    world.pods["pod-0"].ready = True
    Controller(world).reconcile()
    assert not world.finalizer
    assert world.pods["pod-0"].adapters == {}
    assert world.pods["pod-0"].remembered is None


def test_a_pod_that_ends_is_told_at_once() -> None:
    world = serving_v1(2, plugin=True)
    world.pods["pod-0"].deleting, world.pods["pod-0"].ready = True, False
    settle(world, 2)
    assert world.pods["pod-0"].told_away_at is not None
    assert world.pods["pod-1"].told_away_at is None


# -- what reviewers found


@pytest.mark.parametrize("pods", [1, 2])
def test_the_old_version_stays_while_the_switch_is_not_proven(pods: int) -> None:
    """The label of a pod was not written with its flip: the next pass finds the route unproven."""
    world = serving_v1(pods, plugin=True)
    world.pods["pod-0"].running[OLD] = 1
    world.pods[f"pod-{pods - 1}"].loses_writes = True
    until(world.set_version(2), lambda w: w.pods["pod-0"].alias == NEW)
    for _ in run(world, 3):
        assert OLD in world.pods["pod-0"].adapters


def test_the_old_version_stays_while_the_controller_hears_late_of_its_own_flip() -> None:
    world = serving_v1(1, plugin=True)
    world.pods["pod-0"].running[OLD] = 1
    until(world.set_version(2), in_step(Step.SWITCHING))
    controller = Controller(world)
    controller.reconcile()
    assert world.pods["pod-0"].label == hex_of(V2)[:8]
    controller.lagging = True
    controller.reconcile()
    assert OLD in world.pods["pod-0"].adapters


def test_a_server_that_was_not_heard_once_keeps_the_old_version() -> None:
    world = serving_v1(1, plugin=True)
    pod = world.pods["pod-0"]
    pod.running[OLD] = 1
    settle(world.set_version(2), 40)
    pod.mute = True
    settle(world, 1)
    pod.mute = False
    settle(world, 3)
    assert OLD in pod.adapters


def test_a_merged_model_that_was_not_heard_once_stays() -> None:
    world = promoted(2, plugin=True)
    world.merged[M1].running = 1
    settle(world.edit(stage="Experimental"), 120)
    world.merged[M1].unheard = True
    settle(world, 1)
    world.merged[M1].unheard = False
    settle(world, 3)
    assert M1 in world.merged


def test_a_pod_that_may_come_back_with_the_old_version_holds_up_the_report() -> None:
    world = serving_v1(2, plugin=True).set_version(2)
    until(world, in_step(Step.SWITCHING))
    world.pods["pod-1"].loses_writes = True
    controller = Controller(world)
    controller.reconcile()
    world.crash_container("pod-1")  # its plugin remembers v1
    for _ in range(5):
        if world.served == adapter(V2):
            break
        controller.reconcile()
    assert world.served == adapter(V2)
    world.pods["pod-1"].ready = True
    assert roots(world) == {hex_of(V2)}


def test_one_full_pod_holds_up_an_update_until_the_deadline_and_no_longer() -> None:
    world = serving_v1(4, slots=2, plugin=True)
    world.pods["pod-3"].adapters["stranger"] = "/elsewhere"
    settle(world.set_version(2), 30)
    assert world.served == adapter(V1)
    assert world.reason("GapFree") == ("False", Reason.NO_FREE_ADAPTER_SLOT)
    settle(world, 60, tick=15)
    assert world.served == adapter(V2)
    assert sorted(world.routed_pods()) == ["pod-0", "pod-1", "pod-2"]


def test_a_new_pod_between_decision_and_flip_is_no_reason_to_go_back() -> None:
    world = serving_v1(2, plugin=True).set_version(2)
    until(world, in_step(Step.SWITCHING))
    world.add_pod()
    said = [note.type for planned in run(world, 30) for note in planned.notes]
    assert world.served == adapter(V2)
    assert "Warning" not in said


def test_an_older_delay_does_not_count_for_the_next_time_that_the_route_is_lost() -> None:
    world = promoted(2, plugin=True)
    world.merged[M1].running = 1
    until(world.edit(stage="Experimental"), lambda w: w.served == adapter(V1))
    settle(world, 90)
    switched_in_vain(world)
    world.merged[M1].running = 0
    settle(world, 3)
    assert M1 in world.merged


def test_a_server_that_is_not_heard_now_and_then_is_no_news() -> None:
    world = serving_v1(2, plugin=True)
    said = []
    for number, planned in enumerate(run(world, 12)):
        said += planned.notes
        world.pods["pod-0"].mute = number % 2 == 0
    assert said == []
