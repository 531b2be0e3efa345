"""The page as a reader of its markup sees it; how a browser shows it is in test_browser.py."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from controller.cli.report import documents_in
from controller.report.documents import report_of
from controller.report.facts import Report, Verdict
from controller.report.page import POLICY, page_of
from controller.report.visible import is_hidden
from tests.report.hostile import ATTACKS, everywhere
from tests.report.samples import Sample, renamed, support, tone
from tests.report.test_elements import Reader


@pytest.fixture
def report(tmp_path: Path) -> Report:
    sample = Sample(tmp_path)
    sample.measured(support(), tone())
    return report_of(documents_in(sample.directory))


def names(page: str) -> list[str]:
    return [tag for tag, _ in Reader(page).tags]


def structure(page: str) -> list[tuple[str, list[str]]]:
    """Elements and their attributes' names, without those that stand for characters that cannot be seen."""
    found = [(tag, attributes) for tag, attributes in Reader(page).tags if ("class", "hidden") not in attributes]
    return [(tag, [name for name, _ in attributes]) for tag, attributes in found]


@pytest.mark.parametrize("text", ATTACKS, ids=range(len(ATTACKS)))
def test_nobody_s_words_become_an_element_or_an_attribute(text: str) -> None:
    # The same words on one line and none of them marked as changed: the rest of the structure does not depend on them.
    assert structure(page_of(everywhere(text))) == structure(page_of(everywhere("word")))


@pytest.mark.parametrize("text", ATTACKS, ids=range(len(ATTACKS)))
def test_nothing_is_loaded_and_nothing_runs(text: str) -> None:
    for tag, attributes in Reader(page_of(everywhere(text))).tags:
        assert tag not in {"script", "img", "a", "link", "iframe", "object", "base", "form", "use", "image"}
        for name, value in attributes:
            assert not name.startswith("on") and name not in {"src", "href", "style", "action"}
            assert name in {"title", "aria-label", "content"} or "evil" not in (value or "")


@pytest.mark.parametrize("text", ATTACKS, ids=range(len(ATTACKS)))
def test_there_is_no_character_in_the_page_that_cannot_be_seen(text: str) -> None:
    assert not {hex(ord(c)) for c in page_of(everywhere(text)) if is_hidden(c)}


def test_the_policy_allows_nothing_but_its_own_style(report: Report) -> None:
    page = page_of(report)
    metas = [dict(attributes) for tag, attributes in Reader(page).tags if tag == "meta"]
    assert [m["content"] for m in metas if m.get("http-equiv") == "Content-Security-Policy"] == [POLICY]
    sheet = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert sheet is not None and not re.search(r"url\(|@import|@font-face|expression", sheet[1])
    known = base64.b64encode(hashlib.sha256(sheet[1].encode()).digest()).decode()
    allowed = f"default-src 'none'; style-src 'sha256-{known}'; base-uri 'none'; form-action 'none'"
    assert allowed == POLICY


def test_the_same_documents_make_the_same_bytes(report: Report, tmp_path: Path) -> None:
    again = Sample(tmp_path / "again")
    again.measured(support(), tone())
    assert page_of(report_of(documents_in(again.directory))) == page_of(report)


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("Pass", "Pass: it may have"),
        ("Fail", "Fail: it gets no"),
        ("Inconclusive", "no verdict is no pass"),
        ("", "No verdict here"),
    ],
)
def test_the_verdict_and_why_come_first(word: str, shown: str, report: Report) -> None:
    verdict = Verdict(word, "suite support: a drop of 0.3; speedup 0.9", "the controller")
    page = page_of(replace(report, verdict=verdict))
    text = Reader(page).text
    assert text.index(shown) < text.index("suite support: a drop of 0.3") < text.index("Share of right answers")
    assert f'class="verdict {word.lower() or "none"}"' in page


def test_a_word_that_is_no_verdict_is_not_shown_as_one(report: Report) -> None:
    page = page_of(replace(report, verdict=Verdict("Passed", "", "")))
    assert 'class="verdict none"' in page and "No verdict here" in page


