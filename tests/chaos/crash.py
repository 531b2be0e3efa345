"""Kills the process at its n-th write, and before and after the first of each sort that nobody died at yet."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from controller.domain.actions import Action, EnsureJob

P = ParamSpec("P")
R = TypeVar("R")

BEFORE, AFTER = "before", "after"


@dataclass(frozen=True)
class Death:
    mode: str  # before or after the write
    at: int  # its number in the life of the process, from 1, over all releases
    write: str

    @classmethod
    def read(cls, note: Path) -> Death:
        mode, at, write = note.read_text().split(" ", 2)
        return cls(mode, int(at), write)


def sort_of(*arguments: Any) -> str:
    """Of what `Actor` or `StatusWriter` is called with. "Status": a decision or an observation is written down."""
    action = arguments[0]
    if not isinstance(action, Action):
        return "Status"
    name = type(action).__name__
    return f"{name} {action.kind.value}" if isinstance(action, EnsureJob) else name


@dataclass
class CrashPoint:
    """What died is said in `note`, which a process that is killed can't say otherwise."""

    mode: str
    at: int
    unkilled: dict[str, frozenset[str]]  # by mode: sorts of writes
    note: Path
    kill: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGKILL)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _count: int = 0

    def __call__(self, write: Callable[P, R], /) -> Callable[P, R]:
        def counted(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._lock:
                self._count += 1
                number = self._count
            sort = sort_of(*args)
            self._die(BEFORE, number, sort)
            try:
                return write(*args, **kwargs)
            finally:  # also after a failure: the write may have happened
                self._die(AFTER, number, sort)

        return counted

    def _die(self, mode: str, number: int, sort: str) -> None:
        if (mode, number) == (self.mode, self.at) or sort in self.unkilled[mode]:
            self.note.write_text(f"{mode} {number} {sort}")
            self.kill()
