"""Where lines go: a terminal with colours and a picture that moves, or a file, a pipe, a log. Knows no releases."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from controller.cli.layout import NARROWEST, glyphs_for

_WIDEST = 120


class Screen(Protocol):
    """What shows how a release goes on."""

    def show(self, lines: Sequence[Text], summary: str) -> None: ...


class Terminal:
    """stdout, as it is. Rich looks at NO_COLOR, TERM and COLUMNS; without a terminal the width is 80."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, emoji=False)
        self.glyphs = glyphs_for(getattr(sys.stdout, "encoding", None))  # a moving picture puts another file there

    @property
    def width(self) -> int:
        return min(max(self._console.width, NARROWEST), _WIDEST)

    def print(self, lines: Sequence[Text]) -> None:
        for line in lines:
            self._console.print(line, soft_wrap=True)

    @contextmanager
    def following(self, result_follows: bool) -> Iterator[Screen]:
        """A picture that is drawn anew, and a line for each change where it cannot be.

        `result_follows`: stdout is for what comes after the block: the picture goes, and lines are for stderr.
        """
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            yield _Lines(result_follows)
            return
        with Live(console=self._console, auto_refresh=False, transient=result_follows) as live:
            yield _Picture(live)


class _Picture:
    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, lines: Sequence[Text], summary: str) -> None:
        self._live.update(Group(*lines), refresh=True)


class _Lines:
    def __init__(self, to_stderr: bool) -> None:
        self._to_stderr = to_stderr
        self._last = ""

    def show(self, lines: Sequence[Text], summary: str) -> None:
        if summary != self._last:
            print(summary, file=sys.stderr if self._to_stderr else sys.stdout, flush=True)
        self._last = summary
