"""A merged model that was good when it was validated, and fails or is slow once it has the traffic, is rolled back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.e2e.cluster import measured
from tests.e2e.load import Load
from tests.e2e.release import ANSWER, Json, Release, cheaply, spec_of

pytestmark = pytest.mark.e2e

LATENCY_RATIO = 4


class Fault:
    """In every server of an artifact."""

    def __init__(self, release: Release) -> None:
        self._file = release.cluster.store / "faults" / "fault.json"

    def begin(self, **fault: object) -> None:
        beside = self._file.with_suffix(".new")
        beside.write_text(json.dumps(fault))
        beside.rename(self._file)

    def end(self) -> None:
        self._file.unlink(missing_ok=True)


@pytest.fixture
def fault(bot: Release) -> Iterator[Fault]:
    fault = Fault(bot)
    yield fault
    fault.end()


def observed(release: Release, duration: str) -> Json:
    """Its artifact has all traffic and is watched; the backend is given back. Another duration is another spec: a try
    that an earlier test's rejection does not stand against."""
    spec = cheaply(spec_of("Stable"))
    spec["rollout"]["observe"] |= {
        "duration": duration,
        "interval": "2s",
        "maxLatencyRatio": str(LATENCY_RATIO),
        "failureLimit": 1,
    }
    release.set_spec(spec)
    release.cluster.until("the artifact is watched", lambda: release.step == "Observing", 400)
    assert release.serving["kind"] == "Artifact"
    return release.serving


def adapter_latency(release: Release) -> float:
    """Seconds, on this machine, as measured by the benchmark."""
    measured_latency = float(release.status["artifact"].get("adapterLatencySeconds") or 0)
    assert measured_latency > 0, "without it nothing is too slow"
    return measured_latency


def assert_rolled_back(release: Release, artifact: Json, because: str) -> None:
    promoted = release.until("Promoted", "False")
    assert promoted["reason"] == "ChecksFailed"
    assert because in promoted["message"]
    assert release.until("Degraded", "True")["reason"] == "RolledBack"
    assert release.cluster.until("an event", lambda: release.events("RolledBack"), 30)[-1]["type"] == "Warning"
    assert release.status["history"][0]["reason"] == "RolledBack"
    assert release.status["rollout"]["rejected"][-1]["id"] == artifact["id"]
    assert ANSWER in release.ask()


def test_a_merged_model_that_answers_500_is_rolled_back(experimental: Release, fault: Fault) -> None:
    with Load(experimental.cluster, experimental.name, rate=5) as load:
        artifact = observed(experimental, "11m")
        fault.begin(fails=True)
        began = time.monotonic()
        experimental.until_serving("Adapter")
        measured("seconds from the first 500 to the adapter's traffic", round(time.monotonic() - began, 1))
        assert_rolled_back(experimental, artifact, "error rate")
        assert all(ANSWER in experimental.ask() for _ in range(20))  # the fault is still there: nobody meets it
        result = load.stop()
    assert result["failed"] > 0
    assert all(cause.startswith("500") for cause in result["causes"])
    assert result["right"] == result["requests"] - result["failed"]


def test_a_merged_model_that_is_slow_is_rolled_back(experimental: Release, fault: Fault) -> None:
    with Load(experimental.cluster, experimental.name, rate=5) as load:
        artifact = observed(experimental, "12m")
        fault.begin(delaySeconds=1 + 2 * LATENCY_RATIO * adapter_latency(experimental))
        began = time.monotonic()
        experimental.until_serving("Adapter")
        measured("seconds from the first slow answer to the adapter's traffic", round(time.monotonic() - began, 1))
        assert_rolled_back(experimental, artifact, "mean latency")
        load.assert_nothing_failed()
