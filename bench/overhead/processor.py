"""Processor time of a server and of all that it began, from /proc.

The server is found by a variable of its environment, the others by who began them: vLLM's engine writes its title over
the place where its own environment stood.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


class Processes:
    """The one that was begun with NAME=VALUE in its environment, and its descendants."""

    def __init__(self, name: str, value: str) -> None:
        self._mark = f"{name}={value}".encode()

    def seconds(self) -> tuple[float, float]:
        """Of processor time, in user and in kernel mode: of the first of them, that began the others, and of all."""
        processes = dict(self._all())
        found = {
            number: process
            for number, process in processes.items()
            if any(p.is_marked for p in _line(number, processes))
        }
        first = sum(p.seconds for p in found.values() if p.parent not in found)
        return first, sum(p.seconds for p in found.values())

    def _all(self) -> Iterator[tuple[int, _Process]]:
        for directory in Path("/proc").iterdir():
            if directory.name.isdigit():
                with suppress(OSError):  # ended, or not ours
                    yield int(directory.name), _read(directory, self._mark)


@dataclass(frozen=True)
class _Process:
    parent: int
    seconds: float
    is_marked: bool


def _line(number: int, processes: Mapping[int, _Process]) -> Iterator[_Process]:
    """A process, who began it, and so on."""
    while number in processes:
        yield processes[number]
        number = processes[number].parent


def _read(process: Path, mark: bytes) -> _Process:
    """proc(5): ppid, utime and stime are the 4th, 14th and 15th field; the 2nd may hold spaces and brackets."""
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return _Process(int(fields[1]), seconds, mark in (process / "environ").read_bytes().split(b"\0"))
