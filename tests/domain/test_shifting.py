"""A canary in the life of a release: what serves goes on serving, the weights follow the memory, and go back."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api.status import Step
from controller.domain import actions as act
from controller.domain.canary import Sighting
from tests.builders import BUILD, VALIDATION, adapter, artifact
from tests.domain.lives import M1, M2, V1, break_it, in_step, promoted, serving_v1, steps_of
from tests.domain.turns import quiet, run, settle, until
from tests.domain.world import World

STEPS: list[dict[str, Any]] = [{"weight": 10, "pause": "20s"}, {"weight": 50}, {"weight": 100, "pause": "5s"}]


def rollout(steps: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    canary = {"httpRoute": "bot", "steps": steps or STEPS, **more}
    observe = {"duration": "60s", "interval": "10s"}
    return {"strategy": "Canary", "canary": canary, "observe": observe, "scaleDownDelay": "30s", "rollbackWindow": "1h"}


def promoting(**more: Any) -> World:
    return serving_v1().edit(stage="Stable", build=BUILD, validation=VALIDATION, rollout=rollout(**more))


def at(weight: int) -> World:
    approved = {"artifact": M1, "weight": 10 if weight == 50 else 50}
    return until(promoting(approved=approved), lambda w: w.accepted == weight)


def approve(world: World, weight: int) -> World:
    return world.edit(rollout=rollout(approved={"artifact": M1, "weight": weight}))


def weights_of(world: World, rounds: int) -> list[int]:
    seen: list[int] = []
    for _ in run(world, rounds):
        if world.weight not in seen[-1:]:
            seen.append(world.weight)
    return seen


def test_it_goes_through_its_steps_then_swaps_and_gives_the_http_route_back() -> None:
    world = promoting(approved={"artifact": M1, "weight": 50})
    assert weights_of(world, 150) == [0, 10, 50, 100, 0]
    assert world.served == artifact(M1)
    assert world.status.rollout.canary is None
    assert world.reason("Promoted") == ("True", "Promoted")
    quiet(world)


def test_the_steps_of_the_release() -> None:
    steps = steps_of(promoting(approved={"artifact": M1, "weight": 100}), 150)
    after = steps[steps.index(Step.SHIFTING) :]
    assert after == [Step.SHIFTING, Step.SWITCHING, Step.OBSERVING, Step.IDLE]


def test_while_it_lasts_the_adapter_serves_and_the_route_stays() -> None:
    world = settle(at(10), 5)
    assert world.served == adapter(V1)
    assert world.selector is not None and "adapterrelease.dev/artifact" not in world.selector
    assert world.status.rollout.deadline is not None
    assert "at 10 %" in world.condition("Progressing")[2]
    quiet(world)


def test_a_step_without_a_pause_waits_for_a_person() -> None:
    world = settle(at(50), 100)
    assert (world.weight, world.served) == (50, adapter(V1))
    assert f"{{artifact: {M1}, weight: 50}}" in world.condition("Progressing")[2]
    assert world.status.rollout.paused and world.reason("Stalled")[0] == "False"
    settle(approve(world, 50), 90)
    assert world.served == artifact(M1) and not world.status.rollout.paused


def test_a_step_with_a_pause_and_one_that_is_approved_are_not_paused() -> None:
    for world in (at(10), approve(at(50), 50)):
        assert not settle(world, 3).status.rollout.paused


def test_a_step_is_paused_from_its_weight_on_whatever_the_checks_say() -> None:
    world = at(50)
    world.merged[M1].unreadable = True
    settle(world, 30)
    assert "until a check passes" in world.condition("Progressing")[2]
    assert world.status.rollout.paused


def test_nobody_answers_and_it_goes_back() -> None:
    world = settle(at(50), 10)
    settle(world.pass_time(26 * 3600), 5, slow=True)
    assert (world.weight, world.served) == (0, adapter(V1))
    assert world.condition("Promoted")[1] == "NotApproved"


@pytest.mark.parametrize("weight", [10, 50, 100])
def test_a_check_that_fails_takes_all_weight_and_is_remembered(weight: int) -> None:
    world = settle(at(weight), 2)
    break_it(world)
    settle(world, 15)
    assert (world.weight, world.served) == (0, adapter(V1))
    assert world.status.rollout.canary is None
    assert world.reason("Promoted") == ("False", "ChecksFailed")
    assert world.reason("Degraded") == ("True", "RolledBack")
    settle(world, 100)
    assert (world.weight, world.status.rollout.step) == (0, Step.IDLE), "not tried again"
    settle(approve(world, 100), 100)
    assert world.weight == 0, "an approval is no new spec"


@pytest.mark.parametrize("weight", [10, 50, 100])
@pytest.mark.parametrize("change", [{"stage": "Experimental"}, {"rollback": {"revision": 1}}])
def test_a_person_ends_it(weight: int, change: dict[str, Any]) -> None:
    world = settle(settle(at(weight), 2).edit(**change), 10)
    assert (world.weight, world.served) == (0, adapter(V1))
    assert world.status.rollout.canary is None
    assert world.status.rollout.rejected == []
    quiet(world)


def test_another_version_ends_it_and_has_one_of_its_own() -> None:
    world = settle(at(50), 2).set_version(2)
    until(world, lambda w: w.weight == 0)
    until(world, lambda w: w.weight == 10)
    assert world.status.rollout.canary is not None
    assert world.status.rollout.canary.artifact != M1


def test_a_candidate_that_dies_loses_its_weight_at_once() -> None:
    world = settle(at(50), 2)
    world.merged[M1].never_starts, world.merged[M1].available = True, False
    settle(world, 4)
    assert (world.weight, world.served) == (0, adapter(V1))
    assert world.status.rollout.rejected[-1].reason == "BackendUnavailable"


def test_when_the_base_dies_the_candidate_has_everything_until_it_is_back() -> None:
    world = settle(at(10), 2)
    for pod in world.pods.values():
        pod.ready = False
    settle(world, 3)
    assert world.weight == 100
    assert world.status.rollout.canary is not None and world.status.rollout.canary.weight == 10
    for pod in world.pods.values():
        pod.ready = True
    settle(world, 5)
    assert world.weight == 10


def test_a_gateway_that_does_not_accept_is_waited_for_until_the_deadline() -> None:
    world = promoting()
    world.gateway_is_late = True
    until(world, lambda w: w.weight == 10)
    settle(world, 100)
    assert world.status.rollout.step is Step.SHIFTING
    assert world.status.rollout.canary is not None and world.status.rollout.canary.since is None
    settle(world.pass_time(3600), 5)
    assert (world.weight, world.served) == (0, adapter(V1))
    assert world.status.rollout.rejected[-1].reason == "SwitchNotProven"


def test_a_switch_that_is_not_proven_takes_the_weight_back_too() -> None:
    world = promoting(approved={"artifact": M1, "weight": 100})
    until(world, in_step(Step.SWITCHING))
    world.answers_wrong = True
    settle(world.pass_time(61), 4)
    assert world.weight == 0
    world.answers_wrong = False
    settle(world, 10)
    assert world.served == adapter(V1)


def test_another_http_route_is_used_after_the_first_was_given_back() -> None:
    world = settle(at(10), 2)
    other = rollout() | {"canary": {"httpRoute": "other", "steps": STEPS}}
    seen = []
    for done in run(world.edit(rollout=other), 10):
        seen += [(a.http_route, a.weight) for a in done.actions if isinstance(a, act.SetWeight)]
    assert seen[:2] == [("bot", 0), ("other", 10)]


def test_a_release_that_is_deleted_gives_it_back_first() -> None:
    world = settle(at(50), 2).delete()
    settle(world, 20)
    assert (world.weight, world.finalizer) == (0, False)


def test_blue_green_instead_on_the_way() -> None:
    world = settle(at(10), 2)
    settle(world.edit(rollout={k: v for k, v in rollout().items() if k not in ("strategy", "canary")}), 90)
    assert (world.weight, world.served) == (0, artifact(M1))


@pytest.mark.parametrize("late", [False, True])
def test_a_candidate_whose_canary_was_ended_stays_for_its_delay(late: bool) -> None:
    """Gateways may not know yet, and its last requests run."""
    world = settle(at(50), 5)
    world.gateway_is_late = late
    world.edit(stage="Experimental")
    until(world, lambda w: w.weight == 0)
    settle(world, 25)
    assert M1 in world.merged
    world.gateway_is_late = False
    settle(world, 20)
    assert M1 not in world.merged


def test_an_http_route_that_cannot_be_read_does_not_hold_up_the_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    world = settle(at(50), 5)
    known = World._canary_facts

    def unreadable(self: World) -> dict[str, Any]:
        facts = known(self)
        return facts | {"http_route": Sighting(problem="HTTPRoute bot cannot be read: forbidden")} if facts else facts

    monkeypatch.setattr(World, "_canary_facts", unreadable)
    world.pass_time(26 * 3600)
    until(world, in_step(Step.ROLLING_BACK))
    settle(world, 1)
    assert "HTTPRoute bot cannot be read: forbidden" in world.condition("Degraded")[2]
    settle(world, 20, tick=10)
    assert world.status.rollout.step is not Step.ROLLING_BACK
    assert world.status.rollout.canary is not None


# -- the preview: what the weights send to


def third_in_canary() -> World:
    """v3 is at 10 %, v2 serves merged, and the merged v1 is history."""
    world = until(promoted().set_version(2), lambda w: w.served == artifact(M2))
    settle(world, 120)
    assert M1 not in world.merged
    world.set_version(3).edit(rollout=rollout() | {"scaleDownDelay": "10m"})
    return settle(until(world, lambda w: w.accepted == 10), 2)


def test_a_revision_that_has_to_start_takes_no_preview_from_under_the_http_route() -> None:
    """There would be nobody behind it yet, and gateways hear late that its weight is gone."""
    world = third_in_canary()
    candidate = world.preview
    revision = next(h.revision for h in world.history if h.backend == artifact(M1))
    world.edit(rollback={"revision": revision})
    until(world, lambda w: M1 in w.merged)  # deeds.py looks at each action
    assert (world.weight, world.preview) == (0, candidate)
    until(world, lambda w: w.served == artifact(M1))


def test_a_canary_that_begins_again_finds_its_preview_though_that_was_pointed_elsewhere() -> None:
    world = third_in_canary()
    candidate = world.preview
    settle(world.edit(stage="Experimental"), 5)
    assert world.weight == 0
    world.preview = M2
    until(world.edit(stage="Stable"), lambda w: w.accepted == 10)
    assert world.preview == candidate


def test_a_preview_that_somebody_deleted_is_made_again() -> None:
    world = settle(at(10), 2)
    world.preview = None
    settle(world, 3)
    assert (world.preview, world.weight) == (M1, 10)


def test_the_next_artifact_is_not_judged_while_an_http_route_sends_clients_to_the_preview() -> None:
    world = settle(at(50), 2)
    world.http_route_is_frozen = True
    until(world.set_version(2), lambda w: M2 in w.merged)
    settle(world, 10)
    assert (world.weight, world.preview) == (50, M1)
    assert "until HTTPRoute bot is given back" in world.condition("Progressing")[2]
    world.http_route_is_frozen = False
    until(world, lambda w: w.accepted == 10)
    assert world.preview == M2
