"""Back to a backend that answers: by itself, and by the user."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.api.reasons import Reason
from controller.api.status import Step
from controller.domain import actions as act
from controller.domain.snapshot import Problem, hex_of
from tests.builders import adapter, artifact
from tests.domain.lives import (
    M1,
    M2,
    V1,
    V2,
    break_it,
    in_step,
    observing,
    promoted,
    revision_does_not_start,
    rolling_back_to_nothing,
    serving_v1,
    switched_in_vain,
)
from tests.domain.turns import quiet, run, settle, until
from tests.domain.world import ROUTE, World

# -- rollback by itself


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


def test_an_artifact_that_is_away_again_has_its_30_seconds_again() -> None:
    world = promoted()
    for _ in range(3):
        world.merged_goes(M1, available=False)
        world.merged[M1].never_starts = True
        settle(world, 20)
        world.merged[M1].never_starts = False
        world.merged_goes(M1, available=True)
        settle(world, 2)
    assert world.served == artifact(M1) and world.status.rollout.rejected == []
    assert world.status.serving is not None and world.status.serving.unavailable_since is None


def test_an_artifact_that_was_scaled_to_zero_is_given_up_after_30_seconds() -> None:
    """Kubernetes calls a Deployment of no replicas available."""
    world = promoted()
    world.scale(M1, 0)
    settle(world, 25)
    assert world.served == artifact(M1)
    settle(world, 10)
    assert world.served == adapter(V1) and world.answering()
    quiet(world)


def test_the_adapter_stays_while_an_artifact_that_was_scaled_to_zero_does_not_answer() -> None:
    world = promoted()
    assert world.status.serving is not None and world.status.serving.settle_at is not None
    world.pass_time((world.status.serving.settle_at - world.now).total_seconds() - 10)
    world.scale(M1, 0)
    settle(world, 25)
    assert all(ROUTE in pod.adapters for pod in world.pods.values())
    settle(world, 15)
    assert world.served == adapter(V1) and world.answering()


def test_an_artifact_that_dies_after_the_adapter_was_unloaded_has_it_loaded_again_meanwhile() -> None:
    world = promoted()
    settle(world.pass_time(3600), 15)
    assert not any(ROUTE in pod.adapters for pod in world.pods.values())
    world.merged_goes(M1, available=False)
    world.merged[M1].never_starts = True
    settle(world, 10)
    assert world.served == artifact(M1)
    assert all(ROUTE in pod.adapters for pod in world.pods.values())
    settle(world, 30)
    assert world.served == adapter(V1) and world.answering()


def test_an_artifact_that_comes_back_after_the_rollback_window_serves_alone_again() -> None:
    world = promoted()
    settle(world.pass_time(3600), 15)
    world.merged_goes(M1, available=False)
    world.merged[M1].never_starts = True
    settle(world, 10)
    world.merged[M1].never_starts = False
    settle(world, 30)
    assert world.served == artifact(M1) and world.answering()
    assert not any(ROUTE in pod.adapters for pod in world.pods.values())


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
    assert world.served == adapter(V1) and len(world.answering()) == 2


def test_the_import_of_a_new_version_that_fails_during_a_rollback_is_remembered() -> None:
    world = settle(rolling_back_to_nothing().set_version(2), 130, finish="fails")
    assert world.status.rollout.step is Step.ROLLING_BACK
    assert world.reason("AdapterImported") == ("False", "Broken")


# -- a way back that cannot be taken


def with_problems(world: World, *problems: Problem) -> World:
    assert world.base is not None
    world.base = replace(world.base, problems=problems)
    return world


LORA_OFF = Problem(Reason.LORA_NOT_ENABLED, "tiny-llama runs without --enable-lora")


def without_a_way_back(how: str) -> World:
    """The adapter was unloaded after the rollback window, and the base cannot take it again."""
    world = settle(promoted().pass_time(3600), 15)
    for pod in world.pods.values():
        if how == "full":
            pod.adapters = {f"stranger-{n}": f"/elsewhere/{n}" for n in range(world.slots)}
        elif how == "refused":
            pod.refuses = {hex_of(V1)}
    return with_problems(world, LORA_OFF) if how == "lora off" else world


@pytest.mark.parametrize("how", ["full", "refused", "lora off"])
def test_a_merged_deployment_that_somebody_deleted_is_made_again_where_the_adapter_cannot_be_loaded(how: str) -> None:
    world = without_a_way_back(how)
    world.lose_deployment(M1)
    settle(world, 5)
    assert world.served == artifact(M1) and world.answering()
    settle(world, 65)
    settle(with_problems(world), 5)
    assert world.status.rollout.step is Step.IDLE and world.status.rollout.rejected == []
    assert world.reason("Ready") == ("True", "Serving")
    assert world.reason("Promoted") == ("True", "Promoted")


def rolling_back_from_m1(how: str = "refused") -> World:
    world = without_a_way_back(how)
    world.merged_goes(M1, available=False)
    world.merged[M1].never_starts = True
    return until(world, in_step(Step.ROLLING_BACK))


def test_an_artifact_that_comes_back_while_the_way_back_does_not_answer_stays() -> None:
    world = rolling_back_from_m1()
    settle(world, 90)
    assert world.status.rollout.step is Step.ROLLING_BACK, "neither answers"
    world.merged[M1].never_starts = False
    settle(world, 70)
    assert world.served == artifact(M1) and world.answering()
    assert world.status.rollout.step is Step.IDLE and world.status.rollout.rejected == []
    assert world.reason("Degraded") == ("False", "AsExpected")
    assert world.reason("Ready") == ("True", "Serving")


def test_an_artifact_that_comes_back_and_goes_again_is_left_again() -> None:
    world = rolling_back_from_m1()
    world.merged[M1].never_starts = False
    settle(world, 70)
    for pod in world.pods.values():
        pod.refuses, pod.failure = set(), None
    world.merged_goes(M1, available=False)
    world.merged[M1].never_starts = True
    settle(world, 45)
    assert world.served == adapter(V1) and world.answering()
    assert [r.id for r in world.status.rollout.rejected] == [M1]


def test_an_artifact_that_failed_its_checks_is_not_taken_back_by_itself_but_by_the_user() -> None:
    world = observing()
    settle(world, 3)
    for pod in world.pods.values():
        pod.refuses = {hex_of(V1)}
        pod.adapters = {}
    break_it(world)
    settle(world, 150)
    assert world.status.rollout.step is Step.ROLLING_BACK
    assert [r.reason for r in world.status.rollout.rejected] == ["ChecksFailed"]
    rollout = world.builder.wire["spec"]["rollout"]
    until(world.edit(rollout=rollout | {"scaleDownDelay": "31s"}), in_step(Step.OBSERVING), rounds=70)
    settle(world, 90)
    assert world.served == artifact(M1)
    assert world.reason("Promoted") == ("True", "Promoted")


def test_a_revision_that_is_named_during_a_rollback_that_cannot_end_is_where_it_goes() -> None:
    world = settle(promoted().set_version(2), 120)
    revision = next(h.revision for h in world.history if h.backend == artifact(M1))
    settle(world.pass_time(3600), 15)
    for pod in world.pods.values():
        pod.adapters = {f"stranger-{n}": f"/elsewhere/{n}" for n in range(world.slots)}
    world.merged_goes(M2, available=False)
    world.merged[M2].never_starts = True
    until(world, in_step(Step.ROLLING_BACK))
    settle(world.edit(rollback={"revision": revision}), 130)
    assert world.served == artifact(M1) and world.answering()
    assert world.status.rollout.step is Step.IDLE


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
    world = revision_does_not_start()
    assert world.served == artifact(M2) and world.answering()
    assert world.condition("Ready") == (
        "False",
        "CandidateNotReady",
        "the merged model of the revision is not available since 15m: pod m: ImagePullBackOff; still trying",
    )


def test_a_revision_whose_artifact_was_changed_says_so_before_its_deadline() -> None:
    world = settle(promoted().set_version(2), 120)
    revision = next(h.revision for h in world.history if h.backend == artifact(M1))
    world.edit(rollback={"revision": revision})
    until(world, lambda w: M1 in w.merged)
    world.merged[M1].never_starts, world.merged[M1].available = True, False
    world.merged[M1].refused = Problem("ArtifactCorrupted", "pod m does not start: config.json: missing")
    settle(world, 3)
    assert world.served == artifact(M2) and world.answering()
    assert world.condition("Ready") == (
        "False",
        "ArtifactCorrupted",
        "pod m does not start: config.json: missing; still trying",
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


def test_a_second_switch_that_fails_within_the_delay_of_the_first_begins_the_delay_anew() -> None:
    world = promoted()
    world.edit(rollout=world.builder.wire["spec"]["rollout"] | {"scaleDownDelay": "5m"}, stage="Experimental")
    until(world, lambda w: w.served == adapter(V1))
    settle(world, 200)
    switched_in_vain(world)
    settle(world, 28, tick=10)
    assert M1 in world.merged
    settle(world, 4, tick=10)
    assert M1 not in world.merged
