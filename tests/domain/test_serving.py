"""The adapter on the base's pods: the first load, new versions, deletion."""

from __future__ import annotations

from dataclasses import replace

from controller.api.reasons import Reason
from controller.api.status import Step
from controller.domain import actions as act
from controller.domain.plan import plan
from controller.domain.snapshot import PodFacts, hex_of
from tests.builders import adapter
from tests.domain.lives import V1, V2, V3, in_step, labels, serving_v1, steps_of
from tests.domain.turns import Controller, quiet, run, settle, until
from tests.domain.world import LOADED, ROUTE, World

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
        "GapFree",
        "Progressing",
        "Degraded",
        "Stalled",
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


def test_the_route_selects_the_loaded_label_of_the_version_that_serves() -> None:
    world = serving_v1()
    assert world.selector == {"app": "tiny-llama", LOADED: hex_of(V1)[:8]}


def test_the_route_follows_the_base_to_another_port() -> None:
    world = serving_v1()
    world.base_gets_another_port()
    settle(world, 10)
    assert world.target_port == 9000 and len(world.answering()) == 2
    assert world.reason("Ready") == ("True", "Serving")


def test_the_port_of_the_route_stays_until_a_pod_is_heard_at_the_new_one() -> None:
    """Pods of the older template listen where they always did, and are all that answers."""
    world = serving_v1()
    assert world.base is not None
    world.base = replace(world.base, port=9000)
    for pod in world.pods.values():
        pod.mute = True
    settle(world, 5)
    assert world.target_port == 8000
    world.pods["pod-0"].mute = False
    settle(world, 2)
    assert world.target_port == 9000


def test_a_port_of_the_route_that_somebody_changed_is_put_right() -> None:
    world = serving_v1()
    world.target_port = 1
    settle(world, 2)
    assert len(world.answering()) == 2


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
    assert world.reason("Ready") == ("False", "NoFreeAdapterSlot")


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
    assert world.served == adapter(V1) and len(world.answering()) == 2
    deeds = [a for done in run(world, 60) for a in done.actions]
    assert deeds == [], "a pod that refused it once is left in peace"


def test_when_the_version_that_serves_was_lost_everywhere_and_is_refused_the_new_one_is_loaded() -> None:
    """A base that came back with a lower --max-lora-rank takes v2, but not v1 any more."""
    world = serving_v1()
    for name, pod in world.pods.items():
        world.crash_container(name)
        pod.ready, pod.refuses = True, {hex_of(V1)}
    settle(world.set_version(2), 60)
    assert world.served == adapter(V2) and len(world.answering()) == 2


# -- deletion


def test_a_deleted_release_leaves_the_route_then_unloads_and_only_then_goes() -> None:
    world = serving_v1().delete()
    controller = Controller(world)
    controller.reconcile()
    assert labels(world) == [None, None] and world.finalizer
    assert world.condition("Ready") == ("False", "Deleting", "the release is being deleted")
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


def test_a_deleted_release_waits_for_a_server_that_is_not_ready_and_has_its_adapter() -> None:
    world = serving_v1()
    world.pods["pod-0"].ready = False
    settle(world.delete(), 30)
    assert world.finalizer and ROUTE in world.pods["pod-0"].adapters
    world.pods["pod-0"].ready = True
    settle(world, 10)
    assert not world.finalizer and world.pods["pod-0"].adapters == {}


def test_a_deleted_release_does_not_wait_for_ever_for_a_server_that_is_not_ready() -> None:
    world = serving_v1()
    world.pods["pod-0"].ready = False
    settle(world.delete(), 70)
    assert not world.finalizer


def test_a_deleted_release_does_not_wait_for_a_pod_that_never_ran() -> None:
    world = serving_v1().delete()
    settle(world, 3)
    seen = world.snapshot()
    waits = PodFacts(name="pod-9", uid="pod-9")
    empty = tuple(replace(p, adapters={}, loaded_label=None) for p in seen.base_pods)
    done = plan(replace(seen, base_pods=(*empty, waits)), world.now)
    assert [type(a) for a in done.actions] == [act.RemoveFinalizer]


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
