"""From the adapter to the merged model: built, started, validated, switched to, watched; or refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.api.reasons import Reason
from controller.api.status import HistoryEntry, Step
from controller.domain.snapshot import JobKind, JobState, Problem, hex_of
from tests.builders import BUILD, VALIDATION, adapter, artifact
from tests.domain.lives import M1, M2, V1, V2, in_step, labels, observing, promoted, serving_v1, steps_of
from tests.domain.turns import run, settle, until
from tests.domain.world import ROUTE, World

# -- promotion


def test_an_observation_that_was_left_for_another_step_is_no_success() -> None:
    world = settle(observing(), 3)
    for pod in world.pods.values():
        pod.refuses = {hex_of(V1)}
        pod.adapters = {}
    settle(world.edit(stage="Experimental"), 3)
    assert world.served == artifact(M1) and world.status.rollout.step is Step.LOADING
    settle(world.edit(stage="Stable"), 3)
    assert world.status.rollout.step is Step.OBSERVING
    assert world.reason("Promoted") == ("Unknown", "Observing")
    settle(world, 60)
    assert world.status.rollout.measured > 0
    assert world.reason("Promoted") == ("True", "Promoted")


def test_an_artifact_that_is_not_observed_yet_is_not_promoted_while_it_is_away() -> None:
    world = settle(observing(), 3)
    world.pods = {}
    settle(world.edit(stage="Experimental"), 3)
    world.merged_goes(M1, available=False)
    world.merged[M1].never_starts = True
    settle(world.edit(stage="Stable"), 3)
    assert world.served == artifact(M1) and world.reason("Promoted") == ("Unknown", "Observing")
    world.merged[M1].never_starts = False
    settle(world, 90)
    assert world.reason("Promoted") == ("True", "Promoted")


def test_what_was_promoted_before_that_was_written_down_is_not_observed_again() -> None:
    world = promoted()
    wires = [{key: value for key, value in h.to_wire().items() if key != "unobserved"} for h in world.history]
    old = [HistoryEntry.model_validate(wire) for wire in wires]
    world.status = world.status.model_copy(update={"history": old})
    rollout = world.builder.wire["spec"]["rollout"]
    settle(world.edit(rollout=rollout | {"scaleDownDelay": "31s"}), 3)
    assert world.status.rollout.step is Step.IDLE
    assert world.reason("Promoted") == ("True", "Promoted")


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


def test_behind_an_api_key_in_plain_text_nothing_is_built_and_the_adapter_serves() -> None:
    """The validation could not ask: it would reject the artifact after all the building."""
    world = serving_v1()
    assert world.base is not None
    world.base = replace(world.base, api_key_is_plain=True)
    settle(world.promote(), 20)
    assert world.served == adapter(V1) and world.answering()
    assert {kind for kind, _ in world.jobs} == {JobKind.IMPORT}
    status, reason, message = world.condition("ArtifactBuilt")
    assert (status, reason) == ("False", "ApiKeyInPlainText")
    assert "put the key into a Secret and refer to it by secretKeyRef. Change the spec, or set" in message
    assert world.reason("Degraded") == ("True", "ApiKeyInPlainText")
    world.base = replace(world.base, api_key_is_plain=False)
    settle(world, 90)
    assert world.reason("Promoted") == ("True", "Promoted"), "it goes on by itself once that is mended"


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


CORRUPTED = Problem("ArtifactCorrupted", "pod m does not start: model.safetensors has sha256 1, not 2")


def test_an_artifact_that_its_pods_find_changed_is_rejected_at_once_and_for_that_reason() -> None:
    world = until(serving_v1().promote(), lambda w: bool(w.merged))
    world.merged[M1].never_starts, world.merged[M1].available = True, False
    world.merged[M1].refused = CORRUPTED
    before = world.now
    until(world, lambda w: not w.merged)
    assert (world.now - before).total_seconds() < 60, "not after rollout.progressDeadline, 15 min"
    assert world.served == adapter(V1) and world.answering()
    status, reason, message = world.condition("Validated")
    assert (status, reason) == ("False", "ArtifactCorrupted")
    assert CORRUPTED.message in message and "adapterrelease.dev/retry" in message
    assert world.reason("Degraded") == ("True", "ArtifactCorrupted")
    assert world.reason("Ready") == ("False", "ArtifactCorrupted")
    settle(world, 20)
    assert world.merged == {}, "it is not tried again by itself"


def test_after_a_retry_the_artifact_is_built_again_and_its_candidate_tried_again() -> None:
    world = until(serving_v1().promote(), lambda w: bool(w.merged))
    world.merged[M1].never_starts, world.merged[M1].available = True, False
    world.merged[M1].refused = CORRUPTED
    until(world, lambda w: not w.merged)
    builds = [key for key in world.jobs if key[0] is JobKind.BUILD]
    settle(world.annotate(retry="1"), 90)
    assert len([key for key in world.jobs if key[0] is JobKind.BUILD]) == len(builds) + 1
    assert world.served == artifact(M1) and world.reason("Ready") == ("True", "Serving")


def test_a_candidate_that_is_up_is_not_taken_down_by_an_older_pod_s_refusal() -> None:
    world = until(serving_v1().promote(), lambda w: bool(w.merged))
    world.merged[M1].refused = CORRUPTED
    world.merged[M1].available = True
    settle(world, 90)
    assert world.served == artifact(M1)


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


ELSEWHERE = BUILD | {"merge": {"device": "cpu"}}  # another build job, whose artifact has the same id


def test_other_files_of_the_same_artifact_are_validated_before_they_get_traffic() -> None:
    """Its directory was deleted in the store; what quantization makes again need not be the same."""
    world = settle(promoted().edit(stage="Experimental"), 50)
    world.bits += 1
    until(world.edit(stage="Stable", build=ELSEWHERE), in_step(Step.VALIDATING))
    artifact_status = world.status.artifact
    assert artifact_status is not None
    assert (artifact_status.id, artifact_status.verdict, artifact_status.scores) == (M1, "", [])
    settle(world, 40, finish="bad")
    assert world.served == adapter(V1)
    assert world.reason("Validated") == ("False", "ValidationFailed")


def test_the_same_files_of_the_same_artifact_keep_what_was_measured_of_them() -> None:
    world = promoted()
    before = world.status.artifact
    settle(world.edit(build=ELSEWHERE), 20)
    after = world.status.artifact
    assert before is not None and after is not None and after.inputs != before.inputs
    assert (after.verdict, after.scores, after.speedup) == (before.verdict, before.scores, before.speedup)
    assert world.reason("Ready") == ("True", "Serving")


def give_more_memory(world: World) -> World:
    """What the message of a build that was OOMKilled says to do."""
    job = {"name": "job", "resources": {"limits": {"memory": "64Gi"}}}
    return world.edit(build=BUILD | {"podTemplate": {"spec": {"containers": [job]}}})


def test_a_build_that_failed_is_tried_again_when_it_gets_more_memory() -> None:
    world = settle(serving_v1().promote(), 30, finish="fails")
    assert world.reason("ArtifactBuilt") == ("False", "Broken")
    settle(give_more_memory(world), 90)
    assert world.served == artifact(M1)
    assert world.reason("Promoted") == ("True", "Promoted")
    assert len([kind for kind, _ in world.started if kind is JobKind.BUILD]) == 2


def test_a_build_job_that_waits_for_a_node_is_replaced_when_its_pod_template_changes() -> None:
    world = until(serving_v1().promote(), in_step(Step.BUILDING), slow=True)
    settle(world, 3, slow=True)
    settle(give_more_memory(world), 3, slow=True)
    (old, new) = [key for key in world.jobs if key[0] is JobKind.BUILD]
    assert world.status.rollout.inputs == new[1] != old[1]
    world.end_job(new, "good")
    settle(world, 90)
    assert world.served == artifact(M1)


def test_an_artifact_that_is_built_is_not_built_again_for_another_pod_template() -> None:
    world = settle(serving_v1().promote(), 30, finish="fails")
    first = world.builder.wire["spec"]["build"]
    settle(give_more_memory(world), 90)
    settle(world.edit(build=first), 90)
    assert world.served == artifact(M1), "that this was too little for the build says nothing about the artifact"
    assert world.reason("ArtifactBuilt") == ("True", "Built")
    assert world.reason("Ready") == ("True", "Serving")
    settle(world.edit(stage="Experimental"), 50)
    settle(world.edit(stage="Stable"), 90)
    assert world.served == artifact(M1)
    assert len([kind for kind, _ in world.started if kind is JobKind.BUILD]) == 2


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


# -- jobs whose result nobody waits for


def active(world: World) -> list[JobKind]:
    return [job.kind for job in world.jobs.values() if job.facts.state is JobState.ACTIVE]


def import_ends(world: World) -> None:
    active = [key for key, job in world.jobs.items() if job.facts.state is JobState.ACTIVE]
    (running,) = [key for key in active if key[0] is JobKind.IMPORT]
    world.end_job(running, "good")


@pytest.mark.parametrize("step", [Step.BUILDING, Step.VALIDATING])
def test_the_stage_set_back_ends_the_job_that_runs_and_set_again_begins_it_again(step: Step) -> None:
    world = until(serving_v1().promote(), in_step(step))
    settle(world, 2, slow=True)
    (kind,) = active(world)
    settle(world.edit(stage="Experimental"), 3, slow=True)
    assert active(world) == []
    settle(world.edit(stage="Stable"), 6, slow=True)
    assert active(world) == [kind]
    settle(world, 90)
    assert world.reason("Promoted") == ("True", "Promoted")


def test_a_revision_ends_the_build_that_runs() -> None:
    world = until(settle(serving_v1().set_version(2), 20).promote(), in_step(Step.BUILDING))
    settle(world, 2, slow=True)
    assert active(world) == [JobKind.BUILD]
    settle(world.edit(rollback={"revision": 1}), 3, slow=True)
    assert active(world) == []


def test_a_new_version_ends_the_build_of_the_old_one_as_soon_as_it_is_imported() -> None:
    world = until(serving_v1().promote(), in_step(Step.BUILDING))
    settle(world, 2, slow=True)
    settle(world.set_version(2), 3, slow=True)
    assert active(world) == [JobKind.BUILD, JobKind.IMPORT], "until then v1 is what there is"
    import_ends(world)
    until(world, lambda w: active(w) == [], slow=True, rounds=5)
    settle(world, 120)
    assert world.served == artifact(M2)


def test_another_validation_ends_the_one_that_runs() -> None:
    world = until(serving_v1().promote(), in_step(Step.VALIDATING))
    settle(world, 2, slow=True)
    (before,) = [key for key, job in world.jobs.items() if job.facts.state is JobState.ACTIVE]
    settle(world.edit(validation={"suites": [VALIDATION["suites"][0] | {"minScore": "0.6"}]}), 3, slow=True)
    assert active(world) == [JobKind.VALIDATE] and before not in world.jobs


def test_a_build_of_the_same_with_more_memory_leaves_the_one_that_runs() -> None:
    world = until(serving_v1().promote(), in_step(Step.BUILDING))
    settle(world, 2, slow=True)
    job = {"name": "job", "resources": {"limits": {"memory": "9Gi"}}}
    settle(world.edit(build=BUILD | {"podTemplate": {"spec": {"containers": [job]}}}), 5, slow=True)
    assert active(world) == [JobKind.BUILD, JobKind.BUILD]
    settle(world, 90)
    assert world.served == artifact(M1)


def test_a_build_that_does_not_say_what_it_is_made_of_is_left_alone() -> None:
    """It was begun by a controller of an older version."""
    world = until(serving_v1().promote(), in_step(Step.BUILDING))
    settle(world, 2, slow=True)
    for key, job in world.jobs.items():
        world.jobs[key] = replace(job, facts=replace(job.facts, made_of=""))
    settle(world.set_version(2), 3, slow=True)
    import_ends(world)
    settle(world, 5, slow=True)
    assert JobKind.BUILD in active(world)
