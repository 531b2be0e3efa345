"""The rule files, as tests read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DIRECTORY = ROOT / "manifests" / "prometheus"
FILES = ("alerts.yaml", "recording.yaml")

Json = dict[str, Any]


def groups(file: str) -> list[Json]:
    found: list[Json] = yaml.safe_load((DIRECTORY / file).read_text())["groups"]
    return found


def rules(file: str) -> list[Json]:
    return [rule for group in groups(file) for rule in group["rules"]]
