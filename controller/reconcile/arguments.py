"""The arguments of a vLLM server as a container's command and args give them, and a container with others.

Understands `vllm serve MODEL`, `python -m vllm.entrypoints.openai.api_server --model MODEL`, the bare arguments of
an image whose entrypoint is one of these, and each of them inside `sh -c "..."`. Must not know: releases, pods.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from controller.reconcile.shell import Word, words_of

_MODULE = re.compile(r"vllm\.entrypoints\.[\w.]*api_server")
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh"})
_SHELL_OPTION = re.compile(r"-[a-zA-Z]*c[a-zA-Z]*")
_VARIABLE = re.compile(r"\$\((\w+)\)|\$\{(\w+)(?::?-([^}]*))?\}|\$(\w+)")
# Flags without a value, after which a bare word is the model (`vllm serve --enable-lora MODEL`).
_SWITCHES = frozenset(
    {
        *("--enable-lora", "--enforce-eager", "--trust-remote-code", "--enable-prefix-caching"),
        *("--disable-log-requests", "--disable-log-stats", "--enable-chunked-prefill", "--enable-auto-tool-choice"),
    }
)


@dataclass(frozen=True)
class Option:
    """One option, or a bare word (`flag` is empty), with its values and how all of it was written."""

    flag: str
    values: tuple[str, ...]
    written: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """Where in command and args vLLM's arguments are. In a script: the text before and behind them."""

    index: int
    before: str | None = None
    behind: str = ""


@dataclass(frozen=True)
class Arguments:
    """vLLM's arguments in one container. Flags are asked for as `--max-loras`; written with `_` they are the same."""

    options: tuple[Option, ...]
    place: Place
    env: Mapping[str, str]

    def value(self, flag: str) -> str | None:
        """The last value of the flag, with variables of the container filled in."""
        values = self.values(flag)
        return values[-1] if values else None

    def values(self, flag: str) -> list[str]:
        """All values of the flag, as in `--served-model-name A B`."""
        found = [o for o in self.options if o.flag == flag]
        return [expanded(v, self.env) for v in found[-1].values] if found else []

    def has(self, flag: str) -> bool:
        return any(o.flag == flag for o in self.options)

    @property
    def model(self) -> str:
        """--model, or the bare word; empty when it is given elsewhere, as in a --config file."""
        if self.has("--model"):
            return self.value("--model") or ""
        return next((expanded(o.values[0], self.env) for o in self.options if not o.flag), "")


def expanded(text: str, env: Mapping[str, str]) -> str:
    """`text` with $(NAME), ${NAME}, ${NAME:-default} and $NAME filled in where the container says the value."""

    def fill(match: re.Match[str]) -> str:
        name = match[1] or match[2] or match[4]
        return env.get(name) or (match[3] if match[3] is not None else match[0])

    return _VARIABLE.sub(fill, text)


def env_of(container: Mapping[str, Any]) -> dict[str, str]:
    """The variables of a container whose values stand in the pod template itself."""
    return {e["name"]: e["value"] for e in container.get("env") or () if e.get("value") is not None}


def arguments_of(container: Mapping[str, Any]) -> Arguments | None:
    """vLLM's arguments; None when the container neither starts vLLM nor gives its image arguments."""
    line = [*(container.get("command") or ()), *(container.get("args") or ())]
    env = env_of(container)
    script = _script_index(line)
    if script is not None:
        return _from_script(line[script], script, env)
    start = _start(line)
    if start is None and not container.get("command") and container.get("args"):
        start = 1 if line[0] == "serve" else 0
    if start is None:
        return None
    words = [(text, text) for text in line[start:]]
    return Arguments(tuple(_options(words)), Place(start), env)


def with_arguments(container: Mapping[str, Any], place: Place, written: list[str]) -> dict[str, Any]:
    """A copy of the container that starts vLLM with other arguments; `written` as it stands on the line."""
    command, args = list(container.get("command") or ()), list(container.get("args") or ())
    line = [*command, *args]
    if place.before is not None:
        line[place.index] = f"{place.before}{' '.join(written)}{place.behind}"
    else:
        line[place.index :] = written
    parts = {"command": line[: len(command)], "args": line[len(command) :]}
    rest = {k: v for k, v in container.items() if k not in parts}
    return rest | {k: v for k, v in parts.items() if v}


def quoted(place: Place, text: str) -> str:
    """`text` as a word at this place."""
    return text if place.before is None else shlex.quote(text)


def _script_index(line: list[str]) -> int | None:
    if not line or PurePosixPath(line[0]).name not in _SHELLS:
        return None
    for index, text in enumerate(line[:-1]):
        if index and _SHELL_OPTION.fullmatch(text):
            return index + 1
    return None


def _start(line: list[str]) -> int | None:
    """Index of vLLM's first argument."""
    for index, text in enumerate(line):
        if PurePosixPath(text).name == "vllm" and line[index + 1 : index + 2] == ["serve"]:
            return index + 2
        if _MODULE.fullmatch(text) or re.search(r"vllm/entrypoints/\S*api_server\.py$", text):
            return index + 1
    return None


def _from_script(script: str, index: int, env: Mapping[str, str]) -> Arguments | None:
    words = words_of(script)
    start = _start([w.value for w in words])
    if start is None:
        return None
    end = next((i for i in range(start, len(words)) if words[i].is_operator), len(words))
    own = words[start:end]
    behind = script[words[end - 1].end :]
    before = script[: words[start - 1].end] + " "
    if all(w.value == "\n" for w in words[end:]):  # it is the last command
        before = _replacing_the_shell(before, words[:start])
    return Arguments(tuple(_options([(w.value, w.raw) for w in own])), Place(index, before, behind), env)


def _replacing_the_shell(before: str, words: list[Word]) -> str:
    """With `exec` before the program: a shell that stays in between keeps SIGTERM from vLLM, which cannot drain."""
    begin = max((i + 1 for i, w in enumerate(words) if w.is_operator), default=0)
    if begin and words[begin - 1].value not in "\n;&":
        return before
    program = next(w for w in words[begin:] if not re.match(r"\w+=", w.value))
    if program.value == "exec":
        return before
    return f"{before[: program.start]}exec {before[program.start :]}"


def _options(words: list[tuple[str, str]]) -> list[Option]:
    """Group words, given as (value, written), into options. A bare word in the first place is the model."""
    options: list[Option] = []
    open_option = False  # whether bare words belong to the last option
    for value, raw in words:
        if re.match(r"--?[a-zA-Z]", value):
            name, equals, given = value.partition("=")
            flag = name if not name.startswith("--") else name.replace("_", "-")
            options.append(Option(flag, (given,) if equals else (), (raw,)))
            open_option = not equals and flag not in _SWITCHES
        elif open_option:
            last = options[-1]
            options[-1] = Option(last.flag, (*last.values, value), (*last.written, raw))
        else:
            options.append(Option("", (value,), (raw,)))
    return options
