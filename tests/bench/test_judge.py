"""The judge of bench/no_request_lost: what counts as lost, cut off, wrong, and moved."""

from __future__ import annotations

from typing import Any

import pytest

from bench.no_request_lost.judge import Ill, Row, Verdict, ill, judge, last_stale, rows_of
from bench.no_request_lost.records import (
    BEGAN,
    KILLED,
    KILLING,
    LEFT,
    NOTE,
    REPORTED,
    ROUTE,
    Mark,
    Question,
    Record,
    State,
)
from bench.no_request_lost.timeline import Timeline

V1 = State("Adapter", "sha256:1111aaaa", "v1")
V2 = State("Adapter", "sha256:2222bbbb", "v2")
MERGED = State("Artifact", "sha256:3333cccc", "v1")
QUESTION = Question("q", {"v1": frozenset({"one", "uno"}), "v2": frozenset({"two"})})


def reported(at: float, state: State) -> Mark:
    return Mark(at, REPORTED, str(state), state)


def began(at: float, event: str = "update") -> Mark:
    return Mark(at, BEGAN, event)


def an_update() -> Timeline:
    """Told at 10, reported at 12; and back, told at 30, reported at 32."""
    return Timeline([reported(0, V1), began(10), reported(12, V2), began(30), reported(32, V1)])


def a_swap() -> Timeline:
    return Timeline([reported(0, V1), began(10, "swap"), Mark(11, ROUTE, "it selects"), reported(12, MERGED)])


def answer(start: float, end: float, text: str = "one", **more: Any) -> Record:
    return Record(
        **{
            "way": "new",
            "worker": 0,
            "question": "q",
            "model": "bot",
            "status": 200,
            **more,
            "start": start,
            "end": end,
            "text": text,
        }
    )


def verdict(record: Record, timeline: Timeline) -> Verdict:
    return judge(record, QUESTION, "bot", timeline)


def rows(records: list[Record], timeline: Timeline) -> list[Row]:
    return rows_of(records, {"q": QUESTION}, "bot", timeline)


@pytest.mark.parametrize(
    ("start", "end", "text"),
    [
        (1, 2, "one"),
        (1, 2, "uno"),
        (11, 11.5, "one"),  # being changed: either
        (11, 11.5, "two"),
        (9, 10.5, "two"),  # it was running when the cluster was told
        (9, 20, "one"),  # a stream ends on the version that it began with
        (13, 14, "two"),
        (13, 31, "two"),
        (13, 31, "one"),  # the next change was told while it ran
        (33, 34, "one"),
    ],
)
def test_what_is_reported_or_is_being_changed_to_may_answer(start: float, end: float, text: str) -> None:
    assert verdict(answer(start, end, text), an_update()) == Verdict()


@pytest.mark.parametrize(
    ("start", "end", "text"),
    [
        (12.1, 13, "one"),  # after the report
        (25, 29.9, "one"),  # the change back is not told yet
        (1, 9.9, "two"),  # before anything was told
        (33, 34, "two"),
    ],
)
def test_what_was_replaced_or_is_not_wanted_yet_may_not(start: float, end: float, text: str) -> None:
    assert "by its text" in verdict(answer(start, end, text), an_update()).wrong_version


def test_a_header_is_held_to_the_report_too() -> None:
    assert "by its header" in verdict(answer(13, 14, "two", version="v1"), an_update()).wrong_version


def test_a_header_that_contradicts_the_text_is_wrong_even_while_both_may_answer() -> None:
    assert "text is of v1" in verdict(answer(11, 11.5, "one", version="v2"), an_update()).wrong_version


def test_a_text_of_no_version_is_strange() -> None:
    assert verdict(answer(1, 2, "one and two"), an_update()).strange_text


def test_an_answer_that_names_another_model_has_failed() -> None:
    assert "bot@1111" in verdict(answer(1, 2, model="bot@1111"), an_update()).failed


def test_a_failure_is_a_failure_and_a_cut_stream_is_truncated() -> None:
    assert verdict(answer(1, 2, cause="404: no model"), an_update()).failed
    cut = verdict(answer(1, 2, cause="ended without [DONE]", truncated=True), an_update())
    assert cut.truncated and not cut.failed


KILL = Timeline(
    [
        reported(0, V1),
        began(9, "crash"),
        Mark(9.6, KILLING, "vllm"),
        Mark(10, KILLED, "vllm"),
        Mark(13, LEFT, "the pod"),
    ]
)


