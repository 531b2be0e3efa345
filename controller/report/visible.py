"""What people and models wrote, so that nothing in it is hidden: what cannot be seen gets a name.

Letters that turn the direction of reading (as in "Trojan Source", CVE-2021-42574), spaces without width and control
characters look like nothing, and could make a wrong answer look right. Words in Arabic or Hebrew stay as they are.
Many in a row get one name, so that an answer of nothing else makes no page that no browser opens. Must not know what
the text is.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

# Persian and Indic words, and emoji, are written with these.
_JOINERS = "\u200c\u200d"
_SELECTORS = "\ufe0e\ufe0f"
_KEYS = "0123456789#*©®"  # which are emoji with a selector behind
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp", "Cn", "Co")
# Blank, though they count as letters, marks or symbols.
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0\u034f\u17b4\u17b5")


_MOST_MARKS = 8  # on one letter, more than any language needs; a hundred of them cover the lines above and below
_MOST_NAMES = 20  # of one piece


@dataclass(frozen=True)
class Piece:
    """Text as it is; or the names of characters that cannot be seen."""

    text: str
    hidden: bool = False


def pieces(text: str) -> Iterator[Piece]:
    """`text`, with the names of what cannot be seen as pieces of their own, such as U+202E, or U+200B ×7."""
    text = text.replace("\r\n", "\n")
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():  # most texts
        if text:
            yield Piece(text)
        return
    for named, run in groupby(_judged(text), key=lambda each: each[1]):
        characters = [character for character, _ in run]
        yield Piece(_names(characters), hidden=True) if named else Piece("".join(characters))


def _judged(text: str) -> Iterator[tuple[str, bool]]:
    """Each character, and whether its name is shown instead."""
    marks, before = 0, ""
    for character in text:
        marks = marks + 1 if _is_mark(character) else 0
        joins_nothing = character in _JOINERS + _SELECTORS and not _may_follow(character, before)
        named = marks > _MOST_MARKS or joins_nothing or is_hidden(character)
        yield character, named
        before = "" if named else character


def _may_follow(joiner: str, before: str) -> bool:
    """Between Latin letters it joins nothing, and many of them are a message that nobody sees."""
    if not before or before in _JOINERS or (before in _SELECTORS and joiner in _SELECTORS):
        return False
    return ord(before) > 0x2FF or (joiner in _SELECTORS and before in _KEYS)


def _names(characters: list[str]) -> str:
    runs = [(character, len(list(same))) for character, same in groupby(characters)]
    shown = runs[:_MOST_NAMES]
    names = [f"U+{ord(c):04X}" + (f" ×{times}" if times > 1 else "") for c, times in shown]
    left = len(characters) - sum(times for _, times in shown)
    return " ".join([*names, f"and {left} more"] if left else names)


@lru_cache(4096)
def _is_mark(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Me")


@lru_cache(4096)
def is_hidden(character: str) -> bool:
    if character in "\n\t" or character in _JOINERS:
        return False
    return unicodedata.category(character) in _HIDDEN or character in _BLANK or _is_selector(ord(character))


def _is_selector(code: int) -> bool:
    """Variation selectors beyond those of emoji: whole messages were hidden in them."""
    return 0xE0100 <= code <= 0xE01EF or 0xFE00 <= code <= 0xFE0D


def plain(text: str) -> str:
    """In one string, for places that have no markup."""
    return "".join(f"[{p.text}]" if p.hidden else p.text for p in pieces(text))
