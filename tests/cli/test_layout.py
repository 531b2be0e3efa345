"""Lines, trees, tables and words of a terminal."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.text import Text

from controller.cli.layout import ASCII, UNICODE, Node, glyphs_for, labelled, tree
from controller.cli.parts import progress_text
from controller.cli.table import table
from controller.cli.words import age, bytes_of, flat, moment, plain, sentence, short

patient = settings(deadline=None)  # the machine may be busy


def node(text: str, *children: Node) -> Node:
    return Node(Text(text), children)


def test_a_tree_keeps_its_lines_where_a_text_is_too_long() -> None:
    nodes = [node("one " + "word " * 12, node("under it")), node("two")]
    assert [line.plain for line in tree(nodes, 40, UNICODE)] == [
        "├─ one word word word word word word",
        "│  │  word word word word word word",
        "│  └─ under it",
        "└─ two",
    ]


WORDS = st.lists(st.text("abc漢-", min_size=1, max_size=30), max_size=25).map(" ".join)
NODES = st.recursive(
    st.builds(node, WORDS),
    lambda inner: st.builds(lambda text, under: Node(Text(text), under), WORDS, st.lists(inner, max_size=3)),
    max_leaves=8,
)


@patient
@given(st.lists(NODES, max_size=4), st.integers(60, 120))
def test_no_line_of_any_tree_is_longer_than_its_width(nodes: list[Node], width: int) -> None:
    for line in tree(nodes, width, ASCII):
        assert line.cell_len <= width


def test_labels_stand_under_each_other_and_empty_ones_are_left_out() -> None:
    rows = [("a", Text("one")), ("", Text("two")), ("none", Text("")), ("long", Text("three"))]
    assert [line.plain for line in labelled(rows, 40)] == ["a     one", "      two", "long  three"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", None, "no such"])
def test_what_an_encoding_cannot_show_is_not_used(encoding: str | None) -> None:
    assert glyphs_for(encoding) is ASCII


def test_utf_8_has_the_lines() -> None:
    assert glyphs_for("utf-8") is UNICODE


def test_a_table_is_aligned_and_has_no_spaces_at_the_end() -> None:
    assert table(("A", "LONG"), [("xx", ""), ("y", "z")]) == "A    LONG\nxx   -\ny    z"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((-5, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (130, "2m10s"), (3599, "59m"), (3600, "1h")),
        *((3660, "1h1m"), (8 * 3600, "8h"), (86400, "1d"), (90000, "1d1h"), (8 * 86400, "8d"), (400 * 86400, "400d")),
    ],
)
def test_an_age_is_written_as_kubectl_does(seconds: int, text: str) -> None:
    assert age(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB"), (5 << 40, "5.0 TiB")]
)
def test_bytes(count: int, text: str) -> None:
    assert bytes_of(count) == text


@patient
@given(st.text())
def test_text_of_others_has_no_control_characters_left(text: str) -> None:
    assert not [c for c in plain(text) if (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 or c in "\u202e\u2066"]


def test_a_remedy_has_no_markup() -> None:
    assert (
        flat("see [the model](operating.md#x), `kubectl get`") == "see the model (docs/operating.md#x), 'kubectl get'"
    )


def test_small_words() -> None:
    assert short("sha256:" + "a" * 64) == "a" * 12
    assert (sentence("Go on:"), sentence("Wait"), sentence("")) == ("Go on:", "Wait.", "")
    assert moment("no") is None and moment("2026-01-01T00:00:00") is None and moment("2026-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        ("merge 40 %", "merge [########            ] 40 %"),
        ("merge 100 %, 1s left", "merge [####################] 100 %, 1s left"),
        ("suspended: it waits for a queue", "suspended: it waits for a queue"),
        ("", ""),
    ],
)
def test_progress_has_a_bar_where_it_says_how_far(progress: str, text: str) -> None:
    assert progress_text(progress) == text
