"""The cluster that all tests with a real vLLM share, and releases in the state that a test starts from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.pictures.kept import Kept
from tests.e2e import scraping
from tests.e2e.cluster import Cluster, measured
from tests.e2e.recorded import Life
from tests.e2e.release import Release, spec_of
from tests.e2e.sandbox import end_shared_cluster, shared_cluster
from tests.e2e.watched_life import play

LONGEST_TEST = 1200  # seconds: a server starts in half a minute to two, and some tests start two


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They come last: the cluster takes all of the machine, and what is quick should fail first."""
    items.sort(key=lambda item: item.get_closest_marker("e2e") is not None)
    for item in items:
        if item.get_closest_marker("e2e") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONGEST_TEST, func_only=True))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real node, a real vLLM with two replicas, the controller as a user installs it. Tests run one by one."""
    try:
        yield shared_cluster()
    finally:
        end_shared_cluster()


@pytest.fixture(scope="session")
def bot(cluster: Cluster) -> Release:
    """The release that most tests share; none of them may expect it to be new."""
    return Release(cluster, "support-bot")


@pytest.fixture
def experimental(bot: Release) -> Release:
    """The adapter v1 serves on two base pods."""
    bot.serve_v1_on(2)
    return bot


@pytest.fixture
def stable(bot: Release) -> Release:
    """The artifact of v1 serves, was observed, and stays."""
    bot.set_spec(spec_of("Stable"))
    bot.until("Promoted", "True", seconds=600)
    bot.until("Ready", "True", "Serving")
    return bot


@pytest.fixture(scope="session")
def watched_life(bot: Release, prometheus_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """Played once for all tests that ask, and what Prometheus has kept of it. TEST_PROMETHEUS_DATA names an empty
    directory in which that stays."""
    directory = tmp_path_factory.mktemp("prometheus")
    data = Path(os.environ.get("TEST_PROMETHEUS_DATA") or directory / "data").resolve()
    if data.is_dir() and any(data.iterdir()):
        pytest.fail(f"TEST_PROMETHEUS_DATA: {data} is not empty, and two lives in one place cannot be told apart")
    bot.delete()  # it remembers what was rejected
    bot.serve_v1_on(2)
    with (
        scraping.volume(bot.cluster.store) as kubelet,
        scraping.prometheus(prometheus_program, directory, data, kubelet) as server,
    ):
        life = Life(server, bot.cluster)
        try:
            play(life, directory, bot)
        finally:
            if life.pictured_until:  # pictures need no more
                Kept(life.began, life.pictured_until, scraping.EVERY, {"release": bot.name}).write(data)
                measured("pictures of it, with TEST_PROMETHEUS_DATA=DIR", "make pictures DATA=DIR")
        yield life
