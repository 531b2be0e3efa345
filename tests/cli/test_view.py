"""What is read off the objects around a release."""

from __future__ import annotations

from typing import Any

import pytest

from controller.cli.logs import chosen
from controller.cli.view import job_views, merged_views, pod_view, route_view

Json = dict[str, Any]
ARTIFACT = "adapterrelease.dev/artifact"


def named(name: str, labels: Json | None = None, **more: Any) -> Json:
    return {"metadata": {"name": name, "labels": labels or {}, "creationTimestamp": "2026-01-01T00:00:00Z"}, **more}


def job(name: str, *conditions: str, made: str = "2026-01-01T00:00:00Z") -> Json:
    found = named(name, {"adapterrelease.dev/job": "build"})
    found["metadata"]["creationTimestamp"] = made
    return found | {"status": {"conditions": [{"type": c, "status": "True"} for c in conditions]}}


def test_a_route_tells_ready_pods_from_others() -> None:
    slices = [
        {"endpoints": [{"targetRef": {"name": "a"}, "conditions": {"ready": True}}, {"addresses": ["10.0.0.9"]}]},
        {"endpoints": [{"targetRef": {"name": "b"}, "conditions": {"ready": False}}]},
        {},
    ]
    found = route_view({"spec": {"selector": {ARTIFACT: "0123456789ab"}}}, slices)
    assert (found.selects, found.ready, found.not_ready) == ("0123456789ab", ("10.0.0.9", "a"), ("b",))


READY = [{"type": "Ready", "status": "True"}]
UNSCHEDULED = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no GPU"}]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({"phase": "Running", "conditions": READY}, "Ready"),
        ({"phase": "Running"}, "Starting"),
        ({"phase": "Pending"}, "Pending"),
        ({"phase": "Pending", "conditions": UNSCHEDULED}, "Unschedulable: no GPU"),
        ({"phase": "Succeeded", "conditions": READY}, "Succeeded"),
        ({}, "Pending"),
    ],
)
def test_a_pod_says_why_it_is_not_ready(status: Json, state: str) -> None:
    assert pod_view(named("p", status=status)).state == state


def test_a_pod_that_ends_is_not_ready_whatever_its_condition_says() -> None:
    pod = named("p", status={"phase": "Running", "conditions": READY})
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert (pod_view(pod).state, pod_view(pod).ready) == ("Terminating", False)


def test_restarts_of_all_containers_count() -> None:
    status = {"initContainerStatuses": [{"name": "i", "restartCount": 1}], "containerStatuses": [{"name": "c"}]}
    status["containerStatuses"][0]["restartCount"] = 2
    assert pod_view(named("p", status=status)).restarts == 3


def test_a_merged_deployment_has_its_own_pods() -> None:
    deployments = [named(n, {ARTIFACT: n}, spec={"replicas": 2}, status={"availableReplicas": 1}) for n in ("b", "a")]
    pods = [named("of-a", {ARTIFACT: "a"}), named("of-b", {ARTIFACT: "b"}), named("job", {})]
    first, second = merged_views(deployments, pods)
    assert (first.name, [p.name for p in first.pods], first.available, first.wanted) == ("a", ["of-a"], 1, 2)
    assert [p.name for p in second.pods] == ["of-b"]


def test_jobs_come_newest_first_with_their_state() -> None:
    jobs = [
        job("old", "Complete"),
        job("new", made="2026-01-02T00:00:00Z"),
        job("mid", "Failed", made="2026-01-01T12:00:00Z"),
    ]
    found = job_views(jobs, [named("p", {"batch.kubernetes.io/job-name": "new"})])
    assert [(j.name, j.state) for j in found] == [("new", "Running"), ("mid", "Failed"), ("old", "Complete")]
    assert [p.name for p in found[0].pods] == ["p"]


def test_a_log_is_of_the_job_that_runs_else_of_the_newest() -> None:
    waits = job("waits", "Suspended", made="2026-01-03T00:00:00Z")
    runs, ended = job("runs"), job("ended", "Complete", made="2026-01-02T00:00:00Z")
    for jobs, name in (([waits, runs, ended], "runs"), ([ended, waits], "waits"), ([ended], "ended")):
        found = chosen(job_views(jobs, []))
        assert found is not None and found.name == name
    assert chosen([]) is None
