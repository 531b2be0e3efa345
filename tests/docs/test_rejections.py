"""The table "What does not get through" in docs/operating.md, played on the decision itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from controller.api.reasons import Reason
from controller.api.status import (
    AdapterReleaseStatus,
    AdapterStatus,
    ArtifactStatus,
    BackendKind,
    ConditionType,
    Counters,
    HistoryEntry,
    RolloutStatus,
    Serving,
    Step,
)
from controller.api.v1alpha1 import ARTIFACT_LABEL, RELEASE_LABEL
from controller.domain.inputs import build_inputs, import_inputs, validate_inputs
from controller.domain.plan import Plan, plan
from controller.domain.snapshot import (
    EvaluateResult,
    JobFacts,
    JobKind,
    JobState,
    MergedFacts,
    PodFacts,
    Problem,
    RouteFacts,
    Snapshot,
    SuiteResult,
)
from tests.builders import A1, D1, D2, T0, ReleaseBuilder, adapter, artifact, base, release
from tests.docs.pages import ROOT, rows, section

DOCUMENTED = {row[0]: row[1:] for row in rows(section(ROOT / "docs" / "operating.md", "What does not get through"))}
PATH = base().adapter_path("finetune", D1)
ON_BASE = PodFacts("tiny-llama-0", "uid", "10.0.0.1", ready=True, loaded_label="1" * 8, adapters={"support-bot": PATH})
TO_ADAPTER = RouteFacts(
    owned=True,
    selector={"app": "tiny-llama", "loaded.adapterrelease.dev/support-bot": "1" * 8},
    target_port=8000,
    endpoints=frozenset({"tiny-llama-0"}),
    answered_root=PATH,
)
TO_ARTIFACT = RouteFacts(True, {RELEASE_LABEL: "support-bot", ARTIFACT_LABEL: "a" * 12}, target_port=8000)


def serving(backend: BackendKind) -> AdapterReleaseStatus:
    """The adapter is imported and has served; what serves now is `backend`."""
    first = HistoryEntry(revision=1, backend=adapter(D1), since=T0, reason="FirstLoad", adapter_digest=D1)
    second = HistoryEntry(revision=2, backend=artifact(A1), since=T0, reason="Promoted", adapter_digest=D1)
    history = [first] if backend is BackendKind.ADAPTER else [second, first]
    made = release().stable().build()
    return AdapterReleaseStatus(
        serving=Serving(backend=history[0].backend, revision=history[0].revision, since=T0),
        history=history,
        adapter=AdapterStatus(digest=D1, version="v1", inputs=import_inputs(made, base()), path=PATH),
        artifact=ArtifactStatus(
            id=A1,
            inputs=build_inputs(made, base(), D1),
            path=base().artifact_path(A1),
            adapter_digest=D1,
            quantized=True,
            adapter_latency_seconds="0.1",
        ),
    )


def remembering(builder: ReleaseBuilder, status: AdapterReleaseStatus) -> ReleaseBuilder:
    return builder.status(**dict(status))


def candidate(*pods: PodFacts) -> MergedFacts:
    made = MergedFacts("support-bot-merged", "uid", A1, replicas=1, root=base().artifact_path(A1), port=8000)
    return replace(made, available=len(pods), pods=pods)


def refused_import(reason: str) -> Plan:
    """A new version is refused while the old one serves."""
    made = remembering(release().version("v2"), serving(BackendKind.ADAPTER)).build()
    inputs, problem = import_inputs(made, base()), Problem(reason, "what is wrong")
    job = JobFacts(JobKind.IMPORT, "import", inputs, JobState.FAILED, failure=problem)
    return plan(Snapshot(made, base(), (ON_BASE,), jobs=(job,), route=TO_ADAPTER), T0)


def merged_only(builder: ReleaseBuilder) -> Plan:
    """A new version is one that vLLM cannot serve, while the old one serves."""
    status, made = serving(BackendKind.ADAPTER), builder.version("v2").build()
    new = AdapterStatus(digest=D2, version="v2", inputs=import_inputs(made, base()), path="p", merge_only="DoRA")
    made = remembering(builder, status.model_copy(update={"adapter": new})).build()
    return plan(Snapshot(made, base(), (ON_BASE,), route=TO_ADAPTER), T0)


def dropped_score() -> Plan:
    made = remembering(release().stable(), serving(BackendKind.ADAPTER)).build()
    result = EvaluateResult(suites=(SuiteResult("support", 100, adapter=0.97, artifact=0.60),), speedup=1.5)
    assert made.status.artifact is not None
    inputs = validate_inputs(made, made.status.artifact)
    job = JobFacts(JobKind.VALIDATE, "validate", inputs, JobState.SUCCEEDED, result=result)
    up = candidate(PodFacts("merged-0", "uid", ready=True))
    return plan(Snapshot(made, base(), (ON_BASE,), jobs=(job,), merged=(up,), route=TO_ADAPTER), T0)


def late_candidate() -> Plan:
    status = serving(BackendKind.ADAPTER)
    starting = RolloutStatus(step=Step.STARTING, inputs=A1, started_at=T0 - timedelta(hours=1), deadline=T0)
    made = remembering(release().stable(), status.model_copy(update={"rollout": starting})).build()
    return plan(Snapshot(made, base(), (ON_BASE,), merged=(candidate(),), route=TO_ADAPTER), T0)


def changed_artifact() -> Plan:
    status = serving(BackendKind.ADAPTER)
    starting = RolloutStatus(step=Step.STARTING, inputs=A1, started_at=T0, deadline=T0 + timedelta(hours=1))
    made = remembering(release().stable(), status.model_copy(update={"rollout": starting})).build()
    refuses = replace(candidate(), refused=Problem("ArtifactCorrupted", "a pod does not start"))
    return plan(Snapshot(made, base(), (ON_BASE,), merged=(refuses,), route=TO_ADAPTER), T0)


def after_the_swap(merged: MergedFacts) -> Plan:
    """The artifact is watched; what its pods are now makes the controller give it up, and go back."""
    observing = RolloutStatus(
        step=Step.OBSERVING,
        target=artifact(A1),
        origin=adapter(D1),
        started_at=T0 - timedelta(minutes=1),
        deadline=T0 + timedelta(minutes=1),
        counters=COUNTED,
    )
    status = serving(BackendKind.ARTIFACT).model_copy(update={"rollout": observing})
    made = remembering(release().stable(), status).build()
    decided = plan(Snapshot(made, base(), (ON_BASE,), merged=(merged,), route=TO_ARTIFACT), T0)
    made = remembering(release().stable(), decided.status).build()
    return plan(Snapshot(made, base(), (ON_BASE,), merged=(merged,), route=TO_ADAPTER), T0)


WITHOUT_MIN_SCORE = {"suites": [{"name": "support", "source": {"uri": "pvc://store/suites/support.jsonl"}}]}
COUNTED = Counters(pods=["c"], requests=100, errors=0, latency_milliseconds=10_000, latency_count=100)


def counting(errors: int = 0, milliseconds: int = 0) -> MergedFacts:
    """Ten more requests, of which so many were answered with 5xx; they took so long, all together."""
    late = COUNTED.latency_milliseconds + milliseconds
    update = {"requests": 110, "errors": errors, "latency_milliseconds": late, "latency_count": 110}
    return replace(candidate(PodFacts("merged-0", "uid", ready=True)), counters=COUNTED.model_copy(update=update))


PLAYED = {
    "an adapter for another base": lambda: refused_import("BaseMismatch"),
    "NaN or Inf in the weights": lambda: refused_import("NonFiniteWeights"),
    "rank over `--max-lora-rank`": lambda: refused_import("RankTooHigh"),
    "DoRA, biases, saved modules, embeddings at stage Experimental": lambda: merged_only(release()),
    "the same at stage Stable, without `minScore` in every suite": lambda: merged_only(
        release().stable().spec(validation=WITHOUT_MIN_SCORE)
    ),
    "a suite score that drops": dropped_score,
    "a candidate that never becomes ready": late_candidate,
    "an artifact that was changed after the build": changed_artifact,
    "a merged model that dies after the swap": lambda: after_the_swap(candidate()),
    "a merged model that answers 5xx after the swap": lambda: after_the_swap(counting(errors=1)),
    "a merged model that is slow after the swap": lambda: after_the_swap(counting(milliseconds=60_000)),
}


def test_all_of_them_are_documented() -> None:
    assert list(DOCUMENTED) == list(PLAYED)


@pytest.mark.parametrize("what", PLAYED)
def test_condition_reason_and_event_are_those_of_the_table(what: str) -> None:
    outcome = PLAYED[what]()
    documented_condition, reasons, event = DOCUMENTED[what]
    kind, _, wanted = documented_condition.strip("`").partition("=")
    condition = outcome.status.condition(ConditionType(kind))
    assert condition is not None
    assert (condition.status, f"`{condition.reason}`") in [(wanted, reason) for reason in reasons.split(" or ")]
    assert event.replace("`", "") in [f"{note.type} {note.reason}" for note in outcome.notes]


@pytest.mark.parametrize("what", PLAYED)
def test_the_adapter_still_serves_and_degraded_says_what_to_do(what: str) -> None:
    outcome = PLAYED[what]()
    degraded = outcome.status.condition(ConditionType.DEGRADED)
    assert degraded is not None
    assert degraded.status == "True"
    assert degraded.reason != Reason.NO_READY_BACKEND
    assert "adapterrelease.dev/retry" in degraded.message
    assert outcome.status.serving is not None
    assert outcome.status.serving.backend == adapter(D1)
