"""Plays commands in a terminal of their own, and keeps what a person would see, with the time.

Must not know: which commands, and what is written of it.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.recording.screen import Screen

PROMPT = "$ "
TYPED = 0.04  # seconds for a character
_SETTLES = 0.03  # seconds without output, after which what is there is a picture
_CHUNK = 1 << 16


class RecordingFailed(Exception):  # noqa: N818 - reads as what happened
    """The message says which command, and what it printed."""


@dataclass(frozen=True)
class Scene:
    title: str
    command: str  # as it is typed
    limit: float = 120.0  # seconds


@dataclass(frozen=True)
class Frame:
    """What the terminal shows from `at` seconds of its scene on."""

    at: float
    drawn: str  # for a terminal: text and sequences
    lines: tuple[str, ...]


@dataclass
class Played:
    scene: Scene
    typed: str  # for a terminal, before the command was typed
    frames: list[Frame] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def result(self) -> tuple[str, ...]:
        """What it has printed, at the end."""
        return self.frames[-1].lines if self.frames else ()


def play(
    scene: Scene, environment: Mapping[str, str], directory: Path, tell: Callable[[Frame], None] = lambda frame: None
) -> Played:
    """Raises RecordingFailed if the command fails, or takes too long. `tell` hears of each picture as it comes."""
    screen, clock = Screen(), time.monotonic
    began = clock()
    head = f"\x1b[2m# {scene.title}\x1b[0m\r\n{PROMPT}"
    screen.feed(f"{head}{scene.command}\r\n".encode())
    above, seen = len(screen.text()), ""
    played = Played(scene, head)
    code: int | None = None
    for chunk in _output(scene, environment, directory):
        if isinstance(chunk, int):
            code = chunk
            continue
        screen.feed(chunk)
        lines = tuple(screen.text()[above:])
        if (looks := _without_numbers(lines)) != seen:
            played.frames.append(Frame(clock() - began, screen.painted(), lines))
            tell(played.frames[-1])
            seen = looks
    last = Frame(clock() - began, screen.painted(), tuple(screen.text()[above:]))
    played.frames, played.seconds = [*played.frames, last], last.at
    if code != 0:
        how, said = f"ended with {code}", "\n".join(last.lines)
        if code is None:
            how = f"was not done after {scene.limit:.0f} s"
        raise RecordingFailed(f"{scene.command}\n{how}, and had printed:\n{said}")
    return played


def keystrokes(scene: Scene) -> Iterator[tuple[float, str]]:
    """Seconds from the first, and the character."""
    for index, character in enumerate(scene.command):
        yield index * TYPED, character


def _without_numbers(lines: Sequence[str]) -> str:
    """Seconds that pass are no other picture."""
    return re.sub(r"[0-9]+[smhd]?", "0", "\n".join(lines))


def _output(scene: Scene, environment: Mapping[str, str], directory: Path) -> Iterator[bytes | int]:
    """What comes, in pieces that are whole pictures; then the exit code, if the time is long enough for it."""
    size = Screen()
    terminal, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))
    process = subprocess.Popen(
        ["bash", "-c", scene.command],
        stdin=side,
        stdout=side,
        stderr=side,
        env=dict(environment),
        cwd=directory,
        start_new_session=True,
    )
    os.close(side)
    try:
        ends = time.monotonic() + scene.limit
        yield from _pieces(terminal, ends)
        with suppress(subprocess.TimeoutExpired):
            yield process.wait(max(1.0, ends - time.monotonic()))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(terminal)


def _pieces(terminal: int, ends: float) -> Iterator[bytes]:
    piece = b""
    while True:
        wait = _SETTLES if piece else max(0.0, ends - time.monotonic())
        ready, _, _ = select.select([terminal], [], [], wait)
        if not ready and not piece:
            return
        data = _read(terminal) if ready else b""
        piece += data
        if piece and (not ready or not data):
            yield piece
            piece = b""
        if ready and not data:
            return


def _read(terminal: int) -> bytes:
    """Nothing: the other side has closed it."""
    try:
        return os.read(terminal, _CHUNK)
    except OSError:  # EIO, as Linux says that
        return b""
