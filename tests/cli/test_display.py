"""Progress on a terminal and elsewhere; neither touches the result on stdout."""

from __future__ import annotations

import io
import logging
import threading
from contextlib import redirect_stderr

import pytest

from controller.cli.display import shown
from controller.job.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(progress: Progress) -> None:
    progress.stage("merge", 4 << 20)
    progress.advance(4 << 20)
    progress.stage("quantize", 8, "samples")
    progress.advance(8)
    progress.finish()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def test_a_terminal_gets_a_bar_with_the_last_that_is_known(terminal: Terminal) -> None:
    with redirect_stderr(terminal), shown(Progress()) as progress:
        progress.stage("merge", 4 << 20)
        progress.advance(4 << 20)
    assert "merge" in terminal.getvalue() and "100%" in terminal.getvalue()


def test_a_stage_of_unknown_length_is_shown_too(terminal: Terminal) -> None:
    with redirect_stderr(terminal), shown(Progress()) as progress:
        progress.stage("load", unit="items")
    assert "load" in terminal.getvalue()


def test_an_error_ends_the_bar_and_is_raised(terminal: Terminal) -> None:
    with pytest.raises(OSError, match="disk"), redirect_stderr(terminal), shown(Progress()):
        raise OSError("disk")
    assert not [t for t in threading.enumerate() if t.name == "display"]


def test_elsewhere_each_stage_is_a_line_and_nothing_is_left_behind(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("adapterrelease.job")
    before = (log.level, list(log.handlers))
    with shown(Progress()) as progress:
        work(progress)
    said = capsys.readouterr()
    assert said.out == ""
    assert [x for x in said.err.splitlines() if "merge" in x] == ["stage merge of 4194304 bytes"]
    assert (log.level, list(log.handlers)) == before
