"""Every `adapterrelease` that a page tells people to type is parsed by the real program; options in the text exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import typer.core

from controller.cli.main import app
from tests.docs.pages import PAGES, commands, place, prose

_IN_TEXT = re.compile(r"`(?:kubectl )?adapterrelease ([^`]+)`")


@pytest.fixture(scope="module")
def program() -> Iterator[typer.core.TyperGroup]:
    """The commands, which do not ask for the files that are named to be there."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    with pytest.MonkeyPatch.context() as patch:
        for parameter in (p for command in group.commands.values() for p in command.params):
            told = parameter.type_descriptor.parameter_info
            if getattr(told, "exists", False):
                patch.setattr(told, "exists", False)
        yield group


def calls(line: str) -> Iterator[list[str]]:
    """The arguments of each call of the program in a line of shell: in pipes, lists and substitutions, too."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.commenters, lexer.whitespace_split = "#", True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("();<>|&"):
            start = 1 if words[:1] == ["kubectl"] else 0
            if words[start : start + 1] == ["adapterrelease"]:
                yield words[start + 1 :]
            words = []
        else:
            words.append(word)


def behind_the_options(program: typer.core.TyperGroup, words: list[str]) -> list[str]:
    """The command's name and what follows it: options of all commands may stand in front."""
    known = {option: parameter for parameter in program.params for option in parameter.opts}
    while words and words[0] in known:
        words = words[1 if getattr(known[words[0]], "is_flag", False) else 2 :]
    return words


LINES = [(page, line) for page in PAGES for line in commands(page) if "adapterrelease " in line]
CALLS = [(page, call) for page, line in LINES for call in calls(line)]


def test_calls_are_found_wherever_they_stand_in_a_line() -> None:
    assert list(calls("source <(adapterrelease completion bash)")) == [["completion", "bash"]]
    line = "kubectl adapterrelease get -A | grep x && adapterrelease merge > y"
    assert list(calls(line)) == [["get", "-A"], ["merge"]]
    assert list(calls("kubectl -n adapterrelease get pods")) == []


def test_there_are_calls() -> None:
    assert len(CALLS) > 30


@pytest.mark.parametrize(("page", "call"), CALLS, ids=lambda x: place(x) if isinstance(x, Path) else " ".join(x))
def test_a_call_is_parsed(program: typer.core.TyperGroup, page: Path, call: list[str]) -> None:
    name, *arguments = behind_the_options(program, call) or ["--help"]
    if name != "--help":
        with program.commands[name].make_context(name, arguments):
            pass


@pytest.mark.parametrize("page", PAGES, ids=place)
def test_commands_and_options_in_the_text_exist(program: typer.core.TyperGroup, page: Path) -> None:
    known = program.commands
    calls_in_text = (shlex.split(found) for found in _IN_TEXT.findall(prose(page)))
    for name, *arguments in (behind_the_options(program, words) for words in calls_in_text):
        assert name in known
        options = {option for parameter in known[name].params for option in parameter.opts}
        assert {a.partition("=")[0] for a in arguments if re.match(r"--?[a-z]", a)} - options == set()
