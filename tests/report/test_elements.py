"""The builder: text cannot become markup, and what could do something cannot be written."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.report.elements import el, style


class Reader(HTMLParser):
    """What a reader of the markup sees: names of elements with attributes, and text."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


READABLE = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]))


@settings(deadline=None)  # the machine may be busy
@given(READABLE, READABLE)
def test_text_and_values_come_back_as_they_were_whatever_is_in_them(text: str, value: str) -> None:
    read = Reader(str(el("p", text, title=value)))
    assert (read.tags, read.text) == ([("p", [("title", value)])], text)


@pytest.mark.parametrize("text", ["\x00", "\x1b", "\x7f", "\x85", "\x9f", "\ud800"])
def test_what_no_document_may_hold_is_replaced(text: str) -> None:
    assert str(el("p", text)) == "<p>\ufffd</p>"


@pytest.mark.parametrize(
    "name", ["script", "iframe", "object", "img", "a", "link", "base", "form", "p onload", "p>", ""]
)
def test_elements_that_could_do_something_are_not_made(name: str) -> None:
    with pytest.raises(ValueError, match="no element"):
        el(name)


@pytest.mark.parametrize("name", ["onclick", "onLoad", "href", "src", "style", "srcset", "x y", "x=y"])
def test_attributes_that_could_do_something_are_not_made(name: str) -> None:
    with pytest.raises(ValueError, match="no attribute"):
        el("p", **{name: "x"})


def test_a_style_sheet_cannot_end_early() -> None:
    with pytest.raises(ValueError, match="no markup"):
        str(style("p{}</style><script>"))


def test_what_is_none_is_left_out_and_lists_are_flattened() -> None:
    assert str(el("p", None, ["a", None, el("br")], class_="x", title=None)) == '<p class="x">a<br></p>'