@pytest.mark.parametrize("more", [{"cause": "died: reset"}, {"cause": "the stream ended", "truncated": True}])
@pytest.mark.parametrize("end", [9.7, 10.3, 11.9])
def test_what_a_killed_process_was_working_on_is_told_apart(more: dict[str, Any], end: float) -> None:
    found = verdict(answer(9.5, end, **more), KILL)
    assert found.died_with_server and not found.trouble


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (9.7, 9.7),
        (12, 12),
        (13.9, 13.9),
        (9.2, 11.5),  # the first of its tries was cut off, the last was refused
    ],
)
def test_so_is_who_was_sent_to_it_before_its_death_was_known(start: float, end: float) -> None:
    found = verdict(answer(start, end, cause="connect: ConnectionRefusedError(111)"), KILL)
    assert found.refused_by_dead and not found.trouble


@pytest.mark.parametrize(
    ("start", "end", "cause"),
    [
        (10.1, 12.5, "died: reset"),  # ended long after it
        (9, 9.5, "died: reset"),  # ended before it
        (9.5, 10.3, "404: no model"),  # somebody answered
        (9.5, 10.3, "connect: TimeoutError()"),
        (9.5, 9.5, "connect: ConnectionRefusedError(111)"),  # before it
        (14.1, 14.1, "connect: ConnectionRefusedError(111)"),  # the pod had left the route
    ],
)
def test_other_failures_around_a_kill_are_no_excuse(start: float, end: float, cause: str) -> None:
    found = verdict(answer(start, end, cause=cause), KILL)
    assert found.failed and not found.died_with_server and not found.refused_by_dead


def test_without_a_kill_nothing_is_excused() -> None:
    assert verdict(answer(9.5, 10.3, cause="died: reset"), an_update()).failed


def test_requests_belong_to_the_event_that_was_last_made_to_happen() -> None:
    timeline = Timeline([reported(0, V1), began(10, "swap"), reported(11, MERGED), began(20, "back"), reported(21, V1)])
    found = rows([answer(5, 6), answer(15, 16), answer(25, 26), answer(27, 28, way="stream")], timeline)
    assert [(r.event, r.way, r.requests) for r in found] == [
        ("swap", "new", 2),
        ("back", "new", 1),
        ("back", "stream", 1),
    ]


def kept(worker: int, start: float, kind: str, **more: Any) -> Record:
    return answer(
        start, start + 0.5, way="keepalive", worker=worker, backend={"old": "1111aaaa", "new": "3333"}[kind], **more
    )


def test_a_move_lasts_until_the_last_request_that_the_old_backend_got() -> None:
    (row,) = rows([kept(0, 10.9, "old"), kept(0, 11.5, "old"), kept(0, 13, "old"), kept(0, 14, "new")], a_swap())
    assert row.moves == [pytest.approx(2.0)]
    assert row.stayed == 0


def test_a_worker_whose_next_request_is_answered_by_the_new_backend_has_moved_at_once() -> None:
    (row,) = rows([kept(0, 10.9, "old"), kept(0, 11.5, "new"), kept(1, 12, "new")], a_swap())
    assert row.moves == [0, 0]


def test_a_worker_that_never_moves_fails_the_row() -> None:
    (row,) = rows([kept(0, 11.5, "old"), kept(0, 20, "old")], a_swap())
    assert row.moves == [pytest.approx(9.0)] and row.stayed == 1
    assert not row.passes(1)


def test_a_move_of_more_than_five_seconds_fails_the_row() -> None:
    (row,) = rows([kept(0, 16.5, "old"), kept(0, 17, "new")], a_swap())
    assert row.stayed == 0 and not row.passes(1)


def test_a_worker_that_was_elsewhere_before_the_switch_does_not_move() -> None:
    (row,) = rows([kept(0, 10.9, "new"), kept(0, 12, "new"), kept(1, 10.9, "old"), kept(1, 12, "new")], a_swap())
    assert row.moves == [0]


def test_rows_come_event_by_event() -> None:
    timeline = Timeline([reported(0, V1), began(10, "swap"), reported(11, MERGED), began(20, "back"), reported(21, V1)])
    found = rows([answer(at, at + 1, way=way) for way in ("new", "stream") for at in (15, 25)], timeline)
    assert [(r.event, r.way) for r in found] == [
        ("swap", "new"),
        ("swap", "stream"),
        ("back", "new"),
        ("back", "stream"),
    ]


