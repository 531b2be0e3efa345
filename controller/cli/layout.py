"""Lines of a terminal: labels with values, and a tree, wrapped to a width. Pure; knows nothing of releases."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

NARROWEST = 40


@dataclass(frozen=True)
class Glyphs:
    branch: str
    last: str
    pipe: str
    ok: str
    bad: str
    busy: str
    person: str
    arrow: str


UNICODE = Glyphs("├─ ", "└─ ", "│  ", "✔", "✖", "○", "!", "→")
ASCII = Glyphs("|- ", "`- ", "|  ", "+", "x", "o", "!", "->")


def glyphs_for(encoding: str | None) -> Glyphs:
    """Those that a terminal of this encoding can show."""
    try:
        "".join(vars(UNICODE).values()).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE


@dataclass(frozen=True)
class Node:
    text: Text
    children: Sequence[Node] = field(default=())


def labelled(rows: Sequence[tuple[str, Text]], width: int) -> list[Text]:
    """`label  value`, the values under each other; rows without a value are left out."""
    rows = [(label, value) for label, value in rows if value.plain]
    indent = max((len(label) for label, _ in rows), default=0) + 2
    lines = []
    for label, value in rows:
        first, *rest = wrapped(value, width - indent)
        lines.append(Text.assemble((label.ljust(indent), "dim"), first))
        lines += [Text.assemble(" " * indent, line) for line in rest]
    return lines


def tree(nodes: Sequence[Node], width: int, glyphs: Glyphs, prefix: str = "") -> list[Text]:
    """The nodes and what is under them."""
    lines = []
    for node in nodes:
        is_last = node is nodes[-1]
        first, *rest = wrapped(node.text, width - len(prefix) - len(glyphs.last) - len(glyphs.pipe))
        lines.append(Text.assemble((prefix + (glyphs.last if is_last else glyphs.branch), "dim"), first))
        below = prefix + (" " * len(glyphs.pipe) if is_last else glyphs.pipe)
        under = below + (glyphs.pipe if node.children else " " * 3)
        lines += [Text.assemble((under, "dim"), line) for line in rest]
        lines += tree(node.children, width, glyphs, below)
    return lines


def wrapped(text: Text, width: int) -> list[Text]:
    """Broken between words; what has no space is broken where the line ends."""
    console = Console(file=io.StringIO(), width=max(width, NARROWEST // 2))
    lines = list(text.wrap(console, max(width, NARROWEST // 2), overflow="fold"))
    for line in lines:
        line.rstrip()
    return lines or [Text()]
