"""Workers: results, failures, metrics, and an end that is an end."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from io import StringIO

import pytest

from controller.errors import Conflict, TooManyRequests
from controller.runtime import logs
from controller.runtime.metrics import REGISTRY
from controller.runtime.resources import Key
from controller.runtime.worker import Result, Workers
from controller.runtime.workqueue import WorkQueue
from tests.runtime.waiting import PATIENCE, Recorder

A = Key("llm", "a")
Starter = Callable[..., tuple[WorkQueue[Key], Workers[Key]]]


@pytest.fixture
def start(request: pytest.FixtureRequest) -> Iterator[Starter]:
    running: list[Workers[Key]] = []

    def start(reconcile: Callable[[Key], Result], count: int = 1) -> tuple[WorkQueue[Key], Workers[Key]]:
        queue: WorkQueue[Key] = WorkQueue(request.node.name)
        workers = Workers(request.node.name, queue, reconcile, count)
        running.append(workers)
        workers.start()
        return queue, workers

    yield start
    for workers in running:
        assert workers.stop(PATIENCE)


def counted(request: pytest.FixtureRequest, metric: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(metric, {"controller": request.node.name, **labels})


def test_a_result_with_a_time_comes_again(start: Starter, request: pytest.FixtureRequest) -> None:
    seen = Recorder()

    def reconcile(key: Key) -> Result:
        seen(str(key))
        return Result(requeue_after=0.001 if len(seen.notes) < 3 else None)

    queue, workers = start(reconcile)
    queue.add(A)
    seen.wait_for(lambda notes: len(notes) == 3)
    assert workers.stop(PATIENCE)
    assert seen.notes == ["llm/a"] * 3
    assert counted(request, "controller_runtime_reconcile_total", result="requeue_after") == 2
    assert counted(request, "controller_runtime_reconcile_total", result="success") == 1
    assert counted(request, "controller_runtime_reconcile_time_seconds_count") == 3
    assert counted(request, "controller_runtime_max_concurrent_reconciles") == 1
    assert counted(request, "controller_runtime_active_workers") == 0


@pytest.mark.parametrize("error", [Conflict("changed"), ValueError("a bug")])
def test_a_failure_is_retried_with_backoff_and_a_success_forgets_it(
    start: Starter, request: pytest.FixtureRequest, error: Exception
) -> None:
    seen = Recorder()

    def reconcile(key: Key) -> Result:
        seen(queue.retries(key))
        if len(seen.notes) <= 3:
            raise error
        return Result()

    queue, workers = start(reconcile)
    queue.add(A)
    seen.wait_for(lambda notes: len(notes) == 4)
    assert workers.stop(PATIENCE)
    assert seen.notes == [0, 1, 2, 3]
    assert queue.retries(A) == 0
    assert counted(request, "controller_runtime_reconcile_errors_total") == 3
    assert counted(request, "controller_runtime_reconcile_total", result="error") == 3


def test_a_failure_waits_as_long_as_the_server_asks(start: Starter) -> None:
    logged = Recorder()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged(record.__dict__.get("retryIn"))

    def reconcile(key: Key) -> Result:
        raise TooManyRequests("slow down", retry_after=600)

    logger, handler = logging.getLogger("controller.runtime.worker"), Handler()
    logger.addHandler(handler)
    try:
        queue, _ = start(reconcile)
        queue.add(A)
        logged.wait_for(lambda notes: notes == [600])
    finally:
        logger.removeHandler(handler)


def test_stop_waits_for_what_runs_and_starts_nothing_new(start: Starter) -> None:
    began, go_on, seen = threading.Event(), threading.Event(), Recorder()

    def reconcile(key: Key) -> Result:
        began.set()
        assert go_on.wait(PATIENCE)
        seen(key.name)
        return Result()

    queue, workers = start(reconcile)
    queue.add(A)
    assert began.wait(PATIENCE)
    queue.add(Key("llm", "b"))
    assert not workers.stop(timeout=0)
    go_on.set()
    assert workers.stop(PATIENCE)
    assert seen.notes == ["a"]


def test_workers_that_were_stopped_do_not_start() -> None:
    """Leadership can be lost while the winner is still starting up."""
    queue: WorkQueue[Key] = WorkQueue("late")
    workers = Workers("late", queue, lambda key: Result())
    assert workers.stop()
    workers.start()
    assert workers.stop(timeout=0)


def test_every_line_of_a_reconciliation_carries_its_key_and_id(start: Starter) -> None:
    stream, seen = StringIO(), Recorder()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonFormatter())
    logger = logging.getLogger("test")
    logger.addHandler(handler)

    def reconcile(key: Key) -> Result:
        logger.warning("inside")
        seen(key)
        return Result()

    try:
        queue, workers = start(reconcile)
        for name in ("a", "b"):
            queue.add(Key("llm", name))
        seen.wait_for(lambda notes: len(notes) == 2)
    finally:
        logger.removeHandler(handler)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["key"], line["namespace"], line["name"]) for line in lines] == [
        ("llm/a", "llm", "a"),
        ("llm/b", "llm", "b"),
    ]
    assert len({line["reconcileID"] for line in lines}) == 2
    assert {line["controller"] for line in lines} == {workers._name}