def test_an_update_moves_by_text_where_no_header_says_who_answered() -> None:
    records = [answer(12.5, 13, "one", way="stream"), answer(14, 15, "two", way="stream")]
    (row,) = rows(records, an_update())
    assert row.moves == [pytest.approx(0.5)]


def test_the_root_of_a_connection_tells_the_backend_where_no_header_does() -> None:
    old = answer(11.5, 12, way="keepalive", root="/store/adapters/bot/1111")
    new = answer(13, 14, way="keepalive", root="/store/artifacts/3333")
    (row,) = rows([old, new], a_swap())
    assert row.moves == [pytest.approx(0.5)]


def test_a_connection_of_its_own_does_not_move() -> None:
    (row,) = rows([answer(11.5, 12, backend="1111"), answer(13, 14, backend="3333")], a_swap())
    assert row.moves == []


def test_failures_are_not_moves() -> None:
    (row,) = rows([kept(0, 12, "old", cause="404: gone"), kept(0, 13, "new")], a_swap())
    assert row.moves == [0]


def test_traffic_has_moved_when_no_new_connection_is_answered_by_the_old_backend() -> None:
    (turn,) = a_swap().turns()
    records = [answer(10.5, 11, backend="1111"), answer(11.2, 12, backend="1111"), answer(11.4, 12, backend="3333")]
    assert last_stale(records, {"q": QUESTION}, turn, a_swap()) == 11.2
    assert last_stale(records[2:], {"q": QUESTION}, turn, a_swap()) == 10
    assert last_stale([answer(11.4, 12)], {"q": QUESTION}, turn, a_swap()) is None


@pytest.mark.parametrize("trouble", ["failed", "truncated", "wrong_version", "strange_text"])
def test_one_trouble_or_too_few_requests_fail_a_row(trouble: str) -> None:
    good = Row("update", "new", requests=10)
    assert good.passes(10) and not good.passes(11)
    assert not Row("update", "new", requests=10, **{trouble: 1}).passes(10)
    assert Row("crash", "new", requests=10, died_with_server=3).passes(10)


def test_a_row_keeps_its_troubles() -> None:
    (row,) = rows([answer(1, 2), answer(3, 4, cause="404: no"), answer(5, 6, "two")], an_update())
    assert (row.requests, row.failed, row.wrong_version) == (3, 1, 1)
    assert [record.start for record, _ in row.troubles] == [3, 5]


def test_notes_change_nothing() -> None:
    timeline = Timeline([reported(0, V1), Mark(1, NOTE, "step")])
    assert timeline.allowed(2, 3) == [V1] and timeline.turns() == []


def test_a_failing_backend_costs_from_its_first_failed_request_to_the_route() -> None:
    timeline = Timeline([reported(0, MERGED), began(10, "ill"), Mark(16, ROUTE, "back"), reported(17, V1)])
    (turn,) = timeline.turns()
    failed = [answer(at, at + 1, cause="500: ill") for at in (9, 12, 14, 16.5, 17.5)]
    assert ill([*failed, answer(18, 19)], turn) == Ill(seconds=4, failed=4, failed_after=1)
    assert ill([answer(12, 13)], turn) is None
    assert ill(failed, Timeline([began(10)]).turns()[0]) is None


@pytest.mark.parametrize(
    ("cause", "status", "halted"),
    [
        ("died: BrokenPipeError(32, 'Broken pipe'); written 4.61 s after a look at the connection", 0, True),
        ("died: BrokenPipeError(32, 'Broken pipe'); written 0.02 s after a look at the connection", 0, False),
        ("died: BrokenPipeError(32, 'Broken pipe')", 0, False),
        ("died: EOFError(); written 4.61 s after a look at the connection", 200, False),  # an answer had begun
    ],
)
def test_a_client_that_stood_still_before_it_wrote_is_told_apart(cause: str, status: int, halted: bool) -> None:
    """vLLM closes a connection 5 s after an answer: who looks, halts and writes then has nobody to blame but itself."""
    found = verdict(answer(1, 6, cause=cause, status=status, way="keepalive"), an_update())
    assert bool(found.client_halted) is halted
    assert bool(found.failed) is not halted
