"""Processor time of a server and of all that it began, from /proc: of every process that has a certain variable."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


class Processes:
    """Those that were begun with NAME=VALUE in their environment."""

    def __init__(self, name: str, value: str) -> None:
        self._mark = f"{name}={value}".encode()

    def seconds(self) -> tuple[float, float]:
        """Of processor time, in user and in kernel mode: of the first of them, that began the others, and of all."""
        found = {int(directory.name): _read(directory) for directory in self._found()}
        first = sum(p.seconds for p in found.values() if p.parent not in found)
        return first, sum(p.seconds for p in found.values())

    def _found(self) -> list[Path]:
        found = []
        for directory in Path("/proc").iterdir():
            if directory.name.isdigit():
                with suppress(OSError):  # ended, or not ours
                    if self._mark in (directory / "environ").read_bytes().split(b"\0"):
                        found.append(directory)
        return found


@dataclass(frozen=True)
class _Process:
    parent: int
    seconds: float


def _read(process: Path) -> _Process:
    """proc(5): ppid, utime and stime are the 4th, 14th and 15th field; the 2nd may hold spaces and brackets."""
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return _Process(int(fields[1]), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))
