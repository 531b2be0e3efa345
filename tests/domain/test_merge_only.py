"""An adapter that vLLM cannot serve dynamically: straight to Stable, judged by minScore alone, never loaded."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api.reasons import Reason
from controller.api.status import Step
from controller.domain import actions as act
from controller.domain.inputs import validate_inputs
from controller.domain.snapshot import JobKind
from tests.builders import VALIDATION, adapter, artifact
from tests.domain.lives import M1, M2, V1, V2, break_it, in_step, labels, promoted, serving_v1, steps_of
from tests.domain.turns import Controller, run, settle, until
from tests.domain.world import ROUTE, World

SUITE = {key: value for key, value in VALIDATION["suites"][0].items() if key != "minScore"}
SAYS = "DoRA (use_dora=True): vLLM cannot serve this dynamically; it can be merged: set stage: Stable"


def straight(**validation: Any) -> World:
    """v1 is merged only, and the stage is Stable from the start."""
    world = World(merge_only=(1,)).promote()
    return world.edit(validation=VALIDATION | validation) if validation else world


def serving_m1() -> World:
    return settle(straight(), 90)


def turned(world: World) -> World:
    """Its v2 is merged only."""
    world.merge_only.add(V2)
    return world.set_version(2)


def test_it_goes_straight_to_stable_and_no_pod_is_asked_to_load_it() -> None:
    world = straight()
    assert steps_of(world, 90) == [
        Step.IMPORTING,
        *(Step.BUILDING, Step.STARTING, Step.VALIDATING),
        *(Step.SWITCHING, Step.OBSERVING, Step.IDLE),
    ]
    assert world.served == artifact(M1) and world.answering()
    assert world.reason("Promoted") == ("True", "Promoted")
    assert world.reason("Ready") == ("True", "Serving")
    assert world.condition("Validated") == ("True", "Passed", "support: artifact 0.9900")
    assert world.condition("AdapterLoaded") == (
        "False",
        "MergedOnly",
        "DoRA (use_dora=True): vLLM cannot serve this, so it is merged only",
    )
    assert all(not pod.adapters for pod in world.pods.values())
    assert (world.history[0].adapter_digest, world.history[0].merge_only) == (V1, True)


def test_that_it_is_merged_only_is_no_warning() -> None:
    notes = [note for done in run(straight(), 90) for note in done.notes]
    assert {note.type for note in notes if note.reason == Reason.MERGED_ONLY} == {"Normal"}


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        ("bad", "ValidationFailed"),
        *((o, "ValidationInconclusive") for o in ("nan", "empty", "errors", "no result", "fails")),
    ],
)
def test_below_min_score_or_without_a_score_it_gets_no_traffic(outcome: str, reason: str) -> None:
    world = until(straight(), in_step(Step.VALIDATING))
    settle(world, 40, finish=outcome)
    assert world.served is None and world.selector is None
    assert world.reason("Validated") == ("False", reason)
    assert world.reason("Ready") == ("False", reason)
    assert world.merged == {}


@pytest.mark.parametrize(
    ("validation", "says"),
    [
        ({"suites": [SUITE]}, "set minScore over 0 in each suite (support)"),
        ({"suites": [SUITE | {"minScore": "0"}]}, "set minScore over 0 in each suite (support)"),
        ({"benchmark": {"minSpeedup": "1.1"}}, "take benchmark.minSpeedup out"),
    ],
)
def test_what_could_not_be_proven_is_not_built_and_the_message_says_what_to_set(
    validation: dict[str, Any], says: str
) -> None:
    world = settle(straight(**validation), 20)
    assert {kind for kind, _ in world.jobs} == {JobKind.IMPORT}
    status, reason, message = world.condition("ArtifactBuilt")
    assert (status, reason) == ("False", "NothingToCompareWith")
    assert says in message
    assert world.reason("Ready") == world.reason("Promoted") == ("False", "NothingToCompareWith")
    assert world.status.rollout.step is Step.IDLE
    settle(world.edit(validation=VALIDATION), 90)
    assert world.served == artifact(M1), "once that is set it goes on by itself"


def test_what_is_built_is_not_started_when_min_score_is_taken_out() -> None:
    world = until(straight(), in_step(Step.STARTING))
    settle(world.edit(validation={"suites": [SUITE]}), 20)
    assert world.served is None
    assert world.reason("ArtifactBuilt") == ("True", "Built")
    assert world.reason("Validated") == ("False", "NothingToCompareWith")


def test_at_stage_experimental_it_is_refused_and_says_which_stage_it_can_have() -> None:
    world = settle(World(merge_only=(1,)), 12)
    assert world.served is None and world.status.rollout.step is Step.IDLE
    assert world.reason("AdapterImported") == ("True", "Imported")
    assert world.condition("AdapterLoaded") == ("False", "NotServableDynamically", SAYS)
    assert world.reason("Ready") == ("False", "NotServableDynamically")
    settle(world.promote(), 90)
    assert world.served == artifact(M1)
    assert sorted(kind for kind, _ in world.started) == ["build", "import", "validate"], "nothing is imported twice"


def test_at_stage_experimental_what_served_before_still_serves() -> None:
    world = turned(serving_v1())
    for _ in run(world, 40):
        assert world.served == adapter(V1) and world.answering()
    assert world.reason("Degraded") == ("True", "NotServableDynamically")
    assert world.reason("Ready") == ("False", "NotServableDynamically")
    assert "What served before still serves" in world.condition("Degraded")[2]
    assert len(set(labels(world))) == 1 and all(ROUTE in pod.adapters for pod in world.pods.values())


def test_a_served_adapter_serves_until_the_artifact_of_its_new_version_is_proven() -> None:
    world = turned(serving_v1().promote())
    world.edit(stage="Stable")
    for _ in run(world, 90):
        assert world.answering()
    assert world.served == artifact(M2)
    assert all(ROUTE in pod.adapters for pod in world.pods.values()), "v1 stays loaded: it is the way back"
    world.pass_time(3600)
    settle(world, 15)
    assert all(not pod.adapters for pod in world.pods.values())


def test_an_artifact_serves_until_that_of_its_new_version_is_proven() -> None:
    world = turned(promoted())
    for _ in run(world, 90):
        assert world.answering() and world.served in (artifact(M1), artifact(M2))
    assert world.served == artifact(M2)


def test_failing_checks_go_back_to_the_adapter_that_served_before() -> None:
    world = until(turned(serving_v1()).promote(), in_step(Step.OBSERVING))
    settle(world, 3)
    break_it(world, M2)
    settle(world, 60)
    assert world.served == adapter(V1) and world.answering()
    assert world.reason("Degraded") == ("True", "RolledBack")


def test_failing_checks_with_nowhere_to_go_back_to_are_told_and_it_goes_on_serving() -> None:
    world = until(straight(), in_step(Step.OBSERVING))
    settle(world, 3)
    break_it(world)
    for _ in run(world, 90):
        assert world.served == artifact(M1) and world.answering()
    assert world.status.rollout.step is Step.IDLE
    status, reason, message = world.condition("Degraded")
    assert (status, reason) == ("True", "NoBackendToRollBackTo")
    assert message.startswith("ChecksFailed: error rate 0.9") and "Give the adapter a new version" in message
    assert world.reason("Promoted") == ("False", "ChecksFailed")
    assert world.reason("Ready") == ("False", "NoBackendToRollBackTo")


def test_an_edit_makes_no_success_of_failing_checks_but_watches_again() -> None:
    world = until(straight(), in_step(Step.OBSERVING))
    settle(world, 3)
    break_it(world)
    settle(world, 90)
    rollout = world.builder.wire["spec"]["rollout"]
    settle(world.edit(rollout=rollout | {"scaleDownDelay": "31s"}), 3)
    assert world.status.rollout.step is Step.OBSERVING
    break_it(world)
    settle(world, 60)
    assert world.reason("Promoted") == ("False", "ChecksFailed")
    settle(world.edit(rollout=rollout | {"scaleDownDelay": "32s"}), 3)
    assert world.reason("Promoted") == ("Unknown", "Observing")
    settle(world, 60)
    assert world.reason("Promoted") == ("True", "Promoted")
    assert world.reason("Ready") == ("True", "Serving")


def test_a_deployment_that_is_lost_with_nowhere_to_go_back_to_is_made_again() -> None:
    world = serving_m1()
    world.lose_deployment(M1)
    settle(world, 60)
    assert world.served == artifact(M1) and world.answering()
    assert world.reason("Ready") == ("True", "Serving")


def test_going_back_to_experimental_stays_on_the_artifact_and_says_why() -> None:
    world = serving_m1().edit(stage="Experimental")
    for _ in run(world, 40):
        assert world.served == artifact(M1) and world.answering()
    assert world.condition("Promoted")[:2] == ("False", "NotServableDynamically")
    assert world.condition("AdapterLoaded") == ("False", "NotServableDynamically", SAYS)
    assert world.reason("Ready") == ("False", "NotServableDynamically")
    settle(world.edit(stage="Stable"), 20)
    assert world.reason("Ready") == ("True", "Serving")


def test_back_to_a_revision_that_vllm_can_serve_and_on_again() -> None:
    world = settle(turned(serving_v1()).promote(), 90)
    assert world.served == artifact(M2)
    settle(world.edit(rollback={"revision": 1}), 30)
    assert world.served == adapter(V1)
    settle(world.edit(rollback={"revision": 2}), 60)
    assert world.served == artifact(M2)
    assert world.reason("AdapterLoaded") == ("False", "MergedOnly")
    assert all(ROUTE in pod.adapters for pod in world.pods.values())


def test_a_new_version_that_vllm_can_serve_is_served() -> None:
    world = settle(serving_m1().edit(stage="Experimental").set_version(2), 40)
    assert world.served == adapter(V2)
    assert world.reason("Ready") == ("True", "Serving")


def test_an_artifact_that_made_way_before_it_was_proven_stays_up_for_its_delay() -> None:
    """Its pods have requests as soon as the route selects them."""
    world = until(straight(), in_step(Step.SWITCHING))
    world.answers_wrong = True
    settle(world, 30, tick=5)
    assert world.served is None and world.reason("Ready") == ("False", "SwitchNotProven")
    routed = world.selector
    until(turned(world), lambda w: w.selector != routed)
    settle(world, 25)
    assert set(world.merged) == {M1, M2}
    world.answers_wrong = False
    settle(world, 120)
    assert world.served == artifact(M2) and set(world.merged) == {M2}


def test_scores_without_an_adapter_are_no_verdict_on_one_that_was_to_be_compared() -> None:
    world = until(serving_v1().promote(), in_step(Step.VALIDATING))
    world.merge_only.add(V1)  # the job measured the candidate alone
    settle(world, 20)
    assert world.served == adapter(V1)
    assert world.reason("Validated") == ("False", "ValidationInconclusive")


def test_what_it_is_judged_by_is_part_of_what_a_verdict_is_for() -> None:
    world = serving_m1()
    known = world.status.artifact
    assert known is not None and known.merge_only
    compared = known.model_copy(update={"merge_only": False})
    assert validate_inputs(world.release(), known) != validate_inputs(world.release(), compared)


def test_no_route_and_no_load_is_asked_for_while_it_is_refused() -> None:
    world = settle(World(merge_only=(1,)), 12)
    done = Controller(world).look()
    assert not [a for a in done.actions if isinstance(a, act.LoadAdapter | act.SwitchRoute | act.EnsureMerged)]
