"""What was played, as a file that asciinema plays (version 2), and as a page. Pure.

Must not know: how it was played.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise

from bench.recording.player import PROMPT, TYPED, Frame, Played, keystrokes
from bench.recording.screen import CLEAR, Screen

LONGEST_WAIT = 1.5  # seconds
_READ = 3.0  # seconds for what a command has printed
_LONG = 10.0  # seconds: a command that takes longer has its time said
_CAST = "recording.cast"

_INTRO = f"""<!-- Made by `make recording` from bench/recording; record anew instead of editing. -->
# A release in a terminal

From `helm install` to a rollback, on the [sandbox's cluster](../sandbox/README.md): a real Kubernetes, a real vLLM, a tiny model on CPUs. What the commands print is as it came; where one waits, the pictures between are left out. [{_CAST}]({_CAST}) has them, with waits cut: `asciinema play docs/{_CAST}`.
"""  # noqa: E501 - a paragraph of the page is one line


def cast(played: Sequence[Played], title: str) -> str:
    """One JSON document a line: what it is, then [seconds, "o", what the terminal gets]. Waits are cut."""
    size = Screen()
    header = {"version": 2, "width": size.columns, "height": size.rows, "title": title}
    lines, began = [json.dumps(header)], 0.0
    for one in played:
        for seconds, text in _cut(list(_events(one))):
            at = began + seconds
            lines.append(json.dumps([round(at, 3), "o", text], ensure_ascii=False))
        began = at + _READ
    return "\n".join([*lines, json.dumps([round(began, 3), "o", "\r\n"])]) + "\n"


def _events(played: Played) -> Iterator[tuple[float, str]]:
    yield 0.0, CLEAR + played.typed
    for seconds, character in keystrokes(played.scene):
        yield LONGEST_WAIT + seconds, character
    ran = LONGEST_WAIT + len(played.scene.command) * TYPED
    for frame in played.frames:
        yield ran + frame.at, frame.drawn


def _cut(events: Sequence[tuple[float, str]]) -> Iterator[tuple[float, str]]:
    at = 0.0
    yield at, events[0][1]
    for (before, _), (seconds, text) in pairwise(events):
        at += min(LONGEST_WAIT, seconds - before)
        yield at, text


def page(played: Sequence[Played]) -> str:
    """docs/recording.md."""
    return "\n".join([_INTRO, *(line for one in played for line in _section(one))]).rstrip() + "\n"


def _section(played: Played) -> Iterator[str]:
    yield from (f"## {played.scene.title}", "")
    yield from ("```text", f"{PROMPT}{played.scene.command}", *played.result, "```", "")
    states = _states(played)
    if len(states) > 1:
        yield from ("On the way there, by minutes and seconds:", "", "```text")
        yield from (f"{_clock(at)}  {state}" for at, state in states)
        yield from ("```", "")
    elif played.seconds > _LONG:
        yield from (f"It took {played.seconds:.0f} s.", "")


def state_of(frame: Frame) -> str:
    """The line of `status` that says where the release stands; empty in other pictures."""
    return next((line.removeprefix("state").strip() for line in frame.lines if line.startswith("state ")), "")


def _states(played: Played) -> list[tuple[float, str]]:
    """With the seconds, each time that it is another one."""
    found: list[tuple[float, str]] = []
    for frame in played.frames:
        if (state := state_of(frame)) and (not found or found[-1][1] != state):
            found.append((frame.at, state))
    return found


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:2d}:{int(seconds) % 60:02d}"
