"""Differences of two answers, and characters that cannot be seen."""

from __future__ import annotations

import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.report.differences import Run, Side, difference
from controller.report.visible import is_hidden, pieces, plain

WORDS = st.lists(st.sampled_from(["a", "b", "c", " ", "\n", ", ", "queue", "é", "؟"]), max_size=30).map("".join)


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
    for text in ("می\u200cخواهم", "שלום עולם", "日本語", "👩\u200d🚀", "❤\ufe0f", "two\n\tlines"):
        assert [p.text for p in pieces(text)] == [text]


@settings(deadline=None)  # the machine may be busy
@given(st.text())
def test_nothing_that_can_be_seen_is_lost(text: str) -> None:
    text = text.replace("\r\n", "\n")
    assert "".join(p.text for p in pieces(text) if not p.hidden) == "".join(c for c in text if not is_hidden(c))
