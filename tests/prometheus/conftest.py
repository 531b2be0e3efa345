"""A Prometheus that holds a whole life of releases, for all tests that only ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.prometheus.life import LASTS
from tests.prometheus.scraped import BEGAN, lived_through
from tests.prometheus.server import Prometheus


@pytest.fixture(scope="session")
def lived(
    prometheus_program: Path, promtool: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Prometheus, int, int]]:
    """The server, and when the life began and ended."""
    directory = tmp_path_factory.mktemp("prometheus")
    blocks = lived_through(promtool, directory, BEGAN)
    with Prometheus(prometheus_program, directory / "run", data=blocks) as server:
        yield server, BEGAN, BEGAN + LASTS
