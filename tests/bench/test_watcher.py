"""What changes of objects mean to the watcher of bench/no_request_lost."""

from __future__ import annotations

from typing import Any

from bench.no_request_lost.records import NOTE, REPORTED, ROUTE, State
from bench.no_request_lost.watcher import of_event, of_pod, of_release, of_service, of_slice, state_of

Json = dict[str, Any]


def release(revision: int = 1, kind: str = "Adapter", step: str = "Idle", reason: str = "Serving") -> Json:
    backend = {"kind": kind, "id": "sha256:11"}
    return {
        "metadata": {"name": "bot"},
        "status": {
            "serving": {"backend": backend, "revision": revision},
            "history": [{"revision": 2, "version": "v2"}, {"revision": 1, "version": "v1"}],
            "rollout": {"step": step},
            "conditions": [{"type": "Ready", "status": "True", "reason": reason}],
        },
    }


def test_who_serves_is_the_backend_and_the_version_of_the_revision_that_serves() -> None:
    assert state_of(release(2, "Artifact")) == State("Artifact", "sha256:11", "v2")
    assert state_of({"metadata": {"name": "bot"}}) is None


def test_another_revision_is_reported() -> None:
    assert list(of_release(release(1), release(2))) == [
        (REPORTED, "Adapter v2 11 serves", State("Adapter", "sha256:11", "v2"))
    ]


def test_a_status_that_says_the_same_again_is_no_report() -> None:
    assert list(of_release(release(), release())) == []


def test_steps_and_conditions_are_notes() -> None:
    said = list(of_release(release(), release(step="Loading", reason="Other")))
    assert said == [(NOTE, "step Idle -> Loading", None), (NOTE, "Ready=True Other", None)]


def test_nothing_serves_any_more() -> None:
    assert (NOTE, "nothing serves", None) in list(of_release(release(), {"metadata": {"name": "bot"}}))


def test_a_service_that_selects_otherwise_moves_the_route() -> None:
    old, new = {"spec": {"selector": {"a": "1", "b": "2"}}}, {"spec": {"selector": {"a": "1", "b": "3"}}}
    assert list(of_service(old, new)) == [(ROUTE, "the route selects {'b': '3'}", None)]
    assert list(of_service(new, new)) == []


def test_pods_behind_the_route_are_those_that_are_ready() -> None:
    def endpoints(*ready: str) -> Json:
        entries = [{"targetRef": {"name": n}, "conditions": {"ready": n in ready}} for n in ("p", "q")]
        return {"endpoints": entries}

    assert list(of_slice(endpoints("p", "q"), endpoints("q"))) == [(NOTE, "behind the route: q", None)]
    assert list(of_slice(endpoints("p"), endpoints())) == [(NOTE, "behind the route: nobody", None)]
    assert list(of_slice(endpoints("p"), endpoints("p"))) == []


def test_a_pod_restarts_and_goes() -> None:
    def pod(restarts: int, **meta: str) -> Json:
        statuses = [{"name": "vllm", "restartCount": restarts, "ready": not restarts}]
        return {"metadata": {"name": "p", **meta}, "status": {"containerStatuses": statuses}}

    assert list(of_pod(pod(0), pod(1))) == [(NOTE, "pod p: vllm not ready, restarts 1", None)]
    assert list(of_pod(pod(0), pod(0, deletionTimestamp="now"))) == [(NOTE, "pod p is to go", None)]
    assert list(of_pod(pod(0), None)) == [(NOTE, "pod p is gone", None)]


def test_events_of_the_release_and_all_warnings_are_told_once() -> None:
    def event(about: str, kind: str, count: int = 1) -> Json:
        return {"involvedObject": {"name": about}, "type": kind, "reason": "R", "message": "m", "count": count}

    assert list(of_event(None, event("bot", "Normal"), "bot")) == [(NOTE, "event on bot: R: m", None)]
    assert list(of_event(None, event("p", "Warning"), "bot")) == [(NOTE, "event on p: R: m", None)]
    assert list(of_event(None, event("p", "Normal"), "bot")) == []
    assert list(of_event(event("bot", "Normal"), event("bot", "Normal"), "bot")) == []
    assert list(of_event(event("bot", "Normal"), event("bot", "Normal", 2), "bot"))
