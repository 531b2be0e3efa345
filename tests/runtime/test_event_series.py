"""Which Event an occurrence belongs to: the same, similar ones, and too many different ones."""

from __future__ import annotations

import pytest

from controller.runtime.event_series import COMBINED, EventSeries, Series
from tests.runtime.waiting import FakeClock

LETTERS = [f"pod {letter} fails" for letter in "abcdefghijklmnopqrst"]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def events(clock: FakeClock) -> EventSeries:
    return EventSeries(clock)


def objects(found: list[Series]) -> int:
    return len({id(series) for series in found})


def test_the_same_message_is_one_event_however_late(events: EventSeries, clock: FakeClock) -> None:
    first = events.of("bot", "no pod is ready")
    clock.advance(3600)
    assert events.of("bot", "no pod is ready") is first
    assert events.of("other", "no pod is ready") is not first


def test_messages_that_differ_in_numbers_are_one_event_with_the_newest(events: EventSeries, clock: FakeClock) -> None:
    found = []
    for number in range(200):
        found.append(events.of("bot", f"restarted {number} times, back-off {2 * number}.5s"))
        clock.advance(60)
    assert objects(found) == 1
    assert found[0].message == "restarted 199 times, back-off 398.5s"


def test_numbers_that_differ_after_ten_quiet_minutes_are_another_event(events: EventSeries, clock: FakeClock) -> None:
    """Tomorrow's build is not today's."""
    first = events.of("bot", "built: 100 bytes")
    clock.advance(601)
    assert events.of("bot", "built: 200 bytes") is not first


def test_words_that_differ_are_other_events_until_there_are_ten(events: EventSeries) -> None:
    found = [events.of("bot", message) for message in LETTERS]
    assert objects(found) == 10 + 1
    assert [s.message for s in found[:2]] == LETTERS[:2]
    assert found[-1].message == COMBINED + LETTERS[-1]


def test_others_are_not_combined_with_them(events: EventSeries) -> None:
    for message in LETTERS:
        events.of("bot", message)
    assert events.of("other", LETTERS[0]).message == LETTERS[0]


def test_after_ten_quiet_minutes_they_are_told_one_by_one_again(events: EventSeries, clock: FakeClock) -> None:
    for message in LETTERS:
        events.of("bot", message)
        clock.advance(590)
    assert events.of("bot", "pod z fails").message == COMBINED + "pod z fails"
    clock.advance(601)
    assert events.of("bot", "pod z fails").message == "pod z fails"


def test_its_memory_has_an_end(events: EventSeries) -> None:
    first = events.of(0, "x")
    for group in range(1, 5000):
        events.of(group, "x")
    assert events.of(0, "x") is not first
