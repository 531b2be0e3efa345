"""The page's section on scores. Must not know where they come from."""

from __future__ import annotations

from collections.abc import Sequence

from controller.report.blocks import Cell, foreign, table, with_note
from controller.report.charts import ADAPTER, ARTIFACT, Whisker, whiskers
from controller.report.confidence import Interval
from controller.report.elements import Element, el
from controller.report.facts import Report
from controller.report.numbers import count, percent, points
from controller.report.scores import METHOD, Score, Scored, scored
from controller.report.visible import plain

NOT_KEPT = "not kept"


def section(report: Report) -> Element | None:
    found = [scored(s) for s in report.suites]
    if not found:
        return None
    compared = any(s.adapter for s in found)
    heads = ["Suite", "Examples", *(["Adapter"] if compared else []), "Artifact"]
    heads += ["Difference, points", "Same answer"] if compared else []
    return el(
        "section",
        el("h2", "Scores"),
        table("Share of right answers", [*heads, "No answer"], (_row(s, compared) for s in found)),
        _chart(found),
        el("p", METHOD, class_="note"),
    )


def _row(s: Scored, compared: bool) -> Sequence[Cell]:
    cells: list[Cell] = [_name(s), count(s.suite.samples)]
    if compared:
        cells.append(_cell(s.adapter) if s.adapter else "not asked")
    cells.append(_cell(s.artifact))
    if compared:
        cells.append(_difference(s))
        cells.append(percent(s.suite.agreement) if s.suite.agreement is not None else "not asked")
    return [*cells, count(s.suite.errors)]


def _name(s: Scored) -> Element:
    scorer = el("span", foreign(s.suite.scorer), class_="note") if s.suite.scorer else None
    return el("span", foreign(s.suite.name), " " if scorer else None, scorer)


def _cell(score: Score) -> Element:
    return with_note(percent(score.share), between(score.interval) if score.interval else "")


def _difference(s: Scored) -> Cell:
    if s.difference is None:
        return "not asked"
    return with_note(points(s.difference), between_points(s.sure) if s.sure else NOT_KEPT)


def between(interval: Interval) -> str:
    return f"{interval.low * 100:.1f} to {interval.high * 100:.1f}"


def between_points(interval: Interval) -> str:
    return f"{points(interval.low)} to {points(interval.high)}"


def _chart(found: Sequence[Scored]) -> Element | None:
    rows = [(plain(s.suite.name), marks) for s in found if (marks := _marks(s))]
    if not rows:
        return None
    said = "; ".join(f"{name}: " + ", ".join(f"{m.who} {m.shown}" for m in marks) for name, marks in rows)
    title = "Score of each suite, with its interval"
    return el("div", el("figure", el("figcaption", title), whiskers("scores", title, said, rows)), class_="charts")


def _marks(s: Scored) -> list[Whisker]:
    return [
        Whisker(who, score.share, score.interval.low, score.interval.high, f"{who} {percent(score.share)}")
        for who, score in ((ADAPTER, s.adapter), (ARTIFACT, s.artifact))
        if score is not None and score.interval is not None
    ]
