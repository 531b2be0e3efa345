"""The report as one page of HTML that needs nothing else: no script, no font, no picture, no address.

Its policy allows one thing, its own style sheet, known by its sha256. The same report makes the same bytes. Must not
know where its facts come from.
"""

from __future__ import annotations

import base64
import hashlib

from controller.report import page_examples, page_origin, page_scores, page_speed
from controller.report.blocks import foreign, shown
from controller.report.elements import Element, el, style
from controller.report.facts import Report, Verdict
from controller.report.figures import Figure, figures
from controller.report.sheet import SHEET
from controller.report.visible import plain

_SHEET_SHA256 = base64.b64encode(hashlib.sha256(SHEET.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_SHEET_SHA256}'; base-uri 'none'; form-action 'none'"
_MARKS = {"Pass": "✓", "Fail": "✕", "Inconclusive": "?"}
_WORDS = {
    "Pass": "Pass: it may have traffic",
    "Fail": "Fail: it gets no traffic",
    "Inconclusive": "Inconclusive: no verdict is no pass",
}


def page_of(report: Report) -> str:
    return f"<!doctype html>\n{el('html', _head(report), _body(report), lang='en')}\n"


def _head(report: Report) -> Element:
    return el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="referrer", content="no-referrer"),
        el("meta", name="robots", content="noindex"),
        el("title", f"{plain(report.name)}: {report.verdict.word or 'report'}"),
        style(SHEET),
    )


def _body(report: Report) -> Element:
    return el(
        "body",
        el(
            "header",
            el("p", _eyebrow(report), class_="eyebrow"),
            el("h1", foreign(report.name)),
            _verdict(report.verdict),
            el("p", shown(report.standing)) if report.standing else None,
            el("dl", (_figure(f) for f in figures(report)), class_="figures"),
        ),
        el(
            "main",
            page_scores.section(report),
            page_examples.section(report),
            page_speed.section(report),
            page_origin.sizes_and_stages(report),
            page_origin.provenance(report),
            page_origin.earlier(report),
            page_origin.missing(report),
        ),
        _foot(report),
    )


def _eyebrow(report: Report) -> list[Element | str]:
    found: list[Element | str] = ["Report on an artifact"]
    if report.release:
        found += [" of release ", foreign(report.release)]
    if report.evaluated:
        found += [", measured ", foreign(report.evaluated)]
    return found


def _verdict(verdict: Verdict) -> Element:
    tone = verdict.word.lower() if verdict.word in _MARKS else "none"
    reasons = [r for r in verdict.why.split("; ") if r]
    why = el("ul", (el("li", shown(r)) for r in reasons)) if len(reasons) > 1 else el("p", shown(verdict.why))
    return el(
        "section",
        el("div", _MARKS.get(verdict.word, "–"), class_="mark", aria_hidden="true"),
        el("p", _WORDS.get(verdict.word, "No verdict here"), class_="word"),
        el("div", why, class_="why") if verdict.why else None,
        el("p", f"Judged by {verdict.by}.", class_="by") if verdict.by else None,
        class_=f"verdict {tone}",
        aria_label="Verdict",
    )


def _figure(figure: Figure) -> Element:
    return el(
        "div",
        el("dt", figure.label),
        el("dd", figure.value, class_="value"),
        el("dd", shown(figure.note), class_="note") if figure.note else None,
        class_="figure",
    )


def _foot(report: Report) -> Element:
    return el(
        "footer",
        el(
            "div",
            el("p", "Made by adapterrelease report, of these documents:"),
            el("ul", _sources(report), class_="plain"),
        ),
    )


def _sources(report: Report) -> list[Element]:
    if not report.sources:
        return [el("li", "the status of the release")]
    return [el("li", shown(s.name), ", sha256 ", el("code", shown(s.sha256))) for s in report.sources]
