"""Prometheus's own linter finds nothing in what the controller, the engine plugin and jobs serve."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from controller.engine.plugin.measured import Measured
from controller.job.progress import JobMetrics, Progress
from tests.cli.exposition import whole_exposition

pytestmark = pytest.mark.prometheus


def plugin_exposition() -> str:
    registry = CollectorRegistry()
    measured = Measured(registry)
    measured.version("0123")
    series = measured.series(("bot", "v1", "adapter-0123"))
    series.answered(200, 1.0)
    series.tokens(1, 2)
    series.streamed(0.1, 0.2, 3)
    return generate_latest(registry).decode()


def job_exposition() -> str:
    registry = CollectorRegistry()
    registry.register(JobMetrics(Progress()))
    return generate_latest(registry).decode()


def check(promtool: Path, exposition: str) -> tuple[int, str]:
    command = [str(promtool), "check", "metrics"]
    result = subprocess.run(command, input=exposition, text=True, capture_output=True, check=False)
    return result.returncode, result.stdout + result.stderr


@pytest.mark.parametrize("exposition", [whole_exposition, plugin_exposition, job_exposition])
def test_nothing_is_found(promtool: Path, exposition: object) -> None:
    assert callable(exposition)
    assert check(promtool, exposition()) == (0, "")


def test_something_would_be_found(promtool: Path) -> None:
    wrong = "# TYPE stages_total gauge\nstages_total 1\n"
    code, said = check(promtool, wrong)
    assert code != 0 and "stages_total" in said
