"""Differences of two answers, and characters that cannot be seen."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.report.differences import Run, Side, difference
from controller.report.visible import Piece, is_hidden, pieces, plain

LETTERS = ["a", "b", "c", "é", "؟", "e\u0301", "हि", "請求", "テス", "👩\u200d🚀", "\u0301", "1\ufe0f\u20e3"]
WORDS = st.lists(st.sampled_from([*LETTERS, " ", "\n", ", ", "queue"]), max_size=30).map("".join)


def of(runs: list[Run], side: Side) -> str:
    return "".join(run.text for run in runs if run.side in (Side.BOTH, side))


@settings(deadline=None)  # the machine may be busy
@given(WORDS, WORDS)
def test_no_word_is_lost_and_none_is_made_up(before: str, after: str) -> None:
    runs = difference(before, after)
    assert (of(runs, Side.BEFORE), of(runs, Side.AFTER)) == (before, after)
    assert all(run.text for run in runs)


def test_what_both_say_is_not_marked() -> None:
    assert difference("the queue is billing, sir", "the queue is shipping, sir") == [
        Run(Side.BOTH, "the queue is "),
        Run(Side.BEFORE, "billing"),
        Run(Side.AFTER, "shipping"),
        Run(Side.BOTH, ", sir"),
    ]


def test_words_are_whole() -> None:
    assert [r.text for r in difference("don't", "do not") if r.side is not Side.BOTH] == ["don't", "do not"]


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ("gut e\u0301t", "gut e\u0300t", ["e\u0301t", "e\u0300t"]),
        ("यह हिन्दी है", "यह हिन्दू है", ["हिन्दी", "हिन्दू"]),
        ("ok 👩\u200d🚀!", "ok 👨\u200d🚀!", ["👩\u200d🚀", "👨\u200d🚀"]),
    ],
)
def test_a_letter_is_not_torn_from_its_marks(before: str, after: str, changed: list[str]) -> None:
    assert [r.text for r in difference(before, after) if r.side is not Side.BOTH] == changed


def test_signs_of_a_script_without_spaces_are_words() -> None:
    runs = difference("この質問は請求の列です", "この質問は配送の列です")
    assert [r.text for r in runs] == ["この質問は", "請求", "配送", "の列です"]


def test_texts_that_are_too_long_to_compare_word_by_word_are_compared_at_both_ends() -> None:
    before, after = (f"begin {' '.join(f'{w}{i}' for i in range(2000))} end" for w in "xy")
    runs = difference(before, after)
    assert [run.side for run in runs] == [Side.BOTH, Side.BEFORE, Side.AFTER, Side.BOTH]
    assert (of(runs, Side.BEFORE), of(runs, Side.AFTER)) == (before, after)


def test_what_turns_the_direction_of_reading_is_named() -> None:
    assert plain("queue=\u202egnillib") == "queue=[U+202E]gnillib"
    for character in "\u202a\u202b\u202d\u2066\u2067\u2069\u200e\u200f\u061c":
        assert is_hidden(character), unicodedata.name(character)


def test_what_has_no_width_is_named() -> None:
    for character in "\u200b\ufeff\u00ad\u2060\u3164\U000e0041\ufe01\x00\x1b\x7f\u2028":
        assert is_hidden(character), hex(ord(character))


def test_words_of_any_language_and_emoji_stay_as_they_are() -> None:
    emoji = ("👩\u200d🚀", "❤\ufe0f", "❤\ufe0f\u200d🔥", "1\ufe0f\u20e3", "©\ufe0f", "👍🏽", "🏴\u200d☠\ufe0f")
    marks = ("e\u0301", "שָׁלוֹם", "ہِنْدِی", "क्\u200dष", "नु\u200c", "ཧཱུྃ", "Việt")
    for text in ("می\u200cخواهم", "שלום עולם", "日本語", "two\n\tlines", *emoji, *marks):
        assert [p.text for p in pieces(text)] == [text]


@pytest.mark.parametrize(
    "text", ["bil\u200dling", "bil\u200cling", "a\ufe0fb", "\u200da", "क\u200d\u200dष", "❤\ufe0f\ufe0e"]
)
def test_what_joins_nothing_is_named_where_it_would_hide(text: str) -> None:
    assert [p.hidden for p in pieces(text)].count(True) == 1


def test_a_letter_has_no_more_marks_than_a_language_needs() -> None:
    """A hundred marks on one letter are drawn over the lines above it, whatever these say."""
    assert list(pieces("e" + "\u0301" * 100 + "a")) == [
        Piece("e" + "\u0301" * 8),
        Piece("U+0301 ×92", hidden=True),
        Piece("a"),
    ]


def test_many_that_cannot_be_seen_are_one_name() -> None:
    assert plain("a" + "\u200b" * 9000 + "b") == "a[U+200B ×9000]b"
    assert plain("a\u202e\u202e\u200bb") == "a[U+202E ×2 U+200B]b"
    tags = "".join(chr(0xE0020 + i % 90) for i in range(9000))
    (name,) = [p.text for p in pieces(f"a{tags}b") if p.hidden]
    assert name.startswith("U+E0020 U+E0021 ") and name.endswith(" and 8980 more")


NEVER_NAMED = st.characters(exclude_categories=["Mn", "Me"], exclude_characters="\u200c\u200d\ufe0e\ufe0f")


@settings(deadline=None)  # the machine may be busy
@given(st.text(NEVER_NAMED))
def test_nothing_that_can_be_seen_is_lost(text: str) -> None:
    text = text.replace("\r\n", "\n")
    assert "".join(p.text for p in pieces(text) if not p.hidden) == "".join(c for c in text if not is_hidden(c))
