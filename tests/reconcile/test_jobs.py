"""What a job came to, by the Job object, its pods and its progress."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from controller.domain.snapshot import (
    BuildResult,
    EvaluateResult,
    ImportResult,
    JobKind,
    JobState,
    StageFacts,
    SuiteResult,
)
from controller.reconcile.jobs import Progress, job_facts, waiting_text
from tests.builders import A1, D1
from tests.reconcile.cluster import import_summary
from tests.reconcile.test_life import build_summary

Json = dict[str, Any]


def job(condition: str = "", reason: str = "", message: str = "", kind: str = "import") -> Json:
    conditions = [{"type": condition, "status": "True", "reason": reason, "message": message}] if condition else []
    labels, annotations = {"adapterrelease.dev/job": kind}, {"adapterrelease.dev/inputs": "f" * 64}
    return {
        "metadata": {"name": "the-job", "uid": "job-uid", "labels": labels, "annotations": annotations},
        "status": {"conditions": conditions},
    }


def pod(name: str = "pod", code: int | None = 0, message: str = "", reason: str = "", at: str = "2026") -> Json:
    ended = {"exitCode": code, "message": message, "reason": reason, "finishedAt": at}
    state = {"running": {}} if code is None else {"terminated": ended}
    status = {"podIP": "10.0.0.1", "containerStatuses": [{"name": "job", "state": state}]}
    return {"metadata": {"name": name}, "status": status}


def failure(reason: str, message: str) -> str:
    return json.dumps({"kind": "Import", "failure": {"kind": "Permanent", "reason": reason, "message": message}})


def test_a_job_under_way_is_active_with_its_progress() -> None:
    facts = job_facts(job(), [pod(code=None)], "merge 40 %")
    assert facts is not None
    assert (facts.kind, facts.state, facts.progress, facts.inputs) == (
        JobKind.IMPORT,
        JobState.ACTIVE,
        "merge 40 %",
        "f" * 64,
    )


def test_a_build_under_way_says_what_it_is_made_of_if_it_was_written_down() -> None:
    made = job(kind="build")
    before = job_facts(made, [])
    made["metadata"]["annotations"]["adapterrelease.dev/made-of"] = "e" * 64
    after = job_facts(made, [])
    assert before is not None and after is not None
    assert (before.made_of, after.made_of) == ("", "e" * 64)


def test_an_import_gives_the_digest() -> None:
    facts = job_facts(job("Complete"), [pod(message=json.dumps(import_summary()))])
    assert facts is not None and isinstance(facts.result, ImportResult)
    assert (facts.state, facts.result.digest, facts.result.rank) == (JobState.SUCCEEDED, D1, 8)


def test_a_build_gives_flat_provenance() -> None:
    provenance = {
        "baseName": "tiny-llama",
        "baseDigest": "sha256:b",
        "adapters": [{"name": "finetune", "version": "v1", "digest": D1, "trainingRun": "mlflow:/1"}],
        "dtype": "bfloat16",
        "tools": {"torch": "2.13"},
    }
    result = {
        **{"kind": "Build", "artifactId": A1, "path": "/p", "name": "merged", "digest": "d", "sizeBytes": 9},
        **{"reused": True, "seconds": {"merge": 1.5}, "provenance": provenance},
    }
    facts = job_facts(job("Complete", kind="build"), [pod(message=json.dumps({"kind": "Build", "result": result}))])
    assert facts is not None and isinstance(facts.result, BuildResult)
    assert (facts.result.artifact_id, facts.result.reused, facts.result.size_bytes) == (A1, True, 9)
    assert facts.result.provenance == {
        "base": "tiny-llama",
        "baseDigest": "sha256:b",
        "dtype": "bfloat16",
        "adapter.finetune": f"v1 {D1}",
        "trainingRun.finetune": "mlflow:/1",
        "tool.torch": "2.13",
    }


def test_the_reference_of_an_evaluation_is_the_adapter() -> None:
    suite = {"name": "s", "samples": 10, "reference": 0.9, "candidate": 0.8, "agreement": 0.7, "errors": 1}
    side = {"requestsPerSecond": 1, "p95LatencySeconds": 3}
    benchmark = {
        "reference": side | {"outputTokensPerSecond": 20, "meanLatencySeconds": 0.5, "errors": 1},
        "candidate": side | {"outputTokensPerSecond": 40, "meanLatencySeconds": 0.25, "errors": 2},
        "speedup": 2.0,
    }
    result = {"kind": "Evaluate", "suites": [suite], "benchmark": benchmark}
    said = json.dumps({"kind": "Evaluate", "result": result})
    facts = job_facts(job("Complete", kind="validate"), [pod(message=said)])
    assert facts is not None
    assert facts.result == EvaluateResult(
        (SuiteResult("s", 10, 0.9, 0.8, 0.7, 1),),
        speedup=2.0,
        adapter_tokens_per_second=20,
        artifact_tokens_per_second=40,
        adapter_latency_seconds=0.5,
        artifact_latency_seconds=0.25,
        benchmark_errors=3,
    )


def test_an_evaluation_without_a_reference_knows_no_adapter() -> None:
    suite = {"name": "s", "samples": 10, "candidate": 0.8, "errors": 1}
    side = {"requestsPerSecond": 1, "p95LatencySeconds": 3, "outputTokensPerSecond": 40, "meanLatencySeconds": 0.25}
    result = {"kind": "Evaluate", "suites": [suite], "benchmark": {"candidate": side | {"errors": 2}}}
    said = json.dumps({"kind": "Evaluate", "result": result})
    facts = job_facts(job("Complete", kind="validate"), [pod(message=said)])
    assert facts is not None
    assert facts.result == EvaluateResult(
        (SuiteResult("s", 10, None, 0.8, None, 1),),
        artifact_tokens_per_second=40,
        artifact_latency_seconds=0.25,
        benchmark_errors=2,
    )


def test_of_several_pods_the_newest_that_said_something_counts() -> None:
    pods = [
        pod("old", 1, failure("DownloadFailed", "first try"), at="2026-01-01T00:00:00Z"),
        pod("new", 2, failure("BaseMismatch", "second try"), at="2026-01-01T00:01:00Z"),
        pod("killed", 137, "", at="2026-01-01T00:02:00Z"),
    ]
    facts = job_facts(job("Failed", "PodFailurePolicy"), pods)
    assert facts is not None and facts.failure is not None
    assert (facts.state, facts.failure.reason, facts.failure.message) == (JobState.FAILED, "BaseMismatch", "second try")


@pytest.mark.parametrize(
    ("condition", "pods", "reason", "says"),
    [
        (
            ("BackoffLimitExceeded", "too often"),
            [pod(code=137, reason="OOMKilled")],
            "OOMKilled",
            "give it more memory",
        ),
        (("DeadlineExceeded", "was active longer"), [], "DeadlineExceeded", "was active longer"),
        (("DeadlineExceeded", "was active longer"), [pod(code=143, reason="Error")], "DeadlineExceeded", "active"),
        (("BackoffLimitExceeded", "too often"), [pod(code=1, reason="Error")], "Error", "exit code 1; see its log"),
        (("BackoffLimitExceeded", "too often"), [], "BackoffLimitExceeded", "too often"),
    ],
)
def test_a_job_that_died_without_a_word_is_explained(
    condition: tuple[str, str], pods: list[Json], reason: str, says: str
) -> None:
    facts = job_facts(job("Failed", *condition), pods)
    assert facts is not None and facts.failure is not None
    assert facts.failure.reason == reason
    assert says in facts.failure.message


def test_success_without_a_result_is_a_failure() -> None:
    facts = job_facts(job("Complete"), [pod(message="not json")])
    assert facts is not None and facts.failure is not None
    assert (facts.state, facts.failure.reason) == (JobState.FAILED, "ResultMissing")


def test_success_whose_pod_is_gone_is_no_job_at_all() -> None:
    assert job_facts(job("Complete"), []) is None
    assert job_facts(job("Complete"), [pod(code=1, message=failure("DownloadFailed", "first try"))]) is None


def test_a_job_that_waits_says_for_what() -> None:
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no GPU"}
    pending = {"metadata": {"name": "p"}, "status": {"phase": "Pending", "conditions": [unschedulable]}}
    pulling = pod(code=None)
    pulling["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "ErrImagePull", "message": "no such"}}
    assert waiting_text(job(), [pending]) == "Unschedulable: no GPU"
    assert waiting_text(job(), [pulling]) == "container job: ErrImagePull: no such"
    assert waiting_text(job("Suspended"), []) == "suspended: it waits for a queue"
    assert waiting_text(job(), [pod(code=None)]) == ""
    assert waiting_text(job(), [pod(code=0)]) == "its pod has ended"
    assert waiting_text(job(), [pod(code=1)]) == "waiting for its pod"


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        *((None, ""), (-1, ""), (1e9, ""), ("soon", ""), (float("nan"), "")),
        *((0, ", about 10s left"), (41.2, ", about 50s left"), (61, ", about 2m left"), (7300, ", about 2h2m left")),
    ],
)
def test_progress_says_how_long_it_takes_where_the_job_knows(seconds: Any, says: str) -> None:
    answer = {"stage": "merge", "done": 2, "total": 5, "unit": "bytes", "secondsLeft": seconds}
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, text=json.dumps(answer)))) as http:
        assert Progress(http).of(job(), [pod(code=None)]) == f"merge 40 %{says}"


def test_progress_is_asked_at_most_every_ten_seconds_and_kept_while_it_is_silent() -> None:
    answers: list[Any] = [
        httpx.Response(200, json={"stage": "merge", "done": 2, "total": 5, "unit": "bytes"}),
        httpx.ConnectError("gone"),
        httpx.Response(200, json={"stage": "quantize", "done": 0, "total": 0}),
    ]
    asked: list[str] = []
    now = [0.0]

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, httpx.Response)
        return found

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        progress = Progress(http, lambda: now[0])
        said = []
        for moment in (0.0, 9.9, 10.0, 20.0):
            now[0] = moment
            said.append(progress.of(job(), [pod(code=None)]))
    assert said == ["merge 40 %", "merge 40 %", "merge 40 %", "quantize"]
    assert asked == ["http://10.0.0.1:9402/progress"] * 3


@pytest.mark.parametrize(
    ("answer", "stage"),
    [
        ({"stage": "merge", "done": 2, "total": 5, "bytes": 2}, StageFacts("merge", 2, 5, 2)),
        ({"stage": "x" * 99, "done": "2", "total": None, "bytes": -1}, StageFacts("x" * 40, 0, 0, 0)),
        ({"stage": "merge", "done": 10**400, "total": 1e400, "bytes": True}, StageFacts("merge", 0, 0, 1)),
        ({"stage": "", "done": 1}, None),
        ([], None),
    ],
)
def test_the_stage_of_a_running_job_is_what_it_said_last_in_numbers(answer: Any, stage: StageFacts | None) -> None:
    text = json.dumps(answer)
    with httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200, text=text))) as http:
        progress = Progress(http, lambda: 0.0)
        assert progress.stage_of(job(), [pod(code=None)]) is None, "it was not asked yet"
        progress.of(job(), [pod(code=None)])
        assert progress.stage_of(job(), [pod(code=None)]) == stage
        assert progress.stage_of(job(), [pod(code=1)]) is None, "its pod has ended"


def test_a_build_says_how_long_its_stages_took() -> None:
    summary = build_summary()
    summary["result"]["seconds"] = {"merge": 11.25}
    facts = job_facts(job("Complete", kind="build"), [pod(message=json.dumps(summary))])
    assert facts is not None and isinstance(facts.result, BuildResult)
    assert facts.result.seconds == {"merge": 11.25}
