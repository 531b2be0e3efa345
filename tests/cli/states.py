"""A release in each state that a user can see, made by the plan itself on the small cluster of tests/domain.

`STATES`: what brings a release there, and how it is to be assessed. No status is written by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC
from functools import cache

from controller.api.reasons import Reason
from controller.api.status import Step
from controller.cli.standing import Health
from controller.domain.snapshot import JobKind, JobState, Problem, hex_of
from tests.builders import BUILD, VALIDATION
from tests.domain.lives import (
    M1,
    V1,
    V2,
    break_it,
    in_step,
    observing,
    promoted,
    revision_does_not_start,
    rolling_back_to_nothing,
    serving_v1,
)
from tests.domain.turns import settle, until
from tests.domain.world import RIVAL, ROUTE, World

HEALTHY, PROGRESSING, SUSPENDED, DEGRADED = Health.HEALTHY, Health.PROGRESSING, Health.SUSPENDED, Health.DEGRADED


@dataclass(frozen=True)
class State:
    made: Callable[[], World]
    health: Health
    final: bool = False  # nothing more happens by itself


def _import_fails(reason: str, message: str) -> Callable[[], World]:
    def made() -> World:
        return _job_fails(until(World(), in_step(Step.IMPORTING), slow=True), JobKind.IMPORT, reason, message)

    return made


def _job_fails(world: World, kind: JobKind, reason: str, message: str) -> World:
    settle(world, 2, slow=True)
    key = next(k for k, j in world.jobs.items() if k[0] is kind and j.facts.state is JobState.ACTIVE)
    facts = world.jobs[key].facts
    world.jobs[key].facts = replace(facts, state=JobState.FAILED, failure=Problem(reason, message))
    return settle(world, 5)


def _progress(world: World, kind: JobKind, text: str) -> World:
    settle(world, 2, slow=True)
    key = next(k for k in world.jobs if k[0] is kind)
    world.jobs[key].facts = replace(world.jobs[key].facts, progress=text)
    return settle(world, 2, slow=True)


def _building() -> World:
    return until(serving_v1().promote(), in_step(Step.BUILDING), slow=True)


def _starting() -> World:
    world = until(serving_v1().promote(), lambda w: bool(w.merged))
    world.merged[M1].never_starts, world.merged[M1].available = True, False
    world.merged[M1].trouble = "pod m: container vllm: ImagePullBackOff: manifest unknown"
    return settle(world, 3)


def _validating() -> World:
    return _progress(until(serving_v1().promote(), in_step(Step.VALIDATING)), JobKind.VALIDATE, "evaluate 62 %")


def _validation(outcome: str) -> Callable[[], World]:
    return lambda: settle(until(serving_v1().promote(), in_step(Step.VALIDATING)), 40, finish=outcome)


def _canary(**more: object) -> World:
    steps = [{"weight": 10, "pause": "20s"}, {"weight": 50}, {"weight": 100, "pause": "5s"}]
    rollout = {
        "strategy": "Canary",
        "canary": {"httpRoute": "bot", "steps": steps, **more},
        "observe": {"duration": "60s", "interval": "10s"},
    }
    return serving_v1().edit(stage="Stable", build=BUILD, validation=VALIDATION, rollout=rollout)


def _canary_at(weight: int) -> World:
    return settle(until(_canary(), lambda w: w.accepted == weight), 5)


def _canary_not_in_effect() -> World:
    world = _canary()
    world.gateway_is_late = True
    return settle(until(world, in_step(Step.SHIFTING)), 3)


def _with_base(problem: Problem | None = None, **facts: object) -> World:
    world = World()
    assert world.base is not None
    problems = (problem,) if problem else ()
    world.base = replace(world.base, problems=problems, **facts)  # type: ignore[arg-type]
    return settle(world, 5)


def _base_is_gone() -> World:
    world = World()
    world.base_is_deleted()
    return settle(world, 5)


def _with_pods(change: Callable[[World], None], rounds: int = 20, pods: int = 2, slots: int = 4) -> World:
    world = World(pods, slots)
    change(world)
    return settle(world, rounds)


def _refuse(*names: str) -> Callable[[World], None]:
    def change(world: World) -> None:
        for pod in world.pods.values():
            pod.refuses = {hex_of(V1)} if pod.name in names else set()

    return change


def _not_ready(world: World) -> None:
    for pod in world.pods.values():
        pod.ready = False


def _full(world: World) -> None:
    for pod in world.pods.values():
        pod.adapters["stranger"] = "/elsewhere"


def _foreign(world: World) -> None:
    for pod in world.pods.values():
        pod.adapters[ROUTE] = "/somewhere/else"


def _load_is_late() -> World:
    world = World()
    for pod in world.pods.values():
        pod.mute = True
    return settle(world, 10, tick=120)


def _first_switch_is_late() -> World:
    world = World()
    world.answers_wrong = True
    return settle(until(world, in_step(Step.SWITCHING)), 90)


def _outage() -> World:
    world = serving_v1()
    _not_ready(world)
    return settle(world, 3)


def _rival() -> World:
    world = World()
    world.rivals = (RIVAL,)
    return settle(world, 10)


def _service_taken() -> World:
    world = World()
    world.services_taken = {ROUTE}
    return settle(world, 5)


def _plain_key() -> World:
    world = serving_v1()
    assert world.base is not None
    world.base = replace(world.base, api_key_is_plain=True)
    return settle(world.promote(), 20)


def _never_ready() -> World:
    world = _starting()
    return settle(world, 40, tick=30)


def _corrupted() -> World:
    world = _starting()
    world.merged[M1].refused = Problem(
        "ArtifactCorrupted", "pod m does not start: model.safetensors has another sha256"
    )
    return settle(world, 5)


def _checks_failed() -> World:
    return settle(_checks_fail(), 60)


def _checks_fail() -> World:
    world = settle(observing(), 3)
    break_it(world)
    return until(world, in_step(Step.ROLLING_BACK))


def _died() -> World:
    world = promoted()
    world.merged_goes(M1, available=False)
    world.merged[M1].never_starts = True
    return settle(world, 60)


def _straight(**validation: object) -> World:
    world = World(merge_only=(1,)).promote()
    return world.edit(validation=VALIDATION | validation) if validation else world


def _only_artifact_fails() -> World:
    world = settle(until(_straight(), in_step(Step.OBSERVING)), 3)
    break_it(world)
    return settle(world, 90)


def _updating() -> World:
    return until(serving_v1().set_version(2), in_step(Step.LOADING))


def _update_refused() -> World:
    world = serving_v1()
    for pod in world.pods.values():
        pod.refuses = {hex_of(V2)}
    return settle(world.set_version(2), 40, tick=30)


def _retried() -> World:
    """The annotation is written, and the controller has not seen it."""
    world = settle(_checks_failed(), 60)
    return world.annotate(retry=world.now.replace(tzinfo=UTC).isoformat()).pass_time(1)


def _edited() -> World:
    return promoted().set_version(2)


def _suite_without_min_score() -> dict[str, object]:
    suite = {key: value for key, value in VALIDATION["suites"][0].items() if key != "minScore"}
    return {"suites": [suite]}


def _settled() -> World:
    return settle(promoted().pass_time(3600), 15)


_MISMATCH = ("BaseMismatch", "layer model.layers.9 is not in the base, which has 4 layers")
_LORA_OFF = Problem(
    Reason.LORA_NOT_ENABLED, "Deployment tiny-llama runs without --enable-lora: add it to its arguments"
)
_TWO_STORES = Problem(Reason.SEVERAL_STORES, "Deployment tiny-llama mounts claims a and b: name the store")

STATES: dict[str, State] = {
    # the usual way
    "not-seen": State(World, PROGRESSING),
    "edited": State(_edited, PROGRESSING),
    "importing": State(lambda: until(World(), in_step(Step.IMPORTING), slow=True), PROGRESSING),
    "loading": State(lambda: until(World(), in_step(Step.LOADING)), PROGRESSING),
    "first-switch": State(lambda: until(World(), in_step(Step.SWITCHING)), PROGRESSING),
    "serving": State(serving_v1, HEALTHY),
    "updating": State(_updating, PROGRESSING),
    "building": State(lambda: _progress(_building(), JobKind.BUILD, "quantize 40 %, about 3m left"), PROGRESSING),
    "build-waits": State(lambda: _progress(_building(), JobKind.BUILD, "suspended: it waits for a queue"), PROGRESSING),
    "starting": State(_starting, PROGRESSING),
    "validating": State(_validating, PROGRESSING),
    "shifting-not-in-effect": State(_canary_not_in_effect, PROGRESSING),
    "shifting": State(lambda: _canary_at(10), PROGRESSING),
    "waits-for-person": State(lambda: _canary_at(50), SUSPENDED),
    "switching": State(lambda: until(serving_v1().promote(), in_step(Step.SWITCHING)), PROGRESSING),
    "observing": State(lambda: settle(observing(), 25), PROGRESSING),
    "promoted": State(promoted, HEALTHY),
    "settled": State(_settled, HEALTHY),
    "next-version-builds": State(
        lambda: settle(until(promoted().set_version(2), in_step(Step.BUILDING)), 2, slow=True), PROGRESSING
    ),
    "deletion-not-seen": State(lambda: promoted().delete(), PROGRESSING),
    "deleting": State(lambda: settle(serving_v1().delete(), 1), PROGRESSING),
    # people's own ways back
    "stage-set-back": State(lambda: settle(promoted().edit(stage="Experimental"), 20), HEALTHY),
    "pinned": State(lambda: settle(promoted().edit(rollback={"revision": 1}), 20), HEALTHY),
    "revision-not-found": State(lambda: settle(serving_v1().edit(rollback={"revision": 7}), 5), DEGRADED, True),
    "revision-does-not-start": State(revision_does_not_start, DEGRADED),
    # the base
    "base-not-found": State(_base_is_gone, PROGRESSING),
    "base-without-lora": State(lambda: _with_base(_LORA_OFF), DEGRADED, True),
    "base-with-two-stores": State(lambda: _with_base(_TWO_STORES), DEGRADED, True),
    "base-serves-the-name": State(lambda: _with_base(served_names=("tiny-llama", ROUTE)), DEGRADED, True),
    "name-taken": State(_rival, DEGRADED, True),
    "service-taken": State(_service_taken, DEGRADED, True),
    "no-ready-base-pod": State(lambda: _with_pods(_not_ready, 10), PROGRESSING),
    "outage": State(_outage, DEGRADED),
    # refused
    "import-rejected": State(_import_fails(*_MISMATCH), DEGRADED, True),
    "import-late": State(
        lambda: settle(until(World(), in_step(Step.IMPORTING), slow=True).pass_time(1000), 5, slow=True), DEGRADED, True
    ),
    "update-rejected": State(
        lambda: _job_fails(
            until(serving_v1().set_version(2), in_step(Step.IMPORTING), slow=True), JobKind.IMPORT, *_MISMATCH
        ),
        DEGRADED,
        True,
    ),
    "load-failed": State(lambda: _with_pods(_refuse("pod-0", "pod-1")), DEGRADED, True),
    "load-failed-on-one-pod": State(lambda: _with_pods(_refuse("pod-1"), pods=3), HEALTHY),
    "update-refused": State(_update_refused, DEGRADED, True),
    "no-free-slot": State(lambda: _with_pods(_full, slots=1), DEGRADED, True),
    "name-held-by-a-pod": State(lambda: _with_pods(_foreign, 15), DEGRADED, True),
    "load-late": State(_load_is_late, DEGRADED),
    "first-switch-late": State(_first_switch_is_late, DEGRADED),
    "api-key-in-plain-text": State(_plain_key, DEGRADED, True),
    "build-failed": State(
        lambda: _job_fails(_building(), JobKind.BUILD, "InsufficientMemory", "1.00 GiB are available, 9.00 are needed"),
        DEGRADED,
        True,
    ),
    "build-late": State(lambda: settle(_building().pass_time(7300), 5, slow=True), DEGRADED, True),
    "candidate-never-ready": State(_never_ready, DEGRADED, True),
    "artifact-corrupted": State(_corrupted, DEGRADED, True),
    "validation-failed": State(_validation("bad"), DEGRADED, True),
    "validation-inconclusive": State(_validation("errors"), DEGRADED, True),
    "retried": State(_retried, PROGRESSING),
    # gone back
    "not-approved": State(lambda: settle(_canary_at(50).pass_time(25 * 3600), 90), DEGRADED, True),
    "rolling-back": State(_checks_fail, PROGRESSING),
    "rolled-back": State(_checks_failed, DEGRADED, True),
    "rolled-back-by-death": State(_died, DEGRADED, True),
    "no-way-back": State(rolling_back_to_nothing, DEGRADED),
    # merged only
    "merge-only-refused": State(lambda: settle(World(merge_only=(1,)), 10), DEGRADED, True),
    "merge-only-without-proof": State(lambda: settle(_straight(**_suite_without_min_score()), 20), DEGRADED, True),
    "merge-only-promoted": State(lambda: settle(_straight(), 90), HEALTHY),
    "merge-only-fails": State(_only_artifact_fails, DEGRADED, True),
}


@cache
def world_in(name: str) -> World:
    """The world in that state, made once. Look at it, and copy it before you change it."""
    return STATES[name].made()
