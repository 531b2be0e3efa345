"""What two answers have in common, word by word.

Must not know which of them is better.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum

import regex

# Chinese and Japanese have no spaces: each sign is a word. Letters keep their marks, and emoji their parts.
_SIGN = r"[\p{Han}\p{Hiragana}\p{Katakana}]"
_WORD = regex.compile(rf"\s+|{_SIGN}\p{{M}}*|(?:(?!{_SIGN})[\w'’\p{{M}}\u200c\u200d])+|\X")
_MOST_WORDS = 3000  # of both together: the comparison is quadratic in the worst case


class Side(StrEnum):
    BOTH = "both"
    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True)
class Run:
    """Words that stand in both texts, or in one."""

    side: Side
    text: str


def difference(before: str, after: str) -> list[Run]:
    """The runs, in order; those of `before` and both are `before`, those of `after` and both are `after`."""
    a, b = _WORD.findall(before), _WORD.findall(after)
    start = _common(a, b)
    end = _common(a[start:][::-1], b[start:][::-1])
    runs = [
        Run(Side.BOTH, "".join(a[:start])),
        *_middle(a[start : len(a) - end], b[start : len(b) - end]),
        Run(Side.BOTH, "".join(a[len(a) - end :])),
    ]
    return [run for run in runs if run.text]


def _common(a: list[str], b: list[str]) -> int:
    """How many words both begin with."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _middle(a: list[str], b: list[str]) -> Iterator[Run]:
    if len(a) + len(b) > _MOST_WORDS:
        yield from (Run(Side.BEFORE, "".join(a)), Run(Side.AFTER, "".join(b)))
        return
    for tag, a0, a1, b0, b1 in SequenceMatcher(None, a, b).get_opcodes():
        if tag == "equal":
            yield Run(Side.BOTH, "".join(a[a0:a1]))
        else:
            yield Run(Side.BEFORE, "".join(a[a0:a1]))
            yield Run(Side.AFTER, "".join(b[b0:b1]))
