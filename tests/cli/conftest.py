"""A cluster for the commands, with nothing in it yet."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.place import Place, place_in

RECURSION_LIMIT = sys.getrecursionlimit()


@pytest.fixture(autouse=True)
def recursion_limit() -> Iterator[None]:
    """celpy raises it for the whole process, and other tests are about what is too deep."""
    yield
    sys.setrecursionlimit(RECURSION_LIMIT)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with place_in(tmp_path) as made:
        yield made
