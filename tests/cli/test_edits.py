"""What promote, rollback, retry, abort, pause and resume do to a release: tried on the plan, patch by patch."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from controller.api.status import Step
from controller.cli.edits import Edit, promote, retry, rollback
from controller.cli.holds import abort, pause, resume
from controller.domain.snapshot import JobKind, JobState, Problem
from controller.errors import PermanentError
from tests.builders import BUILD, VALIDATION, adapter, artifact
from tests.cli.states import STATES, world_in
from tests.domain.lives import M1, M2, V1, V2, in_step, promoted, serving_v1
from tests.domain.turns import settle, until
from tests.domain.world import World
from tests.fakes.etcd import merge

GIT = {"argocd.argoproj.io/tracking-id": "models:adapterrelease.dev/AdapterRelease:llm/support-bot"}


def patched(world: World, edit: Edit) -> World:
    """As the API server does it."""
    assert edit.patch, edit.will
    wire = merge(world.builder.wire, edit.patch)
    if spec := edit.patch.get("spec"):
        removed = [name for name, value in spec.items() if value is None]
        for name in removed:
            world.builder.wire["spec"].pop(name, None)
        return world.edit(**{name: wire["spec"][name] for name in spec if name not in removed})
    annotations = edit.patch["metadata"]["annotations"]
    return world.annotate(**{key.rpartition("/")[2]: value for key, value in annotations.items()})


def world_of(name: str) -> World:
    return copy.deepcopy(world_in(name))


def refusal(make: Any) -> PermanentError:
    with pytest.raises(PermanentError) as caught:
        make()
    return caught.value


def active(world: World) -> list[JobKind]:
    return [job.kind for job in world.jobs.values() if job.facts.state is JobState.ACTIVE]


# -- promote
def test_promote_sets_the_stage_and_the_artifact_gets_the_traffic() -> None:
    world = serving_v1().edit(build=BUILD, validation=VALIDATION)
    edit = promote(world.release(), full=False)
    assert edit.patch == {"spec": {"stage": "Stable"}}
    assert settle(patched(world, edit), 90).served == artifact(M1)


@pytest.mark.parametrize(
    ("spec", "lacks"),
    [({}, "build and validation"), ({"build": BUILD}, "validation"), ({"validation": VALIDATION}, "build")],
)
def test_promote_without_a_proof_is_refused_and_says_what_is_missing(spec: dict[str, Any], lacks: str) -> None:
    error = refusal(lambda: promote(serving_v1().edit(**spec).release(), full=False))
    assert error.reason == "NotPromotable" and f"has no {lacks}: " in error.message
    assert "manifests/samples/stable.yaml" in error.message


def test_promote_takes_a_pin_out() -> None:
    world = settle(promoted().edit(rollback={"revision": 1}), 20)
    edit = promote(world.release(), full=False)
    assert edit.patch == {"spec": {"rollback": None}}
    assert settle(patched(world, edit), 90).served == artifact(M1)


def test_promote_of_what_was_rejected_says_to_retry() -> None:
    error = refusal(lambda: promote(world_of("rolled-back").release(), full=False))
    assert error.reason == "Rejected" and "kubectl adapterrelease retry support-bot -n llm" in error.message


def test_promote_of_what_was_not_imported_says_why() -> None:
    world = settle(World().edit(build=BUILD, validation=VALIDATION), 3, slow=True)
    (job,) = world.jobs.values()
    job.facts = replace(job.facts, state=JobState.FAILED, failure=Problem("BaseMismatch", "another base"))
    settle(world, 3)
    error = refusal(lambda: promote(world.release(), full=False))
    assert error.reason == "Rejected" and "BaseMismatch: another base" in error.message
    assert promote(world.set_version(2).release(), full=False).patch == {"spec": {"stage": "Stable"}}


@pytest.mark.parametrize("name", ["promoted", "building", "observing"])
def test_promote_of_what_is_stable_has_nothing_to_do(name: str) -> None:
    assert promote(world_of(name).release(), full=False).patch == {}


def test_promote_ends_the_wait_of_a_canary() -> None:
    world = world_of("waits-for-person")
    edit = promote(world.release(), full=False)
    assert edit.patch["spec"]["rollout"]["canary"]["approved"] == {"artifact": M1, "weight": 50}
    assert settle(patched(world, edit), 120).served == artifact(M1)


def test_promote_full_ends_all_waits_that_are_left() -> None:
    world = world_of("shifting")
    edit = promote(world.release(), full=True)
    assert edit.patch["spec"]["rollout"]["canary"]["approved"]["weight"] == 100
    assert settle(patched(world, edit), 150).served == artifact(M1)
    assert promote(world_of_approved(world), full=True).patch == {}


def world_of_approved(world: World) -> Any:
    again = world_of("shifting")
    again.builder.wire["spec"]["rollout"] = world.builder.wire["spec"]["rollout"]
    return again.edit().release()


# -- rollback
def test_rollback_of_an_artifact_goes_back_to_its_adapter_by_the_stage() -> None:
    world = promoted()
    edit = rollback(world.release(), None)
    assert edit.patch == {"spec": {"stage": "Experimental", "rollback": None}}
    assert settle(patched(world, edit), 20).served == adapter(V1)


def test_rollback_where_git_keeps_the_stage_pins_the_revision() -> None:
    world = promoted()
    world.builder.metadata(annotations=GIT)
    edit = rollback(world.edit().release(), None)
    assert edit.patch == {"spec": {"rollback": {"revision": 1}}}
    assert settle(patched(world, edit), 20).served == adapter(V1)


@pytest.mark.parametrize("name", ["shifting", "waits-for-person", "switching"])
def test_rollback_of_what_is_on_its_way_stays_where_the_traffic_comes_from(name: str) -> None:
    world = world_of(name)
    edit = rollback(world.release(), None)
    assert edit.patch == {"spec": {"stage": "Experimental", "rollback": None}}
    assert settle(patched(world, edit), 60).served == adapter(V1)


def test_rollback_of_a_new_version_on_its_way_stays_with_the_old_one() -> None:
    world = until(settle(serving_v1().set_version(2), 30).set_version(3), in_step(Step.SWITCHING))
    edit = rollback(world.release(), None)
    assert edit.patch == {"spec": {"rollback": {"revision": 2}}}
    assert settle(patched(world, edit), 60).served == adapter(V2)


def test_rollback_twice_is_once() -> None:
    world = promoted()
    until(patched(world, rollback(world.release(), None)), in_step(Step.SWITCHING))
    again = rollback(world.release(), None)
    assert again.patch == {"spec": {"rollback": {"revision": 1}}}
    assert settle(patched(world, again), 60).served == adapter(V1)


def test_rollback_of_an_update_pins_the_version_before() -> None:
    world = settle(serving_v1().set_version(2), 30)
    assert world.served == adapter(V2)
    edit = rollback(world.release(), None)
    assert edit.patch == {"spec": {"rollback": {"revision": 1}}}
    assert settle(patched(world, edit), 30).served == adapter(V1)


def test_rollback_of_a_second_artifact_goes_to_the_first() -> None:
    world = settle(promoted().set_version(2), 120)
    assert world.served == artifact(M2)
    edit = rollback(world.release(), None)
    assert settle(patched(world, edit), 60).served == artifact(M1)


def test_rollback_to_a_revision() -> None:
    world = settle(promoted().set_version(2), 120)
    assert settle(patched(world, rollback(world.release(), 1)), 30).served == adapter(V1)


def test_rollback_to_a_revision_that_is_not_there_names_those_that_are() -> None:
    error = refusal(lambda: rollback(promoted().release(), 7))
    assert error.reason == "RevisionNotFound" and "which has 2, 1: " in error.message


@pytest.mark.parametrize("name", ["not-seen", "importing", "load-failed"])
def test_rollback_of_what_never_served_is_refused(name: str) -> None:
    assert refusal(lambda: rollback(world_of(name).release(), None)).reason == "NothingServes"


def test_rollback_of_the_first_that_served_is_refused() -> None:
    assert refusal(lambda: rollback(serving_v1().release(), None)).reason == "NoRevision"


def test_rollback_to_what_was_rejected_says_to_retry() -> None:
    error = refusal(lambda: rollback(world_of("rolled-back").release(), 2))
    assert error.reason == "Rejected" and "kubectl adapterrelease retry" in error.message


def test_rollback_to_the_revision_that_is_pinned_has_nothing_to_do() -> None:
    assert rollback(world_of("pinned").release(), 1).patch == {}


# -- retry
def test_retry_tries_again_what_failed() -> None:
    world = settle(world_of("validation-failed"), 5)
    edit = retry(world.release(), world.now, anyway=False)
    assert settle(patched(world, edit), 120).served == artifact(M1)


FAILED = [name for name, state in STATES.items() if state.final and "not-found" not in name]


@pytest.mark.parametrize("name", FAILED)
def test_retry_is_for_all_that_has_failed(name: str) -> None:
    world = world_of(name)
    assert retry(world.release(), world.now, anyway=False).patch


@pytest.mark.parametrize("name", ["serving", "promoted", "building", "waits-for-person"])
def test_retry_of_what_did_not_fail_is_refused_unless_it_is_meant(name: str) -> None:
    world = world_of(name)
    error = refusal(lambda: retry(world.release(), world.now, anyway=False))
    assert error.reason == "NothingToRetry" and "--anyway" in error.message
    assert retry(world.release(), world.now, anyway=True).patch


# -- abort
@pytest.mark.parametrize("name", ["building", "starting", "validating", "shifting", "waits-for-person"])
def test_abort_on_the_way_to_an_artifact_leaves_the_adapter_serving(name: str) -> None:
    world = world_of(name)
    edit = abort(world.release())
    assert edit.patch == {"spec": {"stage": "Experimental", "rollback": None}}
    settle(patched(world, edit), 120)
    assert world.served == adapter(V1) and world.status.rollout.step is Step.IDLE
    assert (active(world), world.merged, world.weight) == ([], {}, 0)
    assert world.reason("Ready") == ("True", "Serving")


@pytest.mark.parametrize("name", ["switching", "observing"])
def test_abort_of_a_switch_brings_the_adapter_back(name: str) -> None:
    world = world_of(name)
    settle(patched(world, abort(world.release())), 30)
    assert world.served == adapter(V1)
    assert world.reason("Ready") == ("True", "Serving")


@pytest.mark.parametrize(("name", "serves"), [("updating", adapter(V1)), ("next-version-builds", artifact(M1))])
def test_abort_of_a_new_version_stays_with_what_serves(name: str, serves: Any) -> None:
    world = world_of(name)
    edit = abort(world.release())
    assert set(edit.patch["spec"]) == {"rollback"}
    settle(patched(world, edit), 60)
    assert world.served == serves and world.status.rollout.step is Step.IDLE
    assert world.reason("Ready") == ("True", "Serving")
    assert active(world) == []


def test_abort_and_on_again() -> None:
    world = world_of("updating")
    settle(patched(world, abort(world.release())), 30)
    assert settle(patched(world, resume(world.release())), 60).served == adapter(V2)


def test_abort_of_a_build_that_vllm_could_not_serve_anyway_sets_the_stage_back() -> None:
    world = until(World(merge_only=(1,)).promote(), in_step(Step.BUILDING))
    settle(patched(world, abort(world.release())), 20)
    assert (world.served, active(world)) == (None, [])
    assert world.reason("Ready") == ("False", "NotServableDynamically")


@pytest.mark.parametrize("name", ["serving", "promoted", "rolling-back", "importing", "loading", "deleting"])
def test_abort_where_nothing_can_be_aborted_says_why(name: str) -> None:
    assert refusal(lambda: abort(world_of(name).release())).reason in ("NothingToAbort", "Deleting")


# -- pause and resume
def test_pause_holds_a_canary_at_its_weight_and_resume_lets_it_go_on() -> None:
    world = world_of("shifting")
    edit = pause(world.release())
    assert edit.patch["spec"]["rollout"]["canary"]["steps"] == [
        {"weight": 10},
        {"weight": 50},
        {"weight": 100, "pause": "5s"},
    ]
    settle(patched(world, edit), 120)
    assert (world.weight, world.served) == (10, adapter(V1))
    assert until(patched(world, resume(world.release())), lambda w: w.weight == 50).served == adapter(V1)


def test_pause_of_a_canary_takes_back_an_approval_of_its_step() -> None:
    world = world_of("shifting")
    patched(world, promote(world.release(), full=True))
    settle(patched(world, pause(world.release())), 120)
    assert world.weight == 10


@pytest.mark.parametrize(("name", "serves"), [("serving", adapter(V1)), ("promoted", artifact(M1))])
def test_pause_holds_what_serves_against_a_new_version_until_resume(name: str, serves: Any) -> None:
    world = world_of(name)
    settle(patched(world, pause(world.release())).set_version(2), 120)
    assert world.served == serves
    settle(patched(world, resume(world.release())), 150)
    assert world.served in (adapter(V2), artifact(M2))


def test_pause_of_a_build_ends_its_job_and_resume_begins_it_again() -> None:
    world = world_of("building")
    settle(patched(world, pause(world.release())), 30)
    assert (active(world), world.served) == ([], adapter(V1))
    assert settle(patched(world, resume(world.release())), 120).served == artifact(M1)


@pytest.mark.parametrize("name", ["serving", "promoted", "building"])
def test_resume_of_what_is_not_held_has_nothing_to_do(name: str) -> None:
    assert resume(world_of(name).release()).patch == {}


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("verb", ["promote", "rollback", "abort", "pause", "resume", "retry"])
def test_each_either_says_what_happens_or_why_it_cannot(verb: str, name: str) -> None:
    world = world_in(name)
    release = world.release()
    makes = {
        "promote": lambda: promote(release, full=False),
        "rollback": lambda: rollback(release, None),
        "abort": lambda: abort(release),
        "pause": lambda: pause(release),
        "resume": lambda: resume(release),
        "retry": lambda: retry(release, world.now, anyway=False),
    }
    try:
        edit = makes[verb]()
    except PermanentError as error:
        assert error.message and error.reason != "PermanentError"
        return
    assert edit.will
    assert edit.patch or edit.will.startswith("nothing to do: ")
