"""A copy of the chart as a version before it would be: another version, and a CRD that lacks a column."""

from __future__ import annotations

import shutil
from pathlib import Path

from controller import __version__
from tests.chart.rendering import CHART

NEW_COLUMN = "    - name: Speedup\n      type: string\n      jsonPath: .status.artifact.speedup\n"
VERSION, OLDER = f"\nversion: {__version__}\n", "\nversion: 0.0.9\n"


def older_chart(directory: Path) -> Path:
    """In a directory that is not there yet."""
    shutil.copytree(CHART, directory)
    _without(directory / "templates" / "crd.yaml", NEW_COLUMN)
    _without(directory / "Chart.yaml", VERSION, OLDER)
    return directory


def _without(path: Path, text: str, instead: str = "") -> None:
    before = path.read_text()
    assert before.count(text) == 1, f"{path.name} does not have {text!r} once"
    path.write_text(before.replace(text, instead))
