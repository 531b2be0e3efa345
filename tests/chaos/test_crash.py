"""The killer of the chaos tests kills where it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.domain.actions import AddFinalizer, EnsureJob
from controller.domain.snapshot import JobKind
from tests.chaos.crash import AFTER, BEFORE, CrashPoint, Death

BUILD = EnsureJob("build it", JobKind.BUILD, "1")


class Killed(BaseException):
    pass


def killed() -> None:
    raise Killed


def lives(note: Path, mode: str, at: int, before: set[str], after: set[str]) -> tuple[list[object], Death]:
    """What was written until it died, and where."""
    said: list[object] = []
    crash = CrashPoint(mode, at, {BEFORE: frozenset(before), AFTER: frozenset(after)}, note, killed)
    act, write_status = crash(said.append), crash(said.append)
    with pytest.raises(Killed):
        act(AddFinalizer("it is new"))
        write_status("status")
        act(BUILD)
    return said, Death.read(note)


def test_it_kills_at_a_number(tmp_path: Path) -> None:
    said, death = lives(tmp_path / "note", BEFORE, 2, set(), set())
    assert (len(said), death) == (1, Death(BEFORE, 2, "Status"))
    said, death = lives(tmp_path / "note", AFTER, 2, set(), set())
    assert (len(said), death) == (2, Death(AFTER, 2, "Status"))


def test_it_kills_at_a_sort_whatever_the_number(tmp_path: Path) -> None:
    said, death = lives(tmp_path / "note", BEFORE, 9, {"EnsureJob build"}, set())
    assert (len(said), death) == (2, Death(BEFORE, 3, "EnsureJob build"))
    said, death = lives(tmp_path / "note", BEFORE, 9, set(), {"EnsureJob build"})
    assert (len(said), death) == (3, Death(AFTER, 3, "EnsureJob build"))
