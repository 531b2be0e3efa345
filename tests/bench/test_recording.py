"""The terminal recording: what a terminal in memory shows, what is kept of a command, and what is written of it."""

from __future__ import annotations

import json
import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

from bench.recording.__main__ import play_all, write
from bench.recording.player import Frame, Played, RecordingFailed, Scene, play
from bench.recording.screen import Screen
from bench.recording.story import INSTALLATION, LIFE
from bench.recording.written import LONGEST_WAIT, cast, page
from controller.cli.main import app
from tests.docs.pages import ROOT

# A picture that is drawn over the one before, as `status` draws one, and the result in its place.
MOVES = """
from rich.console import Console
from rich.live import Live
from rich.text import Text

console = Console()
print("it begins")
with Live(console=console, auto_refresh=False, transient=True) as live:
    for step in ("Importing", "Importing", "Loading"):
        live.update(Text(f"state    o {step}\\n└─ job", "yellow"), refresh=True)
print("state    + Serving")
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "moves.py"
    path.write_text(MOVES)
    return f"{sys.executable} {path}"


def played(command: str, directory: Path, title: str = "Try it") -> Played:
    return play(Scene(title, command), dict(os.environ) | {"TERM": "xterm-256color"}, directory)


# -- the terminal
@pytest.mark.parametrize(
    ("output", "lines"),
    [
        (b"one\r\ntwo\r\n", ["one", "two"]),
        (b"one\rtwo", ["two"]),
        (b"one\r\ntwo\r\n\x1b[2A\x1b[2Kthree", ["three", "two"]),
        (b"one\r\ntwo\r\x1b[1A\x1b[J", []),
        (b"abc\x1b[1D\x1b[K!", ["ab!"]),
        (b"\x1b[31mred\x1b[0m and \x1b[?25l\x1b]0;title\x07plain", ["red and plain"]),
        (b"a\tb", ["a       b"]),
        ("häppchen ✔".encode(), ["häppchen ✔"]),
        (b"x" * 141, ["x" * 136, "x" * 5]),
    ],
)
def test_a_terminal_shows_what_a_real_one_would(output: bytes, lines: list[str]) -> None:
    whole, by_byte = Screen(), Screen()
    whole.feed(output)
    for byte in output:
        by_byte.feed(bytes([byte]))
    assert whole.text() == by_byte.text() == lines


def test_what_is_painted_looks_the_same_in_another_terminal() -> None:
    screen, other = Screen(rows=3), Screen(rows=3)
    screen.feed(b"0\r\n1\r\n\x1b[1;32mgreen\x1b[0m and not\r\n3")
    other.feed(b"old\r\nold\r\nold")
    other.feed(screen.painted().encode())
    assert other.text() == ["1", "green and not", "3"]
    assert other.painted() == screen.painted()


# -- what is kept
def test_pictures_are_kept_where_more_than_numbers_change_and_the_result_is_the_last(
    script: str, tmp_path: Path
) -> None:
    done = played(script, tmp_path)
    assert done.result == ("it begins", "state    + Serving")
    assert len({frame.lines for frame in done.frames}) <= 4
    assert all(frame.drawn.startswith("\x1b[H\x1b[J\x1b[0m\x1b[2m# Try it") for frame in done.frames)


def test_a_command_sees_a_terminal_of_the_recording_s_size(tmp_path: Path) -> None:
    assert played("stty size; test -t 0 -a -t 1 -a -t 2", tmp_path).result == ("36 136",)


def test_a_command_that_fails_is_said_with_its_words_and_nothing_is_written(tmp_path: Path) -> None:
    scenes = [Scene("Good", "echo good"), Scene("Bad", "echo no such release; exit 2")]
    with pytest.raises(RecordingFailed, match=r"ended with 2, and had printed:\nno such release"):
        write(play_all(scenes, os.environ, tmp_path), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_does_not_end_is_ended(tmp_path: Path) -> None:
    with pytest.raises(RecordingFailed, match=r"read forever\nwas not done after 0 s, and had printed:"):
        play(Scene("Long", "read forever", limit=0.2), os.environ, tmp_path)


# -- what is written
def test_the_cast_is_of_version_2_and_plays_to_what_was_seen(script: str, tmp_path: Path) -> None:
    scenes = [played(script, tmp_path), played("echo done", tmp_path, "End it")]
    header, *events = [json.loads(line) for line in cast(scenes, "a title").splitlines()]
    assert (header["version"], header["width"], header["height"], header["title"]) == (2, 136, 36, "a title")
    times = [at for at, _, _ in events]
    assert times == sorted(times) and {kind for _, kind, _ in events} == {"o"}
    terminal, pictures = Screen(), []
    for _, _, text in events:
        terminal.feed(text.encode())
        pictures.append("\n".join(terminal.text()))
    assert pictures[0] == "# Try it\n$"
    assert "it begins\nstate    + Serving" in "".join(pictures)
    assert pictures[-1] == "# End it\n$ echo done\ndone"


def test_waits_are_cut_and_times_within_a_second_are_not() -> None:
    done = Played(Scene("Wait", "x"), "$ ", [Frame(at, "x", ("x",)) for at in (0.5, 1.0, 600.0)])
    seconds = [json.loads(line)[0] for line in cast([done], "t").splitlines()[1:]]
    gaps = [round(after - before, 2) for before, after in pairwise(seconds)]
    assert gaps[-4:-1] == [0.54, 0.5, LONGEST_WAIT]


def test_the_page_has_each_command_its_result_and_the_states_on_the_way(tmp_path: Path) -> None:
    done = played("echo it serves", tmp_path)
    done.frames[:0] = [
        Frame(2.0, "", ("release  bot", "state    o Progressing, Importing")),
        Frame(3.0, "", ("release  bot", "state    o Progressing, Importing", "more")),
        Frame(75.0, "", ("release  bot", "state    o Progressing, Loading")),
    ]
    text = page([done])
    assert "## Try it\n\n```text\n$ echo it serves\nit serves\n```\n" in text
    assert " 0:02  o Progressing, Importing\n 1:15  o Progressing, Loading\n" in text


# -- what is played
def test_the_commands_of_the_story_exist_with_their_options() -> None:
    group: Any = typer.main.get_command(app)
    said = [s.command.split()[2:] for s in LIFE if s.command.startswith("kubectl adapterrelease ")]
    assert {words[0] for words in said} >= {"status", "get", "promote", "history", "rollback"}
    for name, *words in said:
        group.commands[name].make_context(name, words)


def test_the_files_of_the_story_exist() -> None:
    words = [word for scene in (*INSTALLATION, *LIFE) for word in scene.command.split() if "/" in word]
    assert words and all((ROOT / word).exists() for word in words)
