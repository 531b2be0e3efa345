"""What a release waits for that only people can do, in lives on the small cluster."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from controller.api.status import Step
from controller.domain.people import Wait, waits_for_people
from controller.domain.plan import plan
from tests.domain.lives import break_it, in_step, observing, promoted, serving_v1
from tests.domain.test_shifting import approve, at, promoting
from tests.domain.turns import run, settle, until
from tests.domain.world import World


def waits(world: World, refused: bool = False) -> tuple[Wait, ...]:
    seen = world.snapshot()
    return waits_for_people(seen, plan(seen, world.now).status, world.now, refused)


@pytest.mark.parametrize("life", [World, serving_v1, promoted, observing])
def test_what_goes_well_waits_for_nobody(life: Callable[[], World]) -> None:
    assert waits(life()) == ()


def test_nobody_is_waited_for_on_the_way_to_a_promotion() -> None:
    world = serving_v1().promote()
    assert {waits(world) for _ in run(world, 90)} == {()}


def test_a_step_of_a_canary_without_a_pause_waits_for_approval_and_one_with_a_pause_does_not() -> None:
    assert waits(settle(at(10), 5)) == ()
    world = until(at(50), lambda w: bool(waits(w)))
    assert waits(world) == (Wait.APPROVAL,)
    assert waits(approve(world, 50)) == ()


def test_a_canary_whose_check_has_not_passed_waits_for_no_person() -> None:
    world = at(50)
    assert world.status.rollout.samples == []
    assert waits(world) == ()


def test_nobody_answers_a_canary_and_it_waits_for_a_decision() -> None:
    world = settle(settle(at(50), 10).pass_time(26 * 3600), 5, slow=True)
    assert waits(world) == (Wait.DECISION,)


def test_after_a_rejection_another_spec_or_the_annotation_is_waited_for() -> None:
    world = observing()
    settle(world, 3)
    break_it(world)
    settle(world, 60)
    assert waits(world) == (Wait.DECISION,)
    assert waits(world.annotate(retry="again")) == ()


def test_an_import_that_fails_waits_for_a_decision_although_nothing_serves_yet() -> None:
    world = settle(World(), 10, finish="fails")
    assert waits(world) == (Wait.DECISION,)
    assert waits(world.set_version(2)) == ()


def test_a_base_that_is_gone_has_to_be_mended() -> None:
    world = serving_v1()
    world.base_is_deleted()
    assert waits(world) == (Wait.MENDING,)
    world.base_comes_back()
    assert waits(settle(world, 10)) == ()


def test_a_step_that_goes_on_after_its_deadline_does_not_end_by_itself() -> None:
    world = World()
    for pod in world.pods.values():
        pod.mute = True
    until(world, in_step(Step.LOADING))
    assert waits(settle(world, 10, tick=30)) == ()
    assert waits(settle(world, 20, tick=60)) == (Wait.MENDING,)


def test_what_the_api_server_refuses_has_to_be_mended() -> None:
    assert waits(serving_v1(), refused=True) == (Wait.MENDING,)


def test_a_release_that_is_being_deleted_waits_for_nobody() -> None:
    world = observing()
    settle(world, 3)
    break_it(world)
    assert waits(settle(world, 60).delete(), refused=True) == ()


def test_the_question_changes_nothing() -> None:
    world = promoting()
    for _ in run(world, 60):
        seen = world.snapshot()
        status = plan(seen, world.now).status
        before = status.model_dump_json()
        waits_for_people(seen, status, world.now)
        assert status.model_dump_json() == before
