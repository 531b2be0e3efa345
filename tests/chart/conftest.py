"""Helm, and the chart as it renders it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.chart.rendering import ROOT, Chart

BUILD = ROOT / "sandbox" / "helm" / "build.sh"


@pytest.fixture(scope="session")
def helm_program() -> str:
    """The sandbox's; built if it is not there."""
    made = subprocess.run(["bash", BUILD], text=True, capture_output=True, check=False)
    if made.returncode:
        pytest.fail(f"Helm was not built:\n{made.stderr}")
    return str(Path(made.stdout.strip()) / "helm")


@pytest.fixture(scope="session")
def chart(helm_program: str, tmp_path_factory: pytest.TempPathFactory) -> Chart:
    return Chart(helm_program, tmp_path_factory.mktemp("helm"))
