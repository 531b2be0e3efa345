"""What must not get through does not, is said, and what served before still serves."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import measured
from tests.e2e.load import Load
from tests.e2e.release import ANSWER, Json, Release, cheaply, spec_of

pytestmark = pytest.mark.e2e


def assert_degraded(release: Release, reason: str) -> None:
    degraded = release.until("Degraded", "True")
    assert degraded["reason"] == reason
    assert "What served before still serves" in degraded["message"]
    assert "adapterrelease.dev/retry" in degraded["message"]


def assert_told(release: Release, reason: str) -> None:
    events = release.cluster.until(f"an event {reason}", lambda: release.events(reason), 30)
    assert any(e["type"] == "Warning" for e in events)


@pytest.mark.parametrize(
    ("source", "reason"),
    [("other-base", "BaseMismatch"), ("nan", "NonFiniteWeights"), ("rank-too-high", "RankTooHigh")],
)
def test_a_bad_adapter_is_not_imported(experimental: Release, source: str, reason: str) -> None:
    served = experimental.serving
    adapters = {p.name for p in (experimental.cluster.store / "adapters" / "support-bot").iterdir()}
    experimental.set_spec(spec_of(source=source))
    imported = experimental.until("AdapterImported", "False", seconds=120)
    measured(f"{source} is refused with", f"{imported['reason']}: {imported['message'][:200]}")
    assert imported["reason"] == reason
    assert_degraded(experimental, reason)
    assert_told(experimental, reason)
    assert experimental.until("Ready", "False")["reason"] == reason
    assert experimental.serving == served
    assert ANSWER in experimental.ask()
    assert {p.name for p in (experimental.cluster.store / "adapters" / "support-bot").iterdir()} == adapters
    for pod in experimental.cluster.base_pods():
        assert len(experimental.cluster.models_in(pod)) == 2  # the base, and what served before


def test_a_drop_of_the_score_is_not_promoted(stable: Release) -> None:
    served = stable.serving
    with Load(stable.cluster, stable.name, rate=4) as load:
        stable.set_spec(cheaply(spec_of("Stable", source="shuffled")))
        validated = stable.until("Validated", "False", seconds=600)
        assert validated["reason"] == "ValidationFailed"
        assert "below minScore" in validated["message"] or "a drop of" in validated["message"]
        assert_degraded(stable, "ValidationFailed")
        assert_told(stable, "ValidationFailed")
        assert stable.serving == served
        assert ANSWER in stable.ask()
        load.assert_nothing_failed()
    measured("shuffled is refused with", validated["message"][:200])
    (rejected,) = stable.status["rollout"]["rejected"][-1:]
    assert (rejected["step"], rejected["id"]) == ("Validating", stable.status["artifact"]["id"])


@pytest.fixture
def unproven(stable: Release) -> Iterator[Json]:
    """A spec whose artifact no candidate has ever served, while v1's artifact serves."""
    spec = cheaply(spec_of("Stable", progressDeadline="5s"))
    spec["build"]["merge"] = {"dtype": "float32"}  # other tests have served the one in the base's dtype
    yield spec


def test_a_candidate_that_does_not_become_ready_is_given_up(stable: Release, unproven: Json) -> None:
    served = stable.serving
    stable.set_spec(unproven)
    validated = stable.until("Validated", "False", seconds=300)
    assert validated["reason"] == "CandidateNotReady"
    assert "5s" in validated["message"]
    assert_degraded(stable, "CandidateNotReady")
    assert_told(stable, "CandidateNotReady")
    assert stable.serving == served
    assert ANSWER in stable.ask()
    given_up = stable.status["artifact"]["id"]

    def its_deployment_is_gone() -> bool:
        ids = [d["metadata"]["annotations"]["adapterrelease.dev/artifact-id"] for d in stable.merged()]
        return given_up not in ids

    stable.cluster.until("its Deployment is deleted", its_deployment_is_gone, 60)


def test_a_candidate_whose_artifact_was_changed_does_not_start(stable: Release, unproven: Json) -> None:
    """One byte of the weights; found by the pod itself, long before the deadline of its start."""
    served = stable.serving
    stable.set_spec(unproven)
    stable.until("Validated", "False", "CandidateNotReady", seconds=300)
    weights = stable.artifact_directory() / "model.safetensors"
    flip_last_byte(weights)
    try:
        began = time.monotonic()
        stable.set_spec(unproven | {"rollout": unproven["rollout"] | {"progressDeadline": "10m"}})
        validated = stable.until("Validated", "False", "ArtifactCorrupted", seconds=120)
        measured("seconds until a changed artifact is refused", round(time.monotonic() - began, 1))
    finally:
        flip_last_byte(weights)
    assert "model.safetensors has sha256" in validated["message"]
    assert_degraded(stable, "ArtifactCorrupted")
    assert_told(stable, "ArtifactCorrupted")
    assert stable.serving == served
    assert ANSWER in stable.ask()


def flip_last_byte(path: Path) -> None:
    with path.open("r+b") as f:
        f.seek(-1, os.SEEK_END)
        (byte,) = f.read(1)
        f.seek(-1, os.SEEK_END)
        f.write(bytes([byte ^ 1]))


def test_a_merged_model_that_dies_after_the_swap_is_rolled_back(stable: Release) -> None:
    """By itself, to the adapter; remembered; and not tried again by the same spec."""
    stable.patch({"spec": {"stage": "Experimental"}})
    stable.until_serving("Adapter")
    watched = spec_of("Stable")
    watched["rollout"]["observe"]["duration"] = "10m"
    stable.set_spec(watched)
    stable.cluster.until("the artifact is observed", lambda: stable.step == "Observing", 300)
    artifact = stable.serving
    assert artifact["kind"] == "Artifact"

    stable.cluster.kill_container(stable.artifact_pod())
    stable.until_serving("Adapter")
    promoted = stable.until("Promoted", "False")
    assert promoted["reason"] in ("BackendUnavailable", "ChecksFailed")
    assert_degraded(stable, "RolledBack")
    assert_told(stable, "RolledBack")
    assert ANSWER in stable.ask()
    history = stable.status["history"]
    assert history[0]["reason"] == "RolledBack"

    assert stable.status["rollout"]["rejected"][-1]["id"] == artifact["id"]
    stable.patch({"spec": {"stage": "Experimental"}})
    stable.until("Ready", "True", "Serving")
    stable.patch({"spec": {"stage": "Stable"}})
    assert stable.until("Promoted", "False")["reason"] == promoted["reason"]
    assert stable.step == "Idle"
    assert stable.status["history"] == history
