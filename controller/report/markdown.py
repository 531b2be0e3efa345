"""The report as Markdown, short enough for a comment in CI.

What people and models wrote stands in code, where nothing is markup, a mention or a link. Must not know where the
facts come from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from controller.job.evaluation import ChangedExample, Said
from controller.job.markup import cell, code
from controller.report.changes import TALLY_HEADS, Group, groups, tallies
from controller.report.confidence import Interval
from controller.report.facts import Report, Suite
from controller.report.figures import figures
from controller.report.numbers import count, counted, percent, points, seconds, size, times
from controller.report.page_speed import rounds_note, rows_of
from controller.report.scores import METHOD, Score, Scored, scored
from controller.report.visible import plain

LONGEST = 60_000  # characters; a comment on GitHub has at most 65,536
_EXAMPLES, _WORDS = 5, 600  # of each change, and characters of each text
_REASONS = 20


def markdown_of(report: Report) -> str:
    """All of it; without examples, and then without its end, where it would be too long for a comment."""
    text = _joined(_parts(report, with_examples=True))
    if len(text) > LONGEST:
        text = _joined(_parts(report, with_examples=False))
    return text if len(text) <= LONGEST else _joined(_beginning(_parts(report, with_examples=False)))


def _joined(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def _beginning(parts: Iterable[str]) -> Iterator[str]:
    """As many as there is room for."""
    room = LONGEST - 100
    for part in parts:
        room -= len(part) + 2
        if room < 0:
            yield "The rest is too long for a comment: see the page."
            return
        yield part


def _parts(report: Report, *, with_examples: bool) -> Iterator[str]:
    yield f"## {report.verdict.word or 'No verdict here'}: {code(report.name)}"
    yield _about(report)
    yield _why(report)
    yield "\n".join(f"- {f.label}: **{f.value}**" + (f" ({code(f.note)})" if f.note else "") for f in figures(report))
    yield from _scores(report)
    yield from _changes(report, with_examples=with_examples)
    yield from _speed(report)
    yield from _rest(report)


def _about(report: Report) -> str:
    parts = [
        f"Release {code(report.release)}" if report.release else "",
        f"measured {code(report.evaluated)}" if report.evaluated else "",
        code(report.artifact_id),
    ]
    return ", ".join(part for part in parts if part)


def _why(report: Report) -> str:
    reasons = [r for r in report.verdict.why.split("; ") if r]
    lines = [f"- {code(plain(r))}" for r in reasons[:_REASONS]]
    if len(reasons) > _REASONS:
        lines.append(f"- and {len(reasons) - _REASONS} more")
    if report.standing:
        lines.append(f"- {code(plain(report.standing))}")
    return "\n".join(lines)


def _scores(report: Report) -> Iterator[str]:
    found = [scored(s) for s in report.suites]
    if not found:
        return
    yield "### Scores"
    heads = ("Suite", "Examples", "Adapter", "Artifact", "Difference, points", "Same answer", "No answer")
    yield _table(heads, (_row(s) for s in found))
    yield METHOD


def _row(s: Scored) -> Sequence[str]:
    asked, agreement = "not asked", s.suite.agreement
    return (
        cell(s.suite.name),
        count(s.suite.samples),
        _score(s.adapter) if s.adapter else asked,
        _score(s.artifact),
        f"{points(s.difference)}{_points(s.sure)}" if s.difference is not None else asked,
        percent(agreement) if agreement is not None else asked,
        count(s.suite.errors),
    )


def _score(score: Score) -> str:
    between = f" ({score.interval.low * 100:.1f} to {score.interval.high * 100:.1f})" if score.interval else ""
    return percent(score.share) + between


def _points(sure: Interval | None) -> str:
    return f" ({points(sure.low)} to {points(sure.high)})" if sure else ""


def _changes(report: Report, *, with_examples: bool) -> Iterator[str]:
    rows = [
        (cell(t.suite), *map(count, (t.both_right, t.lost, t.gained, t.both_wrong, t.reworded)))
        for t in tallies(report)
    ]
    if rows:
        yield "### What changed"
        yield _table(TALLY_HEADS, rows)
    if report.examples is None:
        return
    if not with_examples:
        yield "The examples themselves are too long for a comment: see the page."
        return
    for group in groups(report.examples):
        yield _group(group)


def _group(group: Group) -> str:
    shown = group.shown[:_EXAMPLES]
    more = group.count - len(shown)
    blocks = [f"<details><summary>{group.title} ({count(group.count)})</summary>"]
    blocks += [_example(e) for e in shown]
    if more:
        blocks.append(f"{counted(more, 'more is', 'more are')} not shown here.")
    return "\n\n".join([*blocks, "</details>"])


def _example(example: ChangedExample) -> str:
    asked = example.messages[-1].text if example.messages else ""
    lines = [("", "asked", asked), ("", "expected", example.expected.text)]
    if example.reference is not None:
        lines.append(("-", "adapter", _words(example.reference)))
    lines.append(("+", "artifact", _words(example.candidate)))
    body = "\n".join(_block(mark or " ", who, text) for mark, who, text in lines)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", body)), default=0))
    return f"{code(example.suite)}, example {example.number}:\n\n{fence}diff\n{body}\n{fence}"


def _words(said: Said) -> str:
    return f"(no answer: {said.error})" if said.error else said.text


def _block(mark: str, who: str, text: str) -> str:
    """Each line begins with a mark, so that no line of a text is taken for another's."""
    short = text if len(text) <= _WORDS else f"{text[:_WORDS]} ... ({len(text) - _WORDS} more characters)"
    first, *others = plain(short).split("\n")
    return "\n".join([f"{mark} {who}: {first}", *(f"{mark} {' ' * (len(who) + 1)} {line}" for line in others)])


def _speed(report: Report) -> Iterator[str]:
    speed = report.speed
    if speed is None:
        return
    yield "### Speed"
    if speed.concurrency:
        yield f"{counted(speed.requests or 0, 'request', 'requests')} to each, {count(speed.concurrency)} in flight."
    yield _table(("", "Adapter", "Artifact", "Ratio"), rows_of(speed))
    yield rounds_note(speed)


def _rest(report: Report) -> Iterator[str]:
    if report.sizes or report.stages:
        yield "### Size and time"
        parts = [f"{code(s.label)} {size(s.count)}" for s in report.sizes]
        yield ", ".join(parts) + "." if parts else ""
        stages = [f"{code(f'{s.job}: {s.name}')} {seconds(s.seconds)}" for s in report.stages]
        yield ", ".join(stages) + "." if stages else ""
    if report.provenance:
        rows = [(cell(plain(d.label)), cell(plain(d.value))) for d in report.provenance]
        table = _table(("What", "Which"), rows)
        yield f"<details><summary>Provenance</summary>\n\n{table}\n\n</details>"
    if report.earlier:
        yield "### Other evaluations of this artifact"
        yield _table(
            ("Ended", "Scores of the artifact", "Speedup"),
            ((cell(e.finished), cell(_shares(e.suites)), times(e.speedup)) for e in report.earlier),
        )
    if report.missing:
        yield "### What this report does not have"
        yield "\n".join(f"- {code(plain(text))}" for text in report.missing)
    if report.sources:
        yield "Made of " + ", ".join(f"{code(s.name)} (sha256 {code(s.sha256)})" for s in report.sources) + "."


def _shares(suites: Iterable[Suite]) -> str:
    return ", ".join(f"{s.name} {percent(s.artifact)}" for s in suites)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = "|---" + "|---:" * (len(heads) - 1) + "|"
    return "\n".join([f"| {' | '.join(heads)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)])