def test_scores_stand_with_their_confidence_and_its_method(report: Report) -> None:
    text = Reader(page_of(report)).text
    assert "94.5 %90.4 to 97.2" in text and "−0.5−3.1 to +1.9" in text
    assert "Clopper and Pearson" in text and "Tango" in text


def test_words_that_differ_are_marked_in_both_answers(report: Report) -> None:
    page = page_of(report)
    assert "<del>technical</del>" in page and "<ins>shipping</ins>" in page
    assert "Right before, wrong now (2)" in page and "Wrong before, right now (1)" in page


def test_what_cannot_be_seen_gets_a_name(report: Report) -> None:
    page = page_of(replace(report, name="queue=\u202egnillib"))
    assert "\u202e" not in page and ">U+202E</span>gnillib" in page


@pytest.mark.parametrize("text", ["\u200b" * 16_384, "\u200b\u200c" * 8_192, "\x00\x01" * 8_192], ids=range(3))
def test_an_answer_of_what_cannot_be_seen_makes_no_page_that_no_browser_opens(text: str) -> None:
    hostile = replace(everywhere("word"), examples=everywhere(text).examples)
    assert len(page_of(hostile)) < 2 * len(page_of(everywhere("word")))


def test_a_round_has_its_number_where_there_is_room(report: Report) -> None:
    assert report.speed is not None and report.speed.curves is not None
    rounds = report.speed.curves.rounds[:1] * 100
    curves = report.speed.curves.model_copy(update={"rounds": rounds})
    page = page_of(replace(report, speed=replace(report.speed, curves=curves)))
    drawn = re.search(r"<svg [^>]*throughput-title.*?</svg>", page, re.DOTALL)
    assert drawn is not None
    numbers = [int(text) for text in re.findall(r'text-anchor="(?:middle|end)">(\d+)</text>', drawn[0])]
    assert [n for n in numbers if n in range(1, 101)][-10:] == list(range(1, 101, 10))


def test_each_picture_has_a_name_and_says_its_numbers(report: Report) -> None:
    page = page_of(report)
    pictures = re.findall(r"<svg [^>]*>.*?</svg>", page, re.DOTALL)
    assert len(pictures) == 5
    for picture in pictures:
        labelled = re.match(r'<svg [^>]*role="img" aria-labelledby="(\S+) (\S+)">', picture)
        assert labelled is not None
        assert f'<title id="{labelled[1]}">' in picture
        said = re.search(rf'<desc id="{labelled[2]}">([^<]+)</desc>', picture)
        assert said is not None and re.search(r"\d", said[1])
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(set(ids)) == len(ids)


def test_adapter_and_artifact_differ_by_more_than_colour(report: Report) -> None:
    page = page_of(report)
    latency = re.search(r"<svg [^>]*latency-title.*?</svg>", page, re.DOTALL)
    assert latency is not None
    lines = re.findall(r"<polyline [^>]*>", latency[0])
    assert ["stroke-dasharray" in line for line in lines] == [False, True]
    assert "<circle " in latency[0] and "<rect " in latency[0]


def test_without_examples_no_word_of_them_is_in_the_page(report: Report) -> None:
    assert "Ticket 4017" in page_of(report)
    assert "Ticket" not in page_of(replace(report, examples=None))


def test_an_artifact_that_was_measured_alone_is_compared_with_nothing(tmp_path: Path) -> None:
    sample = Sample(tmp_path)
    sample.measured(renamed(support(), adapter=None))
    text = Reader(page_of(report_of(documents_in(sample.directory)))).text
    assert "Difference" not in text and "Speedup" not in text and "adapter 9" not in text
    assert "Wrong (12)" in text and "94.0 %89.8 to 96.9" in text


def test_a_report_of_nothing_but_a_name_is_a_page() -> None:
    page = page_of(Report(name="x", artifact_id="sha256:1"))
    assert "No verdict here" in page and names(page)[0] == "html"
