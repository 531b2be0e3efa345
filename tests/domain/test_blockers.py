"""What keeps a release from going on, and what serves meanwhile."""

from __future__ import annotations

from dataclasses import replace

from controller.api.reasons import Reason
from controller.api.status import Step
from controller.domain.snapshot import Problem, hex_of
from tests.builders import adapter, artifact
from tests.domain.lives import M1, V1, in_step, promoted, serving_v1
from tests.domain.turns import settle, until
from tests.domain.world import RIVAL, ROUTE, World


def test_rivals_the_release_that_came_first_keeps_the_name() -> None:
    world = World()
    world.rivals = (RIVAL,)
    settle(world, 10)
    assert world.jobs == {} and world.selector is None
    assert world.condition("Ready") == (
        "False",
        "ModelNameTaken",
        f"release {RIVAL} already serves 'support-bot' on this base; choose another modelName",
    )


def test_a_name_that_the_base_serves_itself_is_taken() -> None:
    world = World()
    assert world.base is not None
    world.base = replace(world.base, served_names=("tiny-llama", ROUTE))
    settle(world, 10)
    assert all(not pod.adapters for pod in world.pods.values())
    assert world.condition("Ready") == (
        "False",
        "ModelNameTaken",
        "base tiny-llama itself already serves 'support-bot' on this base; choose another modelName",
    )


def test_the_deletion_of_a_rival_leaves_the_first_release_its_adapter() -> None:
    world = World()
    world.rivals = (RIVAL,)
    for pod in world.pods.values():  # the other release has the same adapter and model name
        pod.adapters[ROUTE] = f"/store/adapters/finetune/{hex_of(V1)}"
    settle(world, 3)
    settle(world.delete(), 10)
    assert not world.finalizer
    assert all(ROUTE in pod.adapters for pod in world.pods.values())


def test_a_base_that_is_not_found_is_named() -> None:
    world = World()
    world.base_is_deleted()
    settle(world, 5)
    assert world.condition("Ready") == ("False", "BaseNotFound", "there is no Deployment tiny-llama in namespace llm")


def test_a_base_with_a_problem_is_not_touched_and_its_problem_is_the_reason() -> None:
    world = World()
    assert world.base is not None
    problem = Problem(Reason.LORA_NOT_ENABLED, "tiny-llama runs without --enable-lora")
    world.base = replace(world.base, problems=(problem,))
    settle(world, 5)
    assert world.condition("Ready") == ("False", "LoraNotEnabled", "tiny-llama runs without --enable-lora")
    assert not world.jobs


def test_when_the_base_is_deleted_a_merged_model_goes_on_serving() -> None:
    world = promoted()
    world.base_is_deleted()
    settle(world, 20)
    assert world.served == artifact(M1) and world.answering()
    assert world.reason("Ready") == ("False", "BaseNotFound")
    world.base_comes_back(2)
    settle(world, 10)
    assert world.served == artifact(M1)
    assert world.reason("Ready") == ("True", "Serving")


def test_when_the_base_is_deleted_the_route_to_a_merged_model_can_still_be_made_again() -> None:
    world = promoted()
    world.base_is_deleted()
    world.selector = None
    settle(world, 2)
    assert world.served == artifact(M1) and world.answering()


def test_when_the_base_is_deleted_during_a_switch_to_a_merged_model_that_is_proven_all_the_same() -> None:
    world = until(serving_v1().promote(), in_step(Step.SWITCHING))
    world.base_is_deleted()
    settle(world, 3)
    assert world.served == artifact(M1) and world.answering()
    assert world.status.rollout.rejected == []


def test_a_step_that_the_base_left_behind_does_not_wait_for_ever() -> None:
    world = until(serving_v1().promote(), in_step(Step.BUILDING), slow=True)
    world.base_is_deleted()
    settle(world, 3)
    assert world.status.rollout.step is Step.IDLE
    world.pass_time(24 * 3600).base_comes_back(2)
    settle(world, 90)
    assert world.served == artifact(M1)
    assert world.status.rollout.rejected == []


def test_a_service_of_somebody_else_under_the_release_name_is_not_touched() -> None:
    world = World()
    world.services_taken = {ROUTE}
    settle(world, 10)
    assert world.selector is None
    assert world.condition("Ready") == (
        "False",
        "ServiceNameTaken",
        "Service support-bot exists and was not made for this release; it is not touched. "
        "Rename the release or the Service.",
    )


def test_a_taken_preview_service_stops_the_promotion_and_nothing_else() -> None:
    world = serving_v1().promote()
    world.services_taken = {f"{ROUTE}-preview"}
    world.add_pod()
    settle(world, 20)
    assert world.merged == {} and len(world.answering()) == 3
    assert world.reason("Ready") == ("False", "ServiceNameTaken")


def test_a_taken_preview_service_does_not_keep_a_broken_artifact_in_the_route() -> None:
    world = promoted()
    world.services_taken = {f"{ROUTE}-preview"}
    world.merged_goes(M1, available=False)
    world.merged[M1].never_starts = True
    settle(world, 45)
    assert world.served == adapter(V1) and world.answering()


def test_a_route_that_the_user_deleted_comes_back() -> None:
    world = serving_v1()
    world.selector = None
    settle(world, 2)
    assert sorted(world.answering()) == ["pod-0", "pod-1"]
