"""Events: counted up, limited, written in the background, and never in the way."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from controller.runtime import logs
from controller.runtime.backoff import Backoff
from controller.runtime.client import KubeClient
from controller.runtime.events import EventRecorder
from controller.runtime.metrics import REGISTRY
from controller.runtime.resources import EVENTS
from tests.fakes import faults
from tests.fakes.apiserver import ApiServer
from tests.fakes.connection import Connection
from tests.runtime.waiting import PATIENCE, FakeClock

pytestmark = pytest.mark.slow

RELEASE = {
    "apiVersion": "adapterrelease.dev/v1alpha1",
    "kind": "AdapterRelease",
    "metadata": {"namespace": "llm", "name": "bot", "uid": "u1", "resourceVersion": "5"},
}
Recorders = Callable[..., EventRecorder]


def quick() -> Backoff:
    return Backoff(initial=0.001, maximum=0.01)


@pytest.fixture
def recorder(client: KubeClient, request: pytest.FixtureRequest) -> Iterator[Recorders]:
    made: list[EventRecorder] = []

    def make(**options: Any) -> EventRecorder:
        made.append(EventRecorder(client, request.node.name, backoff=quick, **options))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.stop(PATIENCE)


def events(api: ApiServer, namespace: str = "llm") -> list[dict[str, Any]]:
    items = [obj for place, obj in api.etcd.objects.items() if place.plural == "events"]
    return [obj for obj in items if obj["metadata"]["namespace"] == namespace]


def dropped(request: pytest.FixtureRequest, reason: str) -> float:
    labels = {"component": request.node.name, "reason": reason}
    return REGISTRY.get_sample_value("event_recorder_dropped_total", labels) or 0.0


def test_an_event_says_what_when_and_about_which_object(
    api: ApiServer, recorder: Recorders, request: pytest.FixtureRequest
) -> None:
    record = recorder(instance="pod-1")
    record.event(RELEASE, "Normal", "Promoted", "serving artifact x")
    assert record.stop(PATIENCE)
    (event,) = events(api)
    assert event["involvedObject"] == {
        "apiVersion": "adapterrelease.dev/v1alpha1",
        "kind": "AdapterRelease",
        "namespace": "llm",
        "name": "bot",
        "uid": "u1",
    }
    assert (event["type"], event["reason"], event["message"]) == ("Normal", "Promoted", "serving artifact x")
    assert (event["count"], event["firstTimestamp"]) == (1, event["lastTimestamp"])
    assert event["source"] == {"component": request.node.name}
    assert event["reportingInstance"] == "pod-1"


def test_the_same_event_counts_up_and_another_does_not(api: ApiServer, recorder: Recorders) -> None:
    record = recorder()
    for _ in range(4):
        record.event(RELEASE, "Warning", "LoadFailed", "pod a")
    record.event(RELEASE, "Warning", "LoadFailed", "pod b")
    newer = {**RELEASE, "metadata": {**RELEASE["metadata"], "resourceVersion": "9"}}  # type: ignore[dict-item]
    record.event(newer, "Warning", "LoadFailed", "pod a")
    assert record.stop(PATIENCE)
    assert sorted((event["message"], event["count"]) for event in events(api)) == [("pod a", 5), ("pod b", 1)]


def test_an_event_that_has_expired_is_made_again(api: ApiServer, recorder: Recorders) -> None:
    record = recorder()
    record.event(RELEASE, "Normal", "Loaded", "x")
    api.wait_for_requests(1, "POST")
    api.inject(faults.status(404, "NotFound"), method="PATCH", times=1)
    record.event(RELEASE, "Normal", "Loaded", "x")
    assert record.stop(PATIENCE)
    assert api.count("POST") == 2


def test_messages_that_differ_in_numbers_are_one_event_with_the_newest(api: ApiServer, recorder: Recorders) -> None:
    record = recorder()
    for number in range(3):
        record.event(RELEASE, "Warning", "CandidateNotReady", f"restarted {number} times")
    assert record.stop(PATIENCE)
    assert [(event["message"], event["count"]) for event in events(api)] == [("restarted 2 times", 3)]


def test_more_than_ten_different_messages_of_a_reason_are_combined(api: ApiServer, recorder: Recorders) -> None:
    record = recorder()
    for letter in "abcdefghijklm":
        record.event(RELEASE, "Warning", "LoadFailed", f"pod {letter}")
    record.event(RELEASE, "Warning", "BaseNotFound", "pod a")
    assert record.stop(PATIENCE)
    found = sorted((event["message"], event["count"]) for event in events(api) if event["reason"] == "LoadFailed")
    assert found[0] == ("(combined from similar events): pod m", 3)
    assert found[1:] == [(f"pod {letter}", 1) for letter in "abcdefghij"]
    assert "pod a" in [event["message"] for event in events(api) if event["reason"] == "BaseNotFound"]


def test_too_many_events_of_one_reason_are_dropped_and_other_objects_are_not(
    api: ApiServer, recorder: Recorders, request: pytest.FixtureRequest
) -> None:
    clock = FakeClock()
    record = recorder(clock=clock)
    for number in range(30):
        record.event(RELEASE, "Normal", "Loaded", f"message {number}")
    other = {"kind": "Pod", "namespace": "llm", "name": "p", "uid": "u2"}
    record.event(other, "Normal", "Loaded", "x")
    api.wait_for_requests(2, "POST")
    clock.advance(301)
    record.event(RELEASE, "Normal", "Loaded", "later")
    record.event(RELEASE, "Normal", "Loaded", "too soon")
    assert record.stop(PATIENCE)
    assert sum(event["count"] for event in events(api)) == 25 + 1 + 1
    assert dropped(request, "RateLimited") == 5 + 1


@pytest.mark.parametrize(
    ("kind", "reason"), [("Warning", "NonFiniteWeights"), ("Normal", "Built"), ("Warning", "Loaded")]
)
def test_what_happens_again_and_again_does_not_silence_what_happens_once(
    api: ApiServer, recorder: Recorders, kind: str, reason: str
) -> None:
    record = recorder(clock=FakeClock())
    for number in range(30):
        record.event(RELEASE, "Normal", "Loaded", f"message {number}")
    record.event(RELEASE, kind, reason, "x")
    assert record.stop(PATIENCE)
    assert ("x", 1) in [(e["message"], e["count"]) for e in events(api) if (e["type"], e["reason"]) == (kind, reason)]


def test_an_event_that_is_not_written_is_logged_with_the_id_of_its_reconciliation(
    api: ApiServer, recorder: Recorders
) -> None:
    lines: list[dict[str, Any]] = []

    class Lines(logging.Handler):
        def emit(self, line: logging.LogRecord) -> None:
            lines.append(json.loads(logs.JsonFormatter().format(line)))

    handler = Lines()
    logging.getLogger("controller.runtime.events").addHandler(handler)
    try:
        record = recorder()
        api.inject(faults.status(403, "Forbidden"))
        with logs.scope(key="llm/bot", reconcileID="0123"):
            record.event(RELEASE, "Normal", "Loaded", "x")
        assert record.stop(PATIENCE)
    finally:
        logging.getLogger("controller.runtime.events").removeHandler(handler)
    assert [(line["key"], line["reconcileID"]) for line in lines] == [("llm/bot", "0123")]


@pytest.mark.parametrize("fault", [faults.status(500, "InternalError"), faults.cut])
def test_an_event_survives_a_short_outage(api: ApiServer, recorder: Recorders, fault: faults.Fault) -> None:
    record = recorder()
    api.inject(fault, times=3)
    record.event(RELEASE, "Normal", "Loaded", "x")
    api.wait_for_requests(4, "POST")
    assert record.stop(PATIENCE)
    assert len(events(api)) == 1


def carried_out_and_cut(connection: Connection) -> None:
    """The answer is lost on the way."""
    connection.api.answer(connection.request_read)
    faults.cut(connection)


def test_an_event_whose_answer_was_lost_is_not_written_twice(api: ApiServer, recorder: Recorders) -> None:
    record = recorder()
    api.inject(carried_out_and_cut, method="POST", times=1)
    record.event(RELEASE, "Normal", "Loaded", "x")
    record.event(RELEASE, "Normal", "Loaded", "x")
    assert record.stop(PATIENCE)
    assert [(event["message"], event["count"]) for event in events(api)] == [("x", 2)]
    assert api.count("POST") == 2


def test_an_event_says_no_secret(api: ApiServer, recorder: Recorders) -> None:
    record = recorder()
    record.event(RELEASE, "Warning", "DownloadFailed", "x" * 1000 + " https://me:s3cr3tvalue@host/x")
    assert record.stop(PATIENCE)
    (event,) = events(api)
    assert "s3cr3t" not in event["message"] and event["message"].endswith("https://[redacted]@host")


def test_an_event_that_cannot_be_written_is_given_up(
    api: ApiServer, recorder: Recorders, request: pytest.FixtureRequest
) -> None:
    record = recorder()
    api.inject(faults.status(403, "Forbidden"), times=1)
    api.inject(faults.status(500, "InternalError"), times=5)
    for letter in "abc":
        record.event(RELEASE, "Normal", "Loaded", f"message {letter}")
    assert record.stop(PATIENCE)
    assert [event["message"] for event in events(api)] == ["message c"]
    assert api.count("POST") == 1 + 5 + 1
    assert dropped(request, "Failed") == 2


def test_a_hung_server_neither_blocks_nor_fills_the_memory(
    api: ApiServer, recorder: Recorders, request: pytest.FixtureRequest
) -> None:
    record = recorder(capacity=3)
    api.inject(faults.hang)
    record.event(RELEASE, "Normal", "Loaded", "the one that hangs")
    api.wait_for_requests(1, "POST")
    for number in range(10):
        record.event(RELEASE, "Normal", "Loaded", f"message {number}")
    assert dropped(request, "QueueFull") == 7
    assert not record.stop(timeout=0.01)
    record.event(RELEASE, "Normal", "Loaded", "after the end")
    assert dropped(request, "Stopped") == 1
    api.heal()


def test_events_of_cluster_scoped_objects_go_to_default(api: ApiServer, recorder: Recorders) -> None:
    record = recorder()
    record.event({"kind": "Node", "name": "n", "uid": "u"}, "Normal", "Seen", "x" * 5000)
    assert record.stop(PATIENCE)
    (event,) = events(api, "default")
    assert len(event["message"]) == 1024
    assert api.requests[-1].path == EVENTS.path("default")
