"""What one look at a release says in numbers: status and facts in, samples out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from controller.api.status import (
    AdapterStatus,
    ArtifactStatus,
    Condition,
    HistoryEntry,
    PodState,
    RolloutStatus,
    Serving,
    Step,
    SuiteScore,
)
from controller.domain.plan import plan
from controller.domain.snapshot import JobFacts, JobKind, JobState, PodFacts, Snapshot, StageFacts
from controller.reconcile.release_metrics import FAMILIES
from controller.reconcile.release_samples import base_samples, release_samples
from tests.builders import A1, D1, T0, ReleaseBuilder, adapter, artifact, base, release
from tests.domain.lives import serving_v1
from tests.domain.turns import run
from tests.domain.world import World

KEY = ("llm", "support-bot")
AT = T0.timestamp()
ARTIFACT: dict[str, Any] = {"id": A1, "inputs": "i", "path": "/p", "adapter_digest": D1, "size_bytes": 7}


def samples(builder: ReleaseBuilder, waits: Collection[str] = (), **facts: Any) -> dict[tuple[str, ...], float]:
    made = builder.build()
    found = release_samples(Snapshot(made, **facts), made.status, waits)
    return {(family.name, *labels): value for family, labels, value in found}


def of(found: dict[tuple[str, ...], float], name: str) -> dict[tuple[str, ...], float]:
    """Of the metric of that name, by its labels behind namespace and name."""
    return {key[3:]: value for key, value in found.items() if key[0] == f"adapterrelease_{name}"}


def test_a_release_says_its_base_stage_and_model() -> None:
    found = samples(release().stable().spec(modelName="bot"))
    assert found["adapterrelease_info", *KEY, "tiny-llama", "Stable", "bot"] == 1
    assert of(found, "rollout_step") == {("Idle",): 1}


def test_each_condition_is_there_with_its_present_status_and_reason_only() -> None:
    made = [
        Condition(type=kind, status=status, reason=reason, last_transition_time=T0)
        for kind, status, reason in [("Ready", "False", "Pending"), ("Degraded", "True", "RolledBack")]
    ]
    assert of(samples(release().status(conditions=made)), "status_condition") == {
        ("Ready", "False", "Pending"): 1,
        ("Degraded", "True", "RolledBack"): 1,
    }


@pytest.mark.parametrize(
    ("backend", "said"), [(adapter(D1), ("Adapter", "v7", "")), (artifact(A1), ("Artifact", "v7", "a" * 12))]
)
def test_what_serves_is_named_by_its_version_and_an_artifact_by_its_short_id(backend: Any, said: Any) -> None:
    entry = HistoryEntry(revision=3, backend=backend, since=T0, reason="Promoted", version="v7")
    old = HistoryEntry(revision=2, backend=adapter(D1), since=T0, reason="FirstLoad", version="v6")
    found = samples(release().status(serving=Serving(backend=backend, revision=3, since=T0), history=[entry, old]))
    assert of(found, "serving_info") == {said: 1}


def test_nothing_serves_and_nothing_is_said_of_it() -> None:
    assert of(samples(release()), "serving_info") == {}


def test_a_step_has_its_beginning_and_its_deadline() -> None:
    rollout = RolloutStatus(step=Step.BUILDING, started_at=T0, deadline=T0 + timedelta(hours=2))
    found = samples(release().status(rollout=rollout))
    assert of(found, "rollout_step") == {("Building",): 1}
    assert of(found, "rollout_step_started_timestamp_seconds") == {("Building",): AT}
    assert of(found, "rollout_deadline_timestamp_seconds") == {(): AT + 7200}


def test_what_people_have_to_do_is_said_by_its_kind() -> None:
    assert of(samples(release(), ["Decision", "Mending"]), "waiting_for_people") == {("Decision",): 1, ("Mending",): 1}


def build_job(inputs: str, **changes: Any) -> JobFacts:
    stage = StageFacts("merge", done=40, total=100, bytes=40)
    return replace(JobFacts(JobKind.BUILD, "build-" + inputs, inputs, JobState.ACTIVE, stage=stage), **changes)


BUILDING = RolloutStatus(step=Step.BUILDING, inputs="new", started_at=T0, deadline=T0 + timedelta(hours=2))


def test_a_running_build_says_how_far_it_is_and_an_older_one_that_still_runs_does_not() -> None:
    old = build_job("old", stage=StageFacts("quantize", 1, 2, 0))
    found = samples(release().stable().status(rollout=BUILDING), jobs=(old, build_job("new")))
    assert of(found, "build_stage_done") == of(found, "build_stage_bytes") == {("merge",): 40}
    assert of(found, "build_stage_expected") == {("merge",): 100}


@pytest.mark.parametrize(
    "jobs", [(), (build_job("new", stage=None),), (build_job("new", state=JobState.FAILED),), (build_job("old"),)]
)
def test_a_build_that_does_not_run_has_no_stage(jobs: tuple[JobFacts, ...]) -> None:
    found = samples(release().stable().status(rollout=BUILDING), jobs=jobs)
    assert of(found, "build_stage_done") == {}


def test_a_stage_of_unknown_length_has_no_end() -> None:
    found = samples(
        release().stable().status(rollout=BUILDING), jobs=(build_job("new", stage=StageFacts("publish", 1, 0, 0)),)
    )
    assert of(found, "build_stage_done") == {("publish",): 1}
    assert of(found, "build_stage_expected") == {}


def test_an_artifact_has_a_size_a_speedup_scores_and_the_seconds_of_its_build() -> None:
    scores = [SuiteScore(name="support", samples=10, adapter="0.9000", artifact="0.8900")]
    made = ArtifactStatus(**ARTIFACT, speedup="1.50", scores=scores, build_seconds={"merge": "11.2"})
    found = samples(release().stable().status(artifact=made))
    assert of(found, "artifact_size_bytes") == {("a" * 12,): 7}
    assert of(found, "artifact_speedup_ratio") == {("a" * 12,): 1.5}
    assert of(found, "suite_score_ratio") == {("support", "adapter"): 0.9, ("support", "artifact"): 0.89}
    assert of(found, "build_stage_duration_seconds") == {("merge",): 11.2}


@pytest.mark.parametrize("text", ["", "nan", "inf", "fast"])
def test_what_was_not_measured_or_was_written_by_hand_is_left_out(text: str) -> None:
    scores = [SuiteScore(name="support", samples=10, adapter=text, artifact="0.8900")]
    made = ArtifactStatus(**ARTIFACT, speedup=text, scores=scores, build_seconds={"merge": text})
    found = samples(release().stable().status(artifact=made))
    assert of(found, "artifact_speedup_ratio") == of(found, "build_stage_duration_seconds") == {}
    assert of(found, "suite_score_ratio") == {("support", "artifact"): 0.89}


def test_the_adapter_is_there_or_missing_on_each_ready_pod_that_should_have_it() -> None:
    states = [
        ("a", "Loaded"),
        ("b", "Loading"),
        ("c", "Failed"),
        ("d", "NotReady"),
        ("e", "Unloaded"),
        ("gone", "Loaded"),
    ]
    pods = [PodState(name=name, state=state) for name, state in states]
    made = AdapterStatus(digest=D1, version="v1", inputs="i", path="/p", pods=pods)
    there = tuple(PodFacts(name, name) for name, _ in states if name != "gone")
    found = samples(release().status(adapter=made), base_pods=there)
    assert of(found, "adapter_loaded") == {("a",): 1, ("b",): 0, ("c",): 0}


def slots(*pods: PodFacts, **facts: Any) -> dict[tuple[str, ...], float]:
    found = base_samples(Snapshot(release().build(), base=base(max_cpu_loras=8, **facts), base_pods=pods))
    return {(family.name, *labels): value for family, labels, value in found}


def test_slots_are_those_of_the_servers_that_answer() -> None:
    found = slots(
        PodFacts("a", "a", ready=True, adapters={"x": "/x", "y": "/y"}),
        PodFacts("b", "b", ready=True, adapters={"x": "/x"}),
        PodFacts("mute", "c", ready=True),
        PodFacts("not-ready", "d", adapters={"x": "/x"}),
    )
    assert found["adapterrelease_base_slots", "llm", "tiny-llama", "used"] == 3
    assert found["adapterrelease_base_slots", "llm", "tiny-llama", "total"] == 16


def test_a_base_says_its_store_and_whether_it_has_the_plugin() -> None:
    assert slots() == {("adapterrelease_base_info", "llm", "tiny-llama", "store", "false"): 1}
    assert slots(has_plugin=True) == {("adapterrelease_base_info", "llm", "tiny-llama", "store", "true"): 1}
    assert base_samples(Snapshot(release().build())) == []


@pytest.mark.parametrize("finish", ["good", "bad", "fails", "nan"])
@pytest.mark.parametrize("plugin", [True, False])
def test_no_life_has_two_samples_with_the_same_labels_or_a_label_that_is_not_declared(
    finish: str, plugin: bool
) -> None:
    """One series twice, and Prometheus takes nothing of the whole scrape."""
    for world in (World(plugin=plugin), serving_v1(plugin=plugin).promote()):
        for _ in run(world, 90, finish=finish):
            seen = world.snapshot()
            found = [*release_samples(seen, plan(seen, world.now).status, ["Decision"]), *base_samples(seen)]
            series = [(family.name, *labels) for family, labels, _ in found]
            assert len(series) == len(set(series))
            assert all(len(labels) == len(family.labels) and family in FAMILIES for family, labels, _ in found)
            assert not any(len(label) > 40 for family, labels, _ in found for label in labels), "an id or a message"
