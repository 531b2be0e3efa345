"""The page's section on the examples that changed, with the words that differ. Must not know how they are scored."""

from __future__ import annotations

from collections.abc import Iterator

from controller.job.evaluation import Change, ChangedExample, Said, Text
from controller.report.blocks import foreign, shown, table
from controller.report.changes import TALLY_HEADS, Group, groups, tallies
from controller.report.charts import ADAPTER, ARTIFACT, clipped
from controller.report.differences import Run, Side, difference
from controller.report.elements import Element, el
from controller.report.facts import Report
from controller.report.numbers import count, counted

_OPEN = 3  # of what got worse: the first ones are read at once


def section(report: Report) -> Element | None:
    counted_by_suite = tallies(report)
    if not counted_by_suite and report.examples is None:
        return None
    return el(
        "section",
        el("h2", "What changed"),
        table(
            "Examples by what became of them",
            TALLY_HEADS,
            (
                [foreign(t.suite), *map(count, (t.both_right, t.lost, t.gained, t.both_wrong, t.reworded))]
                for t in counted_by_suite
            ),
        )
        if counted_by_suite
        else None,
        [part for group in groups(report.examples) for part in _group(group)] if report.examples else None,
        el("p", "Every example has the same outcome and the same words.")
        if report.examples and not groups(report.examples)
        else None,
    )


def _group(group: Group) -> Iterator[Element]:
    yield el("h3", f"{group.title} ({count(group.count)})")
    yield el("p", group.meaning, class_="note")
    worse = group.change in (Change.FAILED, Change.LOST)
    for number, example in enumerate(group.shown):
        yield _example(example, opened=worse and number < _OPEN)
    if left := group.count - len(group.shown):
        yield el("p", f"{counted(left, 'more is', 'more are')} not kept.", class_="note")


def _example(example: ChangedExample, *, opened: bool) -> Element:
    asked = example.messages[-1].text if example.messages else ""
    return el(
        "details",
        el(
            "summary",
            foreign(example.suite),
            f", example {count(example.number)}: ",
            el("span", foreign(clipped(" ".join(asked.split()), 90)), class_="note"),
        ),
        el(
            "div",
            (_said(m.role or "message", m, "") for m in example.messages),
            _said("expected", example.expected, ""),
            el("div", _answers(example), class_="pair"),
            class_="example",
        ),
        open="" if opened else None,
    )


def _answers(example: ChangedExample) -> Iterator[Element]:
    """Side by side, each with the words that only it has."""
    before, after = example.reference, example.candidate
    if before is None or before.error or after.error:
        if before is not None:
            yield _answer(ADAPTER, before, shown(before.text), _outcome(example, ADAPTER))
        yield _answer(ARTIFACT, after, shown(after.text), _outcome(example, ARTIFACT))
        return
    runs = difference(before.text, after.text)
    yield _answer(ADAPTER, before, _marked(runs, Side.BEFORE), _outcome(example, ADAPTER))
    yield _answer(ARTIFACT, after, _marked(runs, Side.AFTER), _outcome(example, ARTIFACT))


def _outcome(example: ChangedExample, who: str) -> str:
    right = {Change.LOST: ADAPTER, Change.GAINED: ARTIFACT}.get(example.change)
    if example.change is Change.REWORDED:
        return "right"
    if example.change is Change.FAILED:
        return ""
    return "right" if who == right else "wrong"


def _marked(runs: list[Run], side: Side) -> list[Element | str]:
    mark = "del" if side is Side.BEFORE else "ins"
    found: list[Element | str] = []
    for run in runs:
        if run.side is side:
            found.append(el(mark, shown(run.text)))
        elif run.side is Side.BOTH:
            found.extend(shown(run.text))
    return found


def _answer(who: str, said: Said, words: list[Element | str], outcome: str) -> Element:
    if said.error:
        words, outcome = shown(said.error), "no answer"
    return _block(who, words, outcome, said.left_out, class_=who)


def _said(who: str, text: Text, outcome: str) -> Element:
    return _block(who, shown(text.text), outcome, text.left_out)


def _block(who: str, words: list[Element | str], outcome: str, left_out: int, class_: str | None = None) -> Element:
    rest = f"{counted(left_out, 'character', 'characters')} left out here" if left_out else None
    return el(
        "div",
        el(
            "p",
            foreign(who),
            el("span", f", {outcome}", class_="wrong") if outcome else None,
            class_=f"who {class_}" if class_ else "who",
        ),
        el("div", words or [el("span", "(nothing)", class_="wrong")], class_="words", dir="auto", tabindex="0"),
        el("p", rest, class_="note") if rest else None,
        class_="said",
    )
