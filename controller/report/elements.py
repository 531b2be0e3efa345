"""HTML and SVG as values. Text is escaped where it is written, and there is no way to write markup.

Names of elements and attributes are the program's own, and are refused if they could do something: no scripts, no
handlers, no addresses but `#ID`. Must not know what a page says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]*")
_VOID = frozenset({"br", "hr", "meta"})
_REFUSED = frozenset({"script", "iframe", "object", "embed", "link", "base", "form", "img", "image", "use", "a"})
_ADDRESSES = frozenset({"href", "src", "action", "srcset", "xlink-href", "style"})
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})


def escaped(text: str) -> str:
    """As text and as a value in quotes. What no document may hold (control characters) is replaced."""
    return "".join(c if _may_stand(ord(c)) else "\ufffd" for c in text).translate(_ESCAPES)


def _may_stand(code: int) -> bool:
    return code in (9, 10, 13) or 32 <= code < 0x7F or 0xA0 <= code < 0xD800 or code >= 0xE000


@dataclass(frozen=True)
class Element:
    name: str
    attributes: tuple[tuple[str, str], ...] = ()
    children: tuple[Element | str, ...] = field(default=())

    def __str__(self) -> str:
        return "".join(self._pieces())

    def _pieces(self) -> Iterator[str]:
        attributes = "".join(f' {name}="{escaped(value)}"' for name, value in self.attributes)
        yield f"<{self.name}{attributes}>"
        if self.name in _VOID:
            return
        for child in self.children:
            if isinstance(child, Element):
                yield from child._pieces()
            else:
                yield escaped(child)
        yield f"</{self.name}>"


@dataclass(frozen=True)
class Style(Element):
    """A style sheet: the one text that is written as it is, so it must be the program's own."""

    sheet: str = ""

    def _pieces(self) -> Iterator[str]:
        if "<" in self.sheet:
            raise ValueError("a style sheet has no markup")
        yield f"<style>{self.sheet}</style>"


def style(sheet: str) -> Style:
    return Style("style", sheet=sheet)


def el(
    name: str, /, *children: Element | str | Iterable[Element | str | None] | None, **attributes: str | float | None
) -> Element:
    """`el("p", "text", class_="x")`. None is left out, lists are flattened; `_` in attributes' names is `-`."""
    if not _NAME.fullmatch(name) or name in _REFUSED:
        raise ValueError(f"{name!r} is no element of a report")
    return Element(name, tuple(_attributes(attributes)), tuple(_flat(children)))


def _flat(
    children: Iterable[Element | str | Iterable[Element | str | None] | None],
) -> Iterator[Element | str]:
    for child in children:
        if isinstance(child, Element | str):
            yield child
        elif child is not None:
            yield from (c for c in child if c is not None)


def _attributes(given: dict[str, str | float | None]) -> Iterator[tuple[str, str]]:
    for key, value in given.items():
        name = key.rstrip("_").replace("_", "-")
        if not _NAME.fullmatch(name) or name.lower().startswith("on") or name.lower() in _ADDRESSES:
            raise ValueError(f"{name!r} is no attribute of a report")
        if value is not None:
            yield name, value if isinstance(value, str) else f"{value:g}"
