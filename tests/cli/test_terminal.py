"""`status -w` in a terminal: one picture that moves, in a process of its own behind a pty."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bench.recording.screen import Screen as Shown
from tests.cli.place import RELEASE, Place
from tests.cli.states import world_in
from tests.docs.pages import ROOT
from tests.domain.world import ROUTE

PATIENCE = 30.0  # seconds, far more than it takes


class Screen:
    """What a terminal of 80 columns and 60 lines gets, and `shown`: what a person sees of it."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.process = process
        self._terminal = terminal
        self.text = ""
        self.shown = Shown(80, 60)

    def wait_for(self, what: str, last: str = "") -> None:
        """Fails when it does not come. `last`: the end of the last line of the picture that it is in."""
        ends = time.monotonic() + PATIENCE
        while what not in self.text or not "".join(self.shown.text()[-1:]).endswith(last):
            ready, _, _ = select.select([self._terminal], [], [], max(0.0, ends - time.monotonic()))
            assert ready, f"{what!r} did not come: {self.text[-2000:]}"
            self._take()

    def wait_for_end(self) -> int:
        """Exit code, after all that it says."""
        with suppress(OSError):  # EIO: nobody writes any more
            while True:
                self._take()
        return self.process.wait(PATIENCE)

    def _take(self) -> None:
        data = os.read(self._terminal, 1 << 16)
        self.shown.feed(data)
        self.text += data.decode(errors="replace")

    def forget(self) -> None:
        self.text = ""


@contextmanager
def watching(place: Place, kind: str = "xterm") -> Iterator[Screen]:
    terminal, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 80, 0, 0))
    command = [sys.executable, "-m", "controller", "status", ROUTE, "-w", "--kubeconfig", str(place.kubeconfig)]
    environment = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        command, stdin=side, stdout=side, stderr=side, cwd=ROOT, env=environment | {"TERM": kind, "LC_ALL": "C.UTF-8"}
    )
    os.close(side)
    try:
        yield Screen(process, terminal)
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def test_the_picture_follows_the_release_and_ctrl_c_ends_it(place: Place) -> None:
    place.hold(world_in("building"))
    with watching(place) as screen:
        screen.wait_for("quantize [########")
        assert "\x1b[33m" in screen.text, "in colours"
        screen.forget()
        status = world_in("rolled-back").status.to_wire()
        status["observedGeneration"] = world_in("building").generation
        place.api.update(f"{RELEASE}/status", lambda old: {**old, "status": status})
        screen.wait_for("Promoted,", last="ago")  # all of the picture: a signal in the middle of it tears it
        assert "\x1b[1A" in screen.text or "\x1b[" in screen.text, "it is drawn over the one before"
        screen.process.send_signal(signal.SIGINT)
        assert screen.wait_for_end() == 130
        lines = screen.shown.text()
        assert [line for line in lines if line.startswith("state")] == ["state    ✖ Degraded, RolledBack"]
        assert "└─ history" in lines, "the last picture stays"


def test_a_terminal_that_cannot_draw_gets_lines(place: Place) -> None:
    place.hold(world_in("building"))
    with watching(place, "dumb") as screen:
        screen.wait_for("Progressing, Building: quantize 40 %")
        screen.process.send_signal(signal.SIGINT)
        assert screen.wait_for_end() == 130
        assert "\x1b" not in screen.text
