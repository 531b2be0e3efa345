"""The page's sections on size, time, provenance, and what is missing. Must not know where it all comes from."""

from __future__ import annotations

from controller.report.blocks import foreign, shown, table
from controller.report.charts import ADAPTER, ARTIFACT, Bar, bars
from controller.report.elements import Element, el
from controller.report.facts import Detail, Report, Suite
from controller.report.numbers import percent, seconds, size, times
from controller.report.visible import plain

_WHO = {"Adapter": ADAPTER, "Artifact": ARTIFACT}


def sizes_and_stages(report: Report) -> Element | None:
    drawn = [c for c in (_sizes(report), _stages(report)) if c is not None]
    return el("section", el("h2", "Size and time"), el("div", drawn, class_="charts")) if drawn else None


def _sizes(report: Report) -> Element | None:
    found = [Bar(plain(s.label), s.count, size(s.count), _WHO.get(s.label, "other")) for s in report.sizes]
    if not found:
        return None
    said = "; ".join(f"{b.label}: {b.shown}" for b in found)
    return el("figure", el("figcaption", "Size of the files"), bars("sizes", "Size of the files", said, found))


def _stages(report: Report) -> Element | None:
    found = [Bar(plain(f"{s.job}: {s.name}"), s.seconds, seconds(s.seconds)) for s in report.stages]
    if not found:
        return None
    said = "; ".join(f"{b.label}: {b.shown}" for b in found)
    return el("figure", el("figcaption", "Time by stage"), bars("stages", "Time by stage", said, found))


def provenance(report: Report) -> Element | None:
    if not report.provenance:
        return None
    return el(
        "section",
        el("h2", "Provenance"),
        el("dl", (part for d in report.provenance for part in _detail(d)), class_="origin"),
    )


def _detail(detail: Detail) -> tuple[Element, Element]:
    value = el("code", shown(detail.value)) if detail.is_code else foreign(detail.value)
    return el("dt", foreign(detail.label)), el("dd", value)


def earlier(report: Report) -> Element | None:
    if not report.earlier:
        return None
    return el(
        "section",
        el("h2", "Other evaluations of this artifact"),
        table(
            "The last one first",
            ("Ended", "Scores of the artifact", "Speedup"),
            ((foreign(e.finished), foreign(_scores(e.suites)), times(e.speedup)) for e in report.earlier),
        ),
    )


def _scores(suites: tuple[Suite, ...]) -> str:
    return ", ".join(f"{s.name} {percent(s.artifact)}" for s in suites)


def missing(report: Report) -> Element | None:
    if not report.missing:
        return None
    return el(
        "section",
        el("h2", "What this report does not have"),
        el("ul", (el("li", shown(text)) for text in report.missing), class_="plain"),
    )
