"""Every line of a reconciliation has its id: also those of threads that ask vLLM. Actions are told once."""

from __future__ import annotations

import json
import logging
import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx
import pytest

from controller.errors import PermanentError, TransientError
from controller.reconcile.engines import Engines, Secrets
from controller.runtime import logs
from controller.runtime.resources import Key
from controller.runtime.worker import Result, Workers
from controller.runtime.workqueue import WorkQueue
from tests.builders import release
from tests.reconcile.cluster import Cluster, cluster
from tests.reconcile.test_life import serve_adapter
from tests.runtime.waiting import PATIENCE, Recorder

pytestmark = pytest.mark.slow

Line = dict[str, Any]


@pytest.fixture
def lines() -> Iterator[list[Line]]:
    """What the controller logs, from DEBUG on."""
    found: list[Line] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(json.loads(logs.JsonFormatter().format(record)))

    logger, handler = logging.getLogger("controller"), Lines()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(before)


def test_an_error_in_a_thread_that_asks_vllm_has_the_id_of_its_reconciliation(lines: list[Line]) -> None:
    """Two reconciliations at the same time, on the same threads."""
    both, seen = threading.Barrier(2, timeout=PATIENCE), Recorder()

    def no_answer() -> None:
        both.wait()
        raise TransientError("no route to host")

    def reconcile(key: Key) -> Result:
        engines.of_all([no_answer])
        seen(key)
        raise TransientError("the base does not answer")

    with httpx.Client() as http, ThreadPoolExecutor(2) as pool:
        engines = Engines(http, Secrets(None), pool)  # type: ignore[arg-type] # no Secret is read
        queue: WorkQueue[Key] = WorkQueue("ids")
        workers = Workers("ids", queue, reconcile, count=2)
        workers.start()
        for name in ("a", "b"):
            queue.add(Key("llm", name))
        seen.wait_for(lambda notes: {"a", "b"} <= {key.name for key in notes})
        both.abort()
        assert workers.stop(PATIENCE)
    said = defaultdict(set)
    for line in lines:
        if line["msg"].startswith(("a server gave no answer", "reconciliation failed: the base")):
            said[line["key"], line["reconcileID"]].add(line["logger"])
    whole = [key for (key, _), loggers in said.items() if len(loggers) == 2]
    assert {"llm/a", "llm/b"} <= set(whole)
    assert len(said) == len({identity for _, identity in said})


@pytest.fixture
def world() -> Iterator[Cluster]:
    with cluster() as made:
        made.add_base()
        yield made


def told(lines: list[Line], level: str = "info") -> list[str]:
    return [line["msg"] for line in lines if line["logger"] == "controller.reconcile.act" and line["level"] == level]


def test_an_action_is_told_once_and_not_at_each_try(world: Cluster, lines: list[Line]) -> None:
    made = release().stable()
    made.wire["spec"]["build"]["podTemplate"] = {"spec": {"containers": [{"name": "job", "env": [{"value": "1"}]}]}}
    world.apply(made)
    serve_adapter(world)
    lines.clear()
    for _ in range(20):
        with suppress(PermanentError):
            world.reconcile()
    builds = [message for message in told(lines) if message.startswith("build with inputs")]
    assert len(builds) == 1
    assert len([message for message in told(lines, "debug") if message in builds]) >= 15


def test_each_action_of_a_life_is_a_sentence_with_its_kind(world: Cluster, lines: list[Line]) -> None:
    world.apply(release())
    serve_adapter(world)
    acted = [line for line in lines if line["logger"] == "controller.reconcile.act"]
    assert {"EnsureJob", "LoadAdapter", "ProbeAndLabel", "SwitchRoute"} <= {line["action"] for line in acted}
    assert all(" " in line["msg"] for line in acted)
