"""Stalled: True where nothing goes on by itself, and only there. Too early, and who waits gives up what comes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.api.reasons import Reason
from controller.api.status import AdapterReleaseStatus, ConditionType, Step
from controller.domain.plan import plan
from controller.domain.snapshot import LoadFailure, hex_of
from tests.builders import adapter
from tests.domain.lives import V1, V2, V3, in_step, serving_v1
from tests.domain.turns import settle, until
from tests.domain.world import ROUTE, World

both_ways = pytest.mark.parametrize("plugin", [False, True], ids=["pod by pod", "in place"])


def refused(world: World, digest: str, *names: str) -> World:
    """By these pods, or by all."""
    for name in names or world.pods:
        world.pods[name].refuses = {hex_of(digest)}
    return world


def said_when(
    world: World, digest: str, *names: str, permanent: bool = True, later: float = 0.0
) -> AdapterReleaseStatus:
    """What the plan says when these pods have just said no, and the others nothing yet."""
    world.pass_time(later)
    failure, seen = LoadFailure(digest, "no", permanent, world.now), world.snapshot()
    pods = tuple(replace(p, load_failure=failure) if p.name in names else p for p in seen.base_pods)
    return plan(replace(seen, base_pods=pods), world.now).status


def reasons(status: AdapterReleaseStatus) -> dict[str, tuple[str, str]]:
    wanted = (ConditionType.READY, ConditionType.DEGRADED, ConditionType.STALLED)
    return {c.type: (c.status, c.reason) for c in status.conditions if c.type in wanted}


FAILED = {
    kind: (status, Reason.LOAD_FAILED)
    for kind, status in (("Ready", "False"), ("Degraded", "True"), ("Stalled", "True"))
}
EXPECTED = ("False", Reason.AS_EXPECTED)


# -- an update that no pod takes
@both_ways
def test_an_update_that_every_pod_refuses_has_failed_and_the_old_version_serves(plugin: bool) -> None:
    world = settle(refused(serving_v1(plugin=plugin), V2).set_version(2), 40)
    assert reasons(world.status) == FAILED
    assert world.condition("Degraded")[2].endswith("says: no")
    assert world.served == adapter(V1) and len(world.answering()) == 2


@both_ways
def test_after_a_version_that_loads_nothing_of_it_is_left(plugin: bool) -> None:
    world = settle(refused(serving_v1(plugin=plugin), V2).set_version(2), 40)
    settle(world.set_version(3), 60)
    assert reasons(world.status) == {"Ready": ("True", Reason.SERVING), "Degraded": EXPECTED, "Stalled": EXPECTED}
    assert world.served == adapter(V3)


def test_an_update_that_too_many_pods_refuse_for_a_switch_has_failed() -> None:
    """Of four, two have to take it."""
    world = settle(refused(serving_v1(4, plugin=True), V2, "pod-0", "pod-1", "pod-2").set_version(2), 60)
    assert reasons(world.status) == FAILED
    assert "is loaded on" in world.condition("Stalled")[2] and "pod pod-0 says: no" in world.condition("Stalled")[2]
    assert world.served == adapter(V1)


@both_ways
def test_an_update_that_one_of_two_pods_refuses_goes_on_and_is_never_stalled(plugin: bool) -> None:
    world = refused(serving_v1(plugin=plugin), V2, "pod-1").set_version(2)
    for _ in range(40):
        settle(world, 1)
        assert world.reason("Stalled") == EXPECTED
    assert world.served == adapter(V2)
    assert world.reason("Ready") == ("True", Reason.SERVING)


def test_an_update_that_is_late_is_degraded_and_goes_on() -> None:
    world = serving_v1(1).set_version(2)
    until(world, in_step(Step.LOADING))
    status = said_when(world, V2, "pod-0", permanent=False, later=3600)
    assert reasons(status) == FAILED | {"Stalled": EXPECTED}


# -- a first load
@pytest.mark.parametrize("permanent", [True, False])
def test_a_first_load_that_one_pod_has_refused_may_still_succeed_on_another(permanent: bool) -> None:
    world = until(World(), in_step(Step.LOADING))
    status = said_when(world, V1, "pod-0", permanent=permanent)
    assert reasons(status)["Ready"] == ("False", Reason.PENDING)
    assert reasons(status)["Stalled"] == EXPECTED
    loaded = status.condition(ConditionType.ADAPTER_LOADED)
    assert loaded is not None and loaded.reason == Reason.LOAD_FAILED, "it says so all the same"


def test_a_first_load_that_fails_again_and_again_for_a_passing_reason_is_no_ready_release_and_goes_on() -> None:
    world = until(World(), in_step(Step.LOADING))
    status = said_when(world, V1, "pod-0", "pod-1", permanent=False, later=3600)
    assert reasons(status)["Ready"] == ("False", Reason.LOAD_FAILED)
    assert reasons(status)["Stalled"] == EXPECTED


def test_a_pod_that_does_not_answer_may_still_take_it() -> None:
    world = refused(World(), V1, "pod-0")
    world.pods["pod-1"].mute = True
    settle(world, 20)
    assert world.reason("Stalled") == EXPECTED
    world.pods["pod-1"].mute = False
    assert settle(world, 10).served == adapter(V1)


# -- slots
def test_a_full_server_is_stalled_until_there_is_a_slot() -> None:
    world = serving_v1(1, slots=2, plugin=True)
    world.pods["pod-0"].adapters["stranger"] = "/elsewhere"
    settle(world.set_version(2), 10)
    assert world.reason("Stalled") == ("True", Reason.NO_FREE_ADAPTER_SLOT)
    assert world.reason("Degraded") == ("True", Reason.NO_FREE_ADAPTER_SLOT)
    del world.pods["pod-0"].adapters["stranger"]
    settle(world, 30)
    assert world.reason("Stalled") == EXPECTED and world.served == adapter(V2)


def test_a_slot_that_an_older_version_is_about_to_leave_is_none_to_complain_of() -> None:
    """Its last request runs; the next version comes as soon as that has ended."""
    world = settle(serving_v1(1, slots=2, plugin=True).set_version(2), 3)
    old = f"{ROUTE}@{hex_of(V1)[:12]}"
    world.pods["pod-0"].running[old] = 1
    until(world, lambda w: w.served == adapter(V2))
    until(world.set_version(3), in_step(Step.LOADING))
    for _ in range(5):
        settle(world, 1)
        assert old in world.pods["pod-0"].adapters
        assert world.reason("Stalled") == EXPECTED
        assert world.condition("AdapterLoaded")[1] != Reason.NO_FREE_ADAPTER_SLOT
    world.pods["pod-0"].running.clear()
    assert settle(world, 30).served == adapter(V3)


# -- what is remembered with the conditions
def test_a_status_says_for_which_try_it_was_decided() -> None:
    world = settle(World(), 3)
    assert world.status.observed_retry == ""
    settle(world.annotate(retry="2026-11-26T00:00:00Z"), 1)
    assert world.status.observed_retry == "2026-11-26T00:00:00Z"


def test_a_release_that_is_deleted_waits_for_nobody() -> None:
    world = settle(refused(World(), V1), 20)
    assert world.reason("Stalled")[0] == "True"
    assert settle(world.delete(), 1).reason("Stalled") == EXPECTED
