"""The report as a comment in CI: short, and nobody's words are markup in it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from controller.cli.report import documents_in
from controller.report.documents import report_of
from controller.report.facts import Report
from controller.report.markdown import LONGEST, markdown_of
from tests.report.hostile import ATTACKS, everywhere
from tests.report.samples import Sample, renamed, support, tone


@pytest.fixture
def report(tmp_path: Path) -> Report:
    sample = Sample(tmp_path)
    sample.measured(support(), tone())
    return report_of(documents_in(sample.directory))


def tokens(text: str) -> list[Token]:
    found = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        found.append(token)
        found.extend(token.children or ())
    return found


@pytest.mark.parametrize("text", ATTACKS, ids=range(len(ATTACKS)))
def test_nobody_s_words_become_markup_a_link_or_a_mention(text: str) -> None:
    for token in tokens(markdown_of(everywhere(text))):
        assert token.type not in {"link_open", "image", "html_inline"}
        if token.type == "html_block":
            assert re.fullmatch(r"(<details><summary>[A-Za-z ,()0-9]+</summary>|</details>)\n*", token.content)
        if token.type == "text":
            assert not any(word in token.content for word in ("evil", "@everyone", "**b**")), token.content


@pytest.mark.parametrize("text", ATTACKS, ids=range(len(ATTACKS)))
def test_a_table_keeps_its_cells_whatever_is_in_them(text: str) -> None:
    kinds = [t.type for t in tokens(markdown_of(everywhere(text)))]
    harmless = [t.type for t in tokens(markdown_of(everywhere("word")))]
    for kind in ("table_open", "tr_open", "td_open", "th_open", "heading_open", "html_block"):
        assert kinds.count(kind) == harmless.count(kind), kind


@pytest.mark.parametrize("text", ATTACKS, ids=range(len(ATTACKS)))
def test_it_fits_into_a_comment(text: str) -> None:
    assert len(markdown_of(everywhere(text))) <= LONGEST


def test_examples_that_would_make_it_too_long_are_left_out_and_that_is_said(report: Report) -> None:
    assert report.examples is not None
    many = [renamed(tone(), name=f"suite-{i}").scored().result for i in range(3)]
    long = replace(report, examples=everywhere("`" * 20_000).examples)
    assert many and "too long for a comment" in markdown_of(replace(long, provenance=report.provenance * 150))


def test_what_would_still_make_it_too_long_is_left_out_from_the_end_on(report: Report) -> None:
    text = markdown_of(replace(report, provenance=report.provenance * 100, missing=("x" * 300,) * 400))
    assert len(text) <= LONGEST
    assert "### Scores" in text and "### Speed" in text and "\n- `xx" not in text
    assert text.endswith("The rest is too long for a comment: see the page.\n")
    assert [t.type for t in tokens(text)].count("table_open") == 3


def test_it_says_what_the_page_says(report: Report) -> None:
    text = markdown_of(report)
    for wanted in (
        "| `support` | 200 | 94.5 % (90.4 to 97.2) | 94.0 % (89.8 to 96.9) | −0.5 (−3.1 to +1.9) | 94.0 % | 0 |",
        "| `support` | 187 | 2 | 1 | 10 | 9 |",
        "<details><summary>Right before, wrong now (2)</summary>",
        "- adapter: The ticket belongs to the queue technical, since",
        "+ artifact: The ticket belongs to the queue shipping, since",
        "Speedup: **1.45×**",
        "4 more are not shown here.",
    ):
        assert wanted in text, wanted


def test_a_line_of_an_answer_cannot_pass_for_another_side_s(report: Report) -> None:
    assert report.examples is not None
    (example, *_) = report.examples.changed
    forged = example.model_copy(update={"candidate": example.candidate.model_copy(update={"text": "x\n- adapter: y"})})
    text = markdown_of(replace(report, examples=replace(report.examples, changed=(forged,))))
    assert "\n- adapter: y" not in text and "+           - adapter: y" in text
