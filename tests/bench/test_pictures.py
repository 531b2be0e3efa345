"""Pictures of dashboards: what is asked, and that every kind of panel can be drawn. Drawing needs a browser."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import bench.pictures
from bench.pictures.answers import Asking, answered
from dashboards.__main__ import documents
from dashboards.board import panels_of
from tests.prometheus.conftest import lived  # noqa: F401 - the fixture
from tests.prometheus.server import Prometheus

RENDERER = Path(bench.pictures.__file__).parent / "renderer"


def test_every_kind_of_panel_can_be_drawn() -> None:
    kinds = re.search(r"const KINDS.*?= \{(.*?)\};", (RENDERER / "src" / "panels.tsx").read_text(), re.DOTALL)
    assert kinds
    known = set(re.findall(r"^\s+'?([\w-]+)'?:", kinds[1], re.MULTILINE))
    assert {panel["type"] for document in documents().values() for panel in panels_of(document)} <= known


def test_the_lock_has_sums_and_names_no_registry() -> None:
    lock = json.loads((RENDERER / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages["node_modules/@grafana/ui"]["license"] == "Apache-2.0"
    assert [name for name, package in packages.items() if "integrity" not in package] == []
    assert "resolved" not in json.dumps(lock)


@pytest.mark.parametrize(("seconds", "step"), [(600, 2), (7200, 30), (86400, 300), (30 * 86400, 3600)])
def test_there_are_no_more_points_than_pixels(seconds: int, step: int) -> None:
    assert Asking("http://unused", 0, seconds, scrape=2, width=1500).step == step


@pytest.mark.prometheus
@pytest.mark.parametrize("name", documents())
def test_no_panel_is_empty_after_a_life_of_releases(name: str, lived: tuple[Prometheus, int, int]) -> None:  # noqa: F811
    server, began, ended = lived
    chosen = {"release": "support-bot"} if name == "release.json" else {}
    page = answered(documents()[name], Asking(server.url, began, ended - 60, scrape=30, width=1500), chosen)
    assert page["empty"] == []
    assert bool(page["marks"]) is (name == "release.json")
