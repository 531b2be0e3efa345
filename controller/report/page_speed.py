"""The page's section on throughput and latency. Must not know where the numbers come from."""

from __future__ import annotations

from collections.abc import Sequence

from controller.job.evaluation import Curves, Turn
from controller.report.blocks import table
from controller.report.charts import ADAPTER, ARTIFACT, WIDTH, Axis, Frame, Line, lines
from controller.report.elements import Element, el
from controller.report.facts import Report, Side, Speed
from controller.report.numbers import count, counted, nice_top, rate, seconds, times

_TOP, _BOTTOM, _LEFT = 44, 196, 46


def section(report: Report) -> Element | None:
    speed = report.speed
    if speed is None:
        return None
    return el(
        "section",
        el("h2", "Speed"),
        el("p", _load(speed)) if speed.concurrency else None,
        table("Under the same load", *_table(speed)),
        _charts(speed.curves) if speed.curves else None,
        el("p", note, class_="note") if (note := rounds_note(speed)) else None,
    )


def _load(speed: Speed) -> str:
    taking_turns = ", in rounds that take turns" if speed.adapter else ""
    return (
        f"{counted(speed.requests or 0, 'request', 'requests')} to each, {count(speed.concurrency or 0)} in flight"
        f"{taking_turns}. Times are of whole answers: the first token was not timed."
    )


def rounds_note(speed: Speed) -> str:
    """How much the speedup of single rounds differs."""
    ratios = [
        rate_of(r.candidate) / before
        for r in (speed.curves.rounds if speed.curves else ())
        if r.reference is not None and (before := rate_of(r.reference)) > 0
    ]
    if speed.speedup is None or len(ratios) < 2:
        return ""
    return (
        f"Speedup of the {len(ratios)} rounds by themselves: {min(ratios):.2f} to {max(ratios):.2f}. That is how much "
        "they differ, and no confidence interval."
    )


def rate_of(turn: Turn) -> float:
    return turn.output_tokens / turn.seconds if turn.seconds > 0 else 0.0


def rows_of(speed: Speed) -> list[tuple[str, str, str, str]]:
    """Name, adapter, artifact, artifact over adapter; what nobody measured is left out."""
    adapter = speed.adapter or Side()
    found = []
    for name, before, after, show in (
        ("Output tokens a second", adapter.tokens_per_second, speed.artifact.tokens_per_second, rate),
        ("Requests a second", adapter.requests_per_second, speed.artifact.requests_per_second, rate),
        ("Mean latency", adapter.mean_seconds, speed.artifact.mean_seconds, seconds),
        ("Latency, 95 % within", adapter.p95_seconds, speed.artifact.p95_seconds, seconds),
    ):
        if after is not None:
            ratio = times(after / before) if before else ""
            found.append((name, show(before) if before is not None else "not asked", show(after), ratio))
    if speed.artifact.errors is not None:
        errors = count(adapter.errors) if adapter.errors is not None else "not asked"
        found.append(("No answer", errors, count(speed.artifact.errors), ""))
    return found


def _table(speed: Speed) -> tuple[Sequence[str], list[Sequence[str]]]:
    rows = rows_of(speed)
    if speed.adapter is None:
        return ["", "Artifact"], [(name, after) for name, _, after, _ in rows]
    return ["", "Adapter", "Artifact", "Ratio"], list(rows)


def _charts(curves: Curves) -> Element:
    drawn = [c for c in (_latency(curves), _throughput(curves)) if c is not None]
    return el("div", drawn, class_="charts")


def _latency(curves: Curves) -> Element | None:
    """Share of the requests that were answered within a time."""
    found = [
        Line(who, tuple((took, percent / 100) for percent, took in enumerate(levels)))
        for who, levels in (
            (ADAPTER, curves.latency_quantiles.reference),
            (ARTIFACT, curves.latency_quantiles.candidate),
        )
        if levels
    ]
    if not found:
        return None
    top = nice_top(max(line.points[-1][0] for line in found))
    frame = Frame(
        x=Axis(0, top, _LEFT, WIDTH - 8),
        y=Axis(0, 1, _BOTTOM, _TOP),
        x_name="time to the whole answer",
        y_name="share of requests",
        x_ticks=((0, "0"), (top / 2, seconds(top / 2)), (top, seconds(top))),
        y_ticks=tuple((v, f"{v * 100:.0f} %") for v in (0, 0.5, 1)),
    )
    title = "Requests answered within a time"
    said = "; ".join(
        f"{line.who}: half within {seconds(_at(line, 0.5))}, 95 % within {seconds(_at(line, 0.95))}, all within"
        f" {seconds(_at(line, 1))}"
        for line in found
    )
    return el("figure", el("figcaption", title), lines("latency", title, said, frame, found))


def _at(line: Line, level: float) -> float:
    return min(line.points, key=lambda point: abs(point[1] - level))[0]


def _throughput(curves: Curves) -> Element | None:
    turns = {
        ADAPTER: [r.reference for r in curves.rounds if r.reference is not None],
        ARTIFACT: [r.candidate for r in curves.rounds],
    }
    found = [
        Line(who, tuple((number, rate_of(t)) for number, t in enumerate(its, 1))) for who, its in turns.items() if its
    ]
    most = max((len(line.points) for line in found), default=0)
    if most < 2:
        return None
    top = nice_top(max(y for line in found for _, y in line.points))
    frame = Frame(
        x=Axis(0.5, most + 0.5, _LEFT, WIDTH - 8),
        y=Axis(0, top, _BOTTOM, _TOP),
        x_name="round",
        y_name="output tokens a second",
        x_ticks=tuple((n, str(n)) for n in range(1, most + 1, -(-most // 10))),
        y_ticks=tuple((v, rate(v) if v else "0") for v in (0, top / 2, top)),
    )
    title = "Throughput of each round"
    said = "; ".join(f"{line.who}: {', '.join(rate(y) for _, y in line.points)} tokens a second" for line in found)
    return el("figure", el("figcaption", title), lines("throughput", title, said, frame, found, dots=True))
