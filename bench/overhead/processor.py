"""Processor time of a server and all that it began, from /proc: of every process that has a certain variable."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


class Processes:
    """Those that were begun with NAME=VALUE in their environment."""

    def __init__(self, name: str, value: str) -> None:
        self._mark = f"{name}={value}".encode()

    def seconds(self) -> float:
        """Of processor time, in user and in kernel mode, of those that live."""
        return sum(map(_seconds, self._found()))

    def _found(self) -> list[Path]:
        found = []
        for directory in Path("/proc").iterdir():
            if directory.name.isdigit():
                with suppress(OSError):  # ended, or not ours
                    if self._mark in (directory / "environ").read_bytes().split(b"\0"):
                        found.append(directory)
        return found


def _seconds(process: Path) -> float:
    """proc(5): utime and stime are the 14th and 15th field, in clock ticks; the 2nd may hold spaces and brackets."""
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
