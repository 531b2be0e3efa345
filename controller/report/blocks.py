"""Blocks that sections are made of: tables, and words that somebody else wrote. Must not know what they say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from controller.report.elements import Element, el
from controller.report.visible import pieces

Cell = Element | str


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Element:
    """The first cell of a row is its name. It scrolls by itself where it is wider than the screen."""
    return el(
        "div",
        el(
            "table",
            el("caption", caption),
            el("thead", el("tr", (el("th", head, scope="col") for head in heads))),
            el("tbody", (_row(row) for row in rows)),
        ),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=caption,
    )


def _row(cells: Sequence[Cell]) -> Element:
    first, *others = cells
    return el("tr", el("th", first, scope="row"), (el("td", cell) for cell in others))


def foreign(text: str) -> Element:
    """Somebody else's words on one line: they cannot turn what stands beside them, and hide nothing."""
    return el("bdi", shown(text))


def shown(text: str) -> list[Element | str]:
    return [hidden(piece.text) if piece.hidden else piece.text for piece in pieces(text)]


def hidden(name: str) -> Element:
    return el("span", name, class_="hidden", title=f"a character that cannot be seen: {name}")


def with_note(value: str, note: str) -> Element:
    return el("span", value, el("span", note, class_="note"))
