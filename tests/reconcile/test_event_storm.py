"""A candidate that crashes again and again: the plan's notes, through the recorder, are a handful of Event objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import pytest
from kubernetes.client.configuration import Configuration

from controller.api.status import Step
from controller.domain.notes import refusal
from controller.runtime.client import KubeClient
from controller.runtime.events import EventRecorder
from controller.runtime.transport import Transport
from tests.builders import adapter
from tests.domain.lives import M1, V1, in_step, promoted, serving_v1
from tests.domain.turns import Controller, until
from tests.domain.world import World
from tests.fakes.apiserver import ApiServer
from tests.runtime.waiting import PATIENCE

pytestmark = pytest.mark.slow

RELEASE = {"kind": "AdapterRelease", "namespace": "llm", "name": "support-bot", "uid": "u1"}
Crash = Callable[[World, int], None]


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture
def record(api: ApiServer) -> Iterator[EventRecorder]:
    configuration = Configuration()
    configuration.host = api.url
    client = KubeClient(Transport(configuration, "tests"))
    made = EventRecorder(client, "tests", capacity=10_000)
    made.start()
    yield made
    made.stop(PATIENCE)
    client.close()


def reasons(api: ApiServer) -> list[str]:
    return [event["reason"] for place, event in api.etcd.objects.items() if place.plural == "events"]


def crash(world: World, number: int, up: int = 7) -> None:
    """As the kubelet tells of it: other numbers each time, ready for a moment at each `up`-th."""
    merged = world.merged.get(M1)
    if merged is not None:
        merged.container += 1
        merged.available = number % up == 0
        merged.trouble = (
            f"container vllm: CrashLoopBackOff: back-off {10 * number}s restarting; Error (exit code 137), "
            f"restarted {number} times"
        )


def let_live(world: World, record: EventRecorder, crash: Crash, passes: int = 200) -> None:
    controller = Controller(world)
    for number in range(passes):
        crash(world, number)
        for note in controller.reconcile().notes:
            record.event(RELEASE, note.type, note.reason, note.message)
        world.pass_time(1)
    assert record.stop(PATIENCE)


def test_a_candidate_that_crashes_is_a_handful_of_events(api: ApiServer, record: EventRecorder) -> None:
    world = until(serving_v1().promote(), in_step(Step.STARTING))
    let_live(world, record, crash)
    assert world.served == adapter(V1)
    assert 1 <= len(reasons(api)) <= 6
    assert len(set(reasons(api))) == len(reasons(api)), "one for each reason"


def test_a_merged_model_that_serves_and_crashes_is_a_handful_of_events(api: ApiServer, record: EventRecorder) -> None:
    let_live(promoted(), record, partial(crash, up=50))
    assert "RolledBack" in reasons(api), "what matters is not lost in it"
    assert len(reasons(api)) <= 8


def test_a_base_pod_that_says_something_else_at_each_load_is_a_handful_of_events(
    api: ApiServer, record: EventRecorder
) -> None:
    def refuse(world: World, number: int) -> None:
        for pod in world.pods.values():
            pod.ready = number % 2 == 0
            if pod.failure is not None:
                pod.failure = replace(pod.failure, message=f"CUDA out of memory: tried {number} MiB")

    world = World()
    for pod in world.pods.values():
        pod.refuses.add(V1.removeprefix("sha256:"))
    until(world, in_step(Step.LOADING))
    let_live(world, record, refuse)
    assert len(reasons(api)) <= 8


def test_an_action_that_is_refused_in_other_words_each_time_is_one_event(api: ApiServer, record: EventRecorder) -> None:
    for number in range(200):
        message = f"run a Deployment: exceeded quota: used {number}Gi, limited {number + 1}Gi"
        record.event(RELEASE, "Warning", "ActionRefused", refusal(message))
    assert record.stop(PATIENCE)
    assert reasons(api) == ["ActionRefused"]
