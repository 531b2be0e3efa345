"""What people and models wrote, so that nothing in it is hidden: what cannot be seen gets a name.

Letters that turn the direction of reading (as in "Trojan Source", CVE-2021-42574), spaces without width and control
characters look like nothing, and could make a wrong answer look right. Words in Arabic or Hebrew stay as they are.
Must not know what the text is.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

# Persian and Indic words, and emoji, are written with these.
_JOINERS = "\u200c\u200d"
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp", "Cn", "Co")
# Blank, though they count as letters, marks or symbols.
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0\u034f\u17b4\u17b5")


@dataclass(frozen=True)
class Piece:
    """Text as it is; or the name of a character that cannot be seen."""

    text: str
    hidden: bool = False


def pieces(text: str) -> Iterator[Piece]:
    """`text`, with each character that cannot be seen as a piece of its own, such as U+202E."""
    seen: list[str] = []
    for character in text.replace("\r\n", "\n"):
        if not is_hidden(character):
            seen.append(character)
            continue
        if seen:
            yield Piece("".join(seen))
            seen = []
        yield Piece(f"U+{ord(character):04X}", hidden=True)
    if seen:
        yield Piece("".join(seen))


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
