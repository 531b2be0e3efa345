"""The cluster that all tests with a real vLLM share, and releases in the state that a test starts from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.release import Release, spec_of
from tests.e2e.sandbox import end_shared_cluster, shared_cluster

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
