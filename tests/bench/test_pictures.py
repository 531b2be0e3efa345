"""Pictures of dashboards: what is asked, and that every kind of panel can be drawn. Drawing needs a browser."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, start_http_server

import bench.pictures
from bench.pictures.answers import Asking, answered
from bench.pictures.kept import Kept, kept
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


def test_a_recorded_life_is_told_as_it_was_left(tmp_path: Path) -> None:
    life = Kept(start=1.5, end=9.0, scrape=3, variables={"release": "bot"})
    life.write(tmp_path)
    assert kept(tmp_path) == life


def test_other_data_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--prometheus"):
        kept(tmp_path)


@pytest.mark.prometheus
def test_what_a_prometheus_has_scraped_is_there_for_the_next_one(prometheus_program: Path, tmp_path: Path) -> None:
    """A life is kept as a data directory: most of it is in the log of what is not in a block yet."""
    server, thread = start_http_server(0, addr="127.0.0.1", registry=CollectorRegistry())
    scraped = {"job_name": "x", "static_configs": [{"targets": [f"127.0.0.1:{server.server_port}"]}]}
    config = yaml.safe_dump({"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [scraped]})
    try:
        with Prometheus(prometheus_program, tmp_path / "first", config, tmp_path / "data") as first:
            assert first.until("up == 1", seconds=30)
        Kept(0, 1, 1, {}).write(tmp_path / "data")  # beside what is Prometheus's
        with Prometheus(prometheus_program, tmp_path / "second", data=tmp_path / "data") as second:
            assert second.instant("count_over_time(up[1h]) > 0")
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)
