"""Words of a shell script, with the text that they were written as, so that a script can be rewritten in part.

`shlex` gives values only; a rewritten `"$MODEL"` must stay quoted as it was. Knows no vLLM.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_OPERATORS = frozenset(";&|<>()\n")
_REDIRECTED = re.compile(r"[0-9]+$")
_PIECE = re.compile(
    r"""
    (?P<join>\\\n)
    | (?P<escaped>\\.)
    | (?P<single>'[^']*')
    | (?P<double>"(?:\\.|[^"\\])*")
    | (?P<substitution>\$\([^()]*\))
    | (?P<plain>[^\s\\'";&|<>()]+|[\\'"])
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Word:
    """`value` after quote removal, `raw` as written at `start`. An operator has itself as value."""

    value: str
    raw: str
    start: int
    is_operator: bool = False

    @property
    def end(self) -> int:
        return self.start + len(self.raw)


def words_of(script: str) -> list[Word]:
    """The words and operators of `script`, without comments. Variables are left as they are."""
    words: list[Word] = []
    at = 0
    while at < len(script):
        char = script[at]
        if char == "#":
            at = _line_end(script, at)
        elif char in _OPERATORS:
            words.append(Word(char, char, at, is_operator=True))
            at += 1
        elif char.isspace() or script.startswith("\\\n", at):
            at += 1 if char.isspace() else 2
        else:
            word = _word_at(script, at)
            at = word.end
            words.append(word)
    return words


def _word_at(script: str, start: int) -> Word:
    at, value = start, ""
    while match := _PIECE.match(script, at):
        if match["join"]:
            break
        value += _unquoted(match)
        at = match.end()
    raw = script[start:at]
    redirects = at < len(script) and script[at] in "<>" and _REDIRECTED.match(raw)
    return Word(value, raw, start, is_operator=bool(redirects))


def _unquoted(match: re.Match[str]) -> str:
    text = match.group()
    if match["escaped"]:
        return text[1:]
    if match["single"]:
        return text[1:-1]
    if match["double"]:
        return re.sub(r"\\([\"\\$`\n])", r"\1", text[1:-1])
    return text


def _line_end(script: str, at: int) -> int:
    end = script.find("\n", at)
    return len(script) if end < 0 else end
