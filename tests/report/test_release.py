"""What the status of a release tells: the verdict with its reason, and as much of the rest as it has."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from controller.api.status import Condition, Rejected, Serving, Step
from controller.api.v1alpha1 import AdapterRelease
from controller.report.page import page_of
from controller.report.release import of_release
from tests.builders import A1, release
from tests.builders import adapter as adapter_backend
from tests.builders import artifact as artifact_backend
from tests.report.test_elements import Reader

NOW = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)
OTHER = "sha256:" + "9" * 64
ARTIFACT: dict[str, Any] = {
    "id": A1,
    "inputs": "i",
    "name": "merged-llama3-8b",
    "path": "/store/artifacts/" + "a" * 64,
    "digest": "sha256:" + "2" * 64,
    "sizeBytes": 5_700_000_000,
    "adapterDigest": "sha256:" + "1" * 64,
    "quantized": True,
    "provenance": {
        "base": "llama3-8b",
        "adapter.support": "v3 sha256:11",
        "tool.torch": "2.13.0",
        "quantization": "AWQ",
    },
    "verdict": "Pass",
    "validationInputs": "e" * 64,
    "scores": [{"name": "support", "samples": 200, "adapter": "0.945", "artifact": "0.94", "agreement": "0.94"}],
    "speedup": "1.45",
    "adapterTokensPerSecond": "747.1",
    "artifactTokensPerSecond": "1082.2",
    "adapterLatencySeconds": "0.42",
    "artifactLatencySeconds": "0.29",
}


def of(artifact: dict[str, Any] | None = None, **status: Any) -> AdapterRelease:
    made = release("support-bot").stable().build()
    document = made.to_wire()
    document.setdefault("status", {})["artifact"] = ARTIFACT | (artifact or {})
    found = AdapterRelease.model_validate(document)
    return found.model_copy(update={"status": found.status.model_copy(update=status)})


def validated(reason: str, message: str) -> list[Condition]:
    return [Condition(type="Validated", status="True", reason=reason, message=message, last_transition_time=NOW)]


def serving(backend: Any) -> Serving:
    return Serving(backend=backend, revision=2, since=NOW)


def test_scores_speed_size_and_provenance_are_told() -> None:
    report = of_release(of())
    assert report is not None
    assert [(s.name, s.samples, s.adapter, s.artifact) for s in report.suites] == [("support", 200, 0.945, 0.94)]
    assert report.speed is not None and (report.speed.speedup, report.speed.artifact.tokens_per_second) == (
        1.45,
        1082.2,
    )
    said = {d.label: d.value for d in report.provenance}
    assert said["Adapter support"] == "v3 sha256:11" and said["Tool torch"] == "2.13.0" and said["Quantized"] == "AWQ"
    text = Reader(page_of(report)).text
    assert "94.5 %90.4 to 97.2" in text, "a score of four digits is a count of examples"
    assert "−0.5not kept" in text, "and which of them changed is not in the status"


def test_what_the_status_lacks_is_named_with_where_it_is() -> None:
    report = of_release(of())
    assert report is not None
    assert len(report.missing) == 1 and f"{ARTIFACT['path']}/artifact.json" in report.missing[0]
    assert "--artifact" in report.missing[0]


@pytest.mark.parametrize("word", ["Pass", "Fail", "Inconclusive"])
def test_the_verdict_is_the_controller_s_with_its_words(word: str) -> None:
    report = of_release(
        of({"verdict": word}, conditions=validated("Validated", "support: adapter 0.945, artifact 0.94"))
    )
    assert report is not None
    assert (report.verdict.word, report.verdict.why) == (word, "support: adapter 0.945, artifact 0.94")
    assert "controller" in report.verdict.by


def test_a_rejected_artifact_says_what_it_was_rejected_for() -> None:
    made = of({"verdict": "Fail"}, conditions=validated("ValidationFailed", "something else by now"))
    rejected = Rejected(inputs="x", step=Step.VALIDATING, id=A1, reason="ValidationFailed", message="a drop of 0.3")
    other = rejected.model_copy(update={"id": OTHER, "message": "not this one"})
    rollout = made.status.rollout.model_copy(update={"rejected": [other, rejected]})
    report = of_release(made.model_copy(update={"status": made.status.model_copy(update={"rollout": rollout})}))
    assert report is not None and report.verdict.why == "a drop of 0.3"


def test_one_that_was_left_under_traffic_passed_and_says_both() -> None:
    made = of(serving=serving(adapter_backend("sha256:" + "1" * 64)), conditions=validated("Validated", "good"))
    left = Rejected(inputs="x", step=Step.OBSERVING, id=A1, reason="ChecksFailed", message="error rate 0.2")
    rollout = made.status.rollout.model_copy(update={"rejected": [left]})
    report = of_release(made.model_copy(update={"status": made.status.model_copy(update={"rollout": rollout})}))
    assert report is not None
    assert (report.verdict.word, report.verdict.why) == ("Pass", "good")
    assert report.standing == "The adapter serves, since 2026-11-25T10:00:00Z. It was left: error rate 0.2"


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        (artifact_backend(A1), "This artifact serves, since 2026-11-25T10:00:00Z."),
        (artifact_backend(OTHER), "Another artifact serves, since 2026-11-25T10:00:00Z."),
        (adapter_backend(OTHER), "The adapter serves, since 2026-11-25T10:00:00Z."),
    ],
)
def test_where_the_release_stands(backend: Any, said: str) -> None:
    report = of_release(of(serving=serving(backend)))
    assert report is not None and report.standing == said


def test_one_that_is_not_validated_yet_has_no_verdict() -> None:
    report = of_release(of({"verdict": "", "scores": [], "artifactTokensPerSecond": ""}))
    assert report is not None
    assert (report.verdict.word, report.verdict.why, report.suites, report.speed) == (
        "",
        "It is not validated yet.",
        (),
        None,
    )


def test_a_stage_that_asks_for_no_validation_is_no_reason_for_a_verdict() -> None:
    report = of_release(of(conditions=validated("NotRequested", "stage is Experimental: nothing is validated")))
    assert report is not None and (report.verdict.word, report.verdict.why) == ("Pass", "")


def test_an_artifact_without_a_live_adapter_is_compared_with_nothing() -> None:
    alone = {"name": "support", "samples": 200, "adapter": "", "artifact": "0.94"}
    report = of_release(of({"scores": [alone], "adapterTokensPerSecond": "", "speedup": ""}))
    assert report is not None
    assert report.suites[0].adapter is None and report.speed is not None and report.speed.adapter is None


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "1e999", "much"])
def test_numbers_that_somebody_wrote_into_the_status_are_not_believed(text: str) -> None:
    scores = [{"name": "support", "samples": 200, "adapter": text, "artifact": "0.94", "agreement": text}]
    fields = ("speedup", "adapterTokensPerSecond", "adapterLatencySeconds", "artifactLatencySeconds")
    report = of_release(of({"scores": scores, **dict.fromkeys(fields, text)}))
    assert report is not None and report.speed is not None
    assert (report.suites[0].adapter, report.suites[0].agreement) == (None, None)
    assert (report.speed.speedup, report.speed.adapter, report.speed.artifact.mean_seconds) == (None, None, None)
    assert "94.0 %" in Reader(page_of(report)).text
    none = of_release(of({"scores": [{"name": "s", "samples": 200, "artifact": text, "adapter": ""}]}))
    assert none is not None and none.suites == ()


def test_a_share_of_more_than_all_is_none() -> None:
    report = of_release(of({"scores": [{"name": "s", "samples": 200, "artifact": "1.5", "adapter": "1"}]}))
    assert report is not None and report.suites == ()


def test_where_nothing_was_built_there_is_no_report() -> None:
    assert of_release(release("support-bot").build()) is None
