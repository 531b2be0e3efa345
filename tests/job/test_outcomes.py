"""What became of each example: counts that add up, and words of bounded size."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.job.benchmark import timed
from controller.job.chat import Answer
from controller.job.contract import EvaluatedArtifact, Source, Suite
from controller.job.evaluation import MAX_EXAMPLES_BYTES, Change, parse_examples
from controller.job.examples import as_lines
from controller.job.outcomes import KEPT_OF_A_CHANGE, Scored, scored
from controller.job.suite import Example

ABOUT = EvaluatedArtifact(id="sha256:" + "1" * 64, digest="sha256:" + "2" * 64, inputs="e" * 64)


def suite(name: str = "s") -> Suite:
    return Suite(name=name, source=Source(path="/s", root="/"))


def example(text: Any = "question", expected: str = "yes") -> Example:
    return Example(({"role": "user", "content": text},), expected)


def answer(text: str | None) -> Answer:
    return Answer(text, 1) if text is not None else Answer(None, error="status 500: no")


def of(*pairs: tuple[str | None, str | None], name: str = "s") -> Scored:
    return scored(suite(name), [example() for _ in pairs], [answer(a) for a, _ in pairs], [answer(b) for _, b in pairs])


@pytest.mark.parametrize(
    ("adapter", "artifact", "change"),
    [
        ("yes", "yes", None),
        ("no", "never", None),
        ("yes", "no", Change.LOST),
        ("no", "yes", Change.GAINED),
        ("yes", "oh yes", Change.REWORDED),
        ("yes", None, Change.FAILED),
        (None, "yes", Change.FAILED),
        (None, None, Change.FAILED),
    ],
)
def test_an_example_has_one_outcome(adapter: str | None, artifact: str | None, change: Change | None) -> None:
    found = of((adapter, artifact))
    assert [e.change for e in found.changed] == ([change] if change else [])
    assert [(c.change, c.count) for c in found.counts] == ([(change, 1)] if change else [])


TEXTS = st.sampled_from(["yes", "oh yes", "no", "never", None])


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=40))
def test_outcomes_add_up_to_the_scores(pairs: list[tuple[str | None, str | None]]) -> None:
    found = of(*pairs)
    o, result, n = found.outcomes, found.result, len(pairs)
    assert o is not None and result.reference is not None
    assert o.both_right + o.only_reference + o.only_candidate + o.both_wrong == n == result.samples
    assert result.reference == (o.both_right + o.only_reference) / n
    assert result.candidate == (o.both_right + o.only_candidate) / n
    assert o.reworded <= o.both_right
    assert result.errors == sum(text is None for pair in pairs for text in pair)


def test_without_an_adapter_the_wrong_ones_are_kept() -> None:
    found = scored(suite(), [example(), example()], None, [answer("yes"), answer("no")])
    assert found.outcomes is None and found.result.reference is None
    assert [(e.number, e.change, e.reference) for e in found.changed] == [(2, Change.WRONG, None)]


def test_of_each_change_the_first_ones_are_kept_and_all_are_counted() -> None:
    found = of(*[("yes", "no"), ("yes", "oh yes")] * (KEPT_OF_A_CHANGE + 5))
    kept = [e.change for e in found.changed]
    assert kept.count(Change.LOST) == kept.count(Change.REWORDED) == KEPT_OF_A_CHANGE
    assert {c.change: c.count for c in found.counts} == {Change.LOST: 105, Change.REWORDED: 105}
    assert found.changed[0].number == 1


def test_the_file_is_bounded_and_has_what_matters_most_first() -> None:
    long = "x" * 16_384
    many = [of(*[("yes", f"oh yes {long}"), (f"yes {long}", "no")] * 100, name=f"s{i}") for i in range(4)]
    text = as_lines(ABOUT, many)
    assert len(text.encode()) <= MAX_EXAMPLES_BYTES
    header, changed = parse_examples(text.encode())
    assert sum(c.count for c in header.counts) == 800 > len(changed) > 300
    assert [e.change for e in changed] == sorted((e.change for e in changed), key=list(Change).index)
    assert {e.suite for e in changed if e.change is Change.LOST} == {"s0", "s1", "s2", "s3"}


def test_a_long_text_is_cut_and_says_by_how_much() -> None:
    (found,) = of(("yes", "n" * 20_000)).changed
    assert (len(found.candidate.text), found.candidate.left_out) == (16_384, 20_000 - 16_384)


def test_of_an_image_only_its_kind_is_kept() -> None:
    content = [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": "data:" + "A" * 99}},
    ]
    (found,) = scored(suite(), [example(content)], [answer("yes")], [answer("no")]).changed
    assert found.messages[0].text == "what is this?\n[image_url]"


@pytest.mark.parametrize("content", [None, 3, {}, [3], []])
def test_content_that_is_no_text_is_none(content: Any) -> None:
    (found,) = scored(suite(), [example(content)], [answer("yes")], [answer("no")]).changed
    assert found.messages[0].text == ""


@settings(deadline=None)  # the machine may be busy
@given(st.text(st.characters(exclude_categories=()), max_size=40))
def test_whatever_a_model_says_can_be_written_and_read_again(said: str) -> None:
    _, changed = parse_examples(as_lines(ABOUT, [of(("yes", f"no {said}"))]).encode())
    if "yes" not in said:
        (found,) = changed
        assert len(found.candidate.text) == len(said) + 3


@pytest.mark.parametrize("content", [b"", b"{}", b"[]\n", b'{"kind": "Examples"}\n{'])
def test_what_is_no_file_of_examples_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):
        parse_examples(content)


def test_quantiles_are_latencies_that_were_measured() -> None:
    slow = [([Answer("x", 5, s) for s in (0.4, 0.1, 0.3, 0.2)], 2.0), ([answer(None)], 1.0)]
    curves = timed(None, slow).curves
    assert curves.latency_quantiles.reference is None
    levels = curves.latency_quantiles.candidate
    assert len(levels) == 101 and (levels[0], levels[25], levels[50], levels[100]) == (0.1, 0.1, 0.2, 0.4)
    assert [(r.candidate.requests, r.candidate.output_tokens, r.candidate.errors) for r in curves.rounds] == [
        (4, 20, 0),
        (0, 0, 1),
    ]
    assert json.loads(curves.model_dump_json(by_alias=True))["rounds"][0]["candidate"]["outputTokens"] == 20


def test_without_an_answer_there_are_no_quantiles() -> None:
    assert timed(None, [([answer(None)], 1.0)]).curves.latency_quantiles.candidate == ()
