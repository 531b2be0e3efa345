"""The rule files, as tests read them: as they are, and hurried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from controller.api.types import parse_duration

ROOT = Path(__file__).resolve().parents[2]
DIRECTORY = ROOT / "manifests" / "prometheus"
FILES = ("alerts.yaml", "recording.yaml")
HURRY = 480  # a `for` of 4 hours is half a minute

Json = dict[str, Any]


def groups(file: str) -> list[Json]:
    found: list[Json] = yaml.safe_load((DIRECTORY / file).read_text())["groups"]
    return found


def rules(file: str) -> list[Json]:
    return [rule for group in groups(file) for rule in group["rules"]]


def hurried() -> list[Json]:
    """The alerts with each `for` divided by HURRY, and a label that says so. Nothing else is changed."""
    found = groups("alerts.yaml")
    for group in found:
        group["name"] += "-hurried"
        for rule in group["rules"]:
            rule["labels"]["hurried"] = "yes"
            if "for" in rule:
                rule["for"] = f"{round(parse_duration(rule['for']).total_seconds() * 1000 / HURRY)}ms"
    return found
