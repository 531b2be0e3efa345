"""The table, the evidence on disk, and the questions that tell versions apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.between import END
from bench.no_request_lost.judge import Ill, Row
from bench.no_request_lost.questions import Said, said_in, telling, with_more
from bench.no_request_lost.raw import Raw, read_raw, write_raw
from bench.no_request_lost.records import BEGAN, NOTE, REPORTED, ROUTE, Mark, Question, Record, State, records_from
from bench.no_request_lost.report import (
    BEGIN,
    as_json,
    failures,
    ill_lines,
    quantile,
    spread,
    table,
    timing_table,
    write_between_markers,
)

V1, V2 = State("Adapter", "sha256:11", "v1"), State("Adapter", "sha256:22", "v2")


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1), (0.1, 1), (0.11, 2), (0.5, 5), (0.51, 6), (0.9, 9), (0.99, 10), (1.0, 10)]
)
def test_a_quantile_is_the_smallest_value_that_the_share_does_not_exceed(share: float, value: float) -> None:
    assert quantile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], share) == value


def test_a_row_in_the_table_says_whether_it_is_met() -> None:
    good = Row("update", "new", requests=20)
    bad = Row(
        "update", "openai-retries", requests=20, failed=1, truncated=2, wrong_version=3, strange_text=4, retried=5
    )
    bad.moves, bad.stayed, bad.died_with_server, bad.refused_by_dead, bad.client_halted = [0.5, 7], 1, 6, 7, 8
    _, _, first, second = table([good, bad], 20).splitlines()
    assert first == "| update | new | 20 | 0 | 0 | 0 | 0 | 0 | 0 | 0 |  | ok |"
    retried = "openai-retries (5 retried)"
    assert second == (
        f"| update | {retried} | 20 | 1 | 2 | 3 | 4 | 6 | 7 | 8 | 0.50, 7.00, 7.00 of 2; 1 never | **not met** |"
    )
    assert "not met" in table([good], 21)
    good.refused_by_dead = 1
    assert "ok but for the kill |" in table([good], 20)
    good.client_halted = 1
    assert "ok but for the kill and the client's halt |" in table([good], 20)


def test_nothing_moved_is_an_empty_cell() -> None:
    assert spread([]) == ""


def test_only_what_stands_between_the_markers_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "doc.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_between_markers(path, "new\n")
    assert path.read_text() == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    path.write_text("no markers")
    with pytest.raises(ValueError, match="needs one line"):
        write_between_markers(path, "new")


def test_a_failure_is_shown_beside_what_the_cluster_did_then() -> None:
    record = Record("new", 3, "q", 100.0, 101.0, conn="4711")
    marks = [Mark(90, NOTE, "long ago"), Mark(99, NOTE, "it restarts"), Mark(102, REPORTED, "v1 serves", V1)]
    row = Row("crash", "new", requests=50, troubles=[(record, "404: no")] * 12)
    said = failures(row, marks)
    assert "12 of 50" in said and said.count("404: no") == 10
    assert "00:01:40.000 to 00:01:41.000 worker 3, connection 4711" in said
    assert "it restarts" in said and "v1 serves" in said and "long ago" not in said


def test_failures_are_shown_before_answers_that_are_wrong() -> None:
    troubles = [(Record("new", 0, "q", float(n), n + 1.0), "v1 by its text") for n in range(20)]
    troubles.append((Record("new", 0, "q", 50.0, 51.0, cause="404"), "404: no model"))
    assert "404: no model" in failures(Row("update", "new", requests=50, troubles=troubles), []).splitlines()[1]


def raw() -> Raw:
    marks = (
        Mark(0, REPORTED, "v1", V1),
        Mark(10, BEGAN, "update"),
        Mark(11, ROUTE, "it selects"),
        Mark(12, REPORTED, "v2", V2),
    )
    records = (
        Record("new", 0, "q", 10.5, 11, model="bot", text="one"),
        Record("new", 0, "q", 11.25, 12, model="bot", text="one"),
        Record("new", 0, "q", 13, 14, model="bot", text="two"),
    )
    return Raw("update", "bot", marks, records, {"q": question("q", "one", "two")})


def test_what_a_failing_check_took_is_a_line_each() -> None:
    assert ill_lines([]) == ""
    assert "route back: 4.00 s; 7 requests failed, 1 of them" in ill_lines([Ill(4, 7, 1)])


def question(identifier: str, *texts: str) -> Question:
    return Question(identifier, {f"v{n}": frozenset({text}) for n, text in enumerate(texts, 1)})


def test_evidence_is_read_as_it_was_written_and_judged_alike(tmp_path: Path) -> None:
    write_raw(tmp_path, raw())
    assert read_raw(tmp_path) == [raw()]
    (row,) = read_raw(tmp_path)[0].rows()
    assert (row.requests, row.failed, row.wrong_version) == (3, 0, 0)


def test_a_change_is_timed_from_when_it_was_told() -> None:
    (timing,) = raw().timings()
    assert (timing.route, timing.moved, timing.reported) == (1, 1.25, 2)
    assert timing_table([timing]).splitlines()[-1] == (
        "| update | 1.00, 1.00, 1.00 of 1 | 1.25, 1.25, 1.25 of 1 | 2.00, 2.00, 2.00 of 1 |"
    )


def test_json_says_why_a_row_is_not_met() -> None:
    row = Row("update", "new", requests=1, failed=1, troubles=[(Record("new", 2, "q", 1, 2), "404")])
    told = json.loads(as_json([row], raw().timings(), 1, {"made": "now"}))
    assert told["rows"][0]["passes"] is False
    assert told["rows"][0]["troubles"] == [{"start": 1, "end": 2, "worker": 2, "why": "404"}]
    assert told["timings"][0]["reported"] == 2 and told["run"] == {"made": "now"}


def test_records_come_in_the_order_of_their_starts_and_a_cut_line_is_left_out() -> None:
    lines = [
        '{"worker": 1, "question": "q", "start": 5, "end": 6, "unknown": 1, "backend": null}',
        '{"worker": 0, "question": "q", "start": 4, "end": 9}',
        '{"worker": 0, "que',
    ]
    first, second = records_from("new", lines)
    assert (first.start, second.start, second.backend, second.way) == (4, 5, "", "new")


def said(text: str, lead: float = 1.0) -> list[Said]:
    return [Said(text, lead)]


def test_a_question_tells_versions_apart_if_each_says_one_thing_of_its_own() -> None:
    v1 = {"apart": said("a"), "alike": said("a"), "unsteady": [Said("a", 1), Said("b", 1)], "unasked": said("a")}
    v2 = {"apart": said("b"), "alike": said("a"), "unsteady": said("a")}
    assert set(telling({"v1": v1, "v2": v2}, 10)) == {"apart"}


def test_the_surest_questions_are_taken() -> None:
    v1 = {"sure": said("a", 3), "less": said("a", 2), "least": said("a", 9)}
    v2 = {"sure": said("b", 3), "less": said("b", 9), "least": said("b", 1)}
    assert list(telling({"v1": v1, "v2": v2}, 2)) == ["sure", "less"]


def test_a_merged_version_may_word_it_its_own_way_but_not_anothers() -> None:
    known = {"q": question("q", "one", "two"), "r": question("r", "one", "two")}
    more = with_more(known, "v1", {"q": said("uno"), "r": said("two")})
    assert set(more) == {"q"}
    assert more["q"].version_of("uno") == more["q"].version_of("one") == "v1"
    assert more["q"].version_of("due") == ""


def test_the_least_sure_token_decides_how_sure_an_answer_is() -> None:
    def token(*logprobs: float) -> dict[str, object]:
        return {"top_logprobs": [{"logprob": x} for x in logprobs]}

    choice = {"message": {"content": "ab"}, "logprobs": {"content": [token(-0.1, -3), token(-0.5, -0.25)]}}
    assert said_in(choice) == Said("ab", 0.25)
