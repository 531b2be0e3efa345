"""The few numbers that a report begins with. Must not know how they are shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from controller.report.facts import Report, Side
from controller.report.numbers import percent, points, seconds, size, times
from controller.report.scores import Scored, scored, worst
from controller.report.visible import plain


@dataclass(frozen=True)
class Figure:
    label: str
    value: str
    note: str


def figures(report: Report) -> Iterator[Figure]:
    found = worst([scored(s) for s in report.suites])
    if found is not None:
        yield _score(found, only=len(report.suites) == 1)
    yield from _speed(report)
    sizes = {s.label: s.count for s in report.sizes}
    if artifact := sizes.get("Artifact"):
        base = sizes.get("Base")
        yield Figure("Size", size(artifact), f"{percent(artifact / base, 0)} of the base" if base else "")


def _score(found: Scored, *, only: bool) -> Figure:
    name = f"suite {plain(found.suite.name)}"
    if found.difference is None:
        interval = found.artifact.interval
        sure = f", 95 %: {percent(interval.low)} to {percent(interval.high)}" if interval else ""
        return Figure("Score" if only else "Lowest score", percent(found.artifact.share), name + sure)
    sure = f", 95 %: {points(found.sure.low)} to {points(found.sure.high)}" if found.sure else ""
    label = "Score against the adapter" if only else "Largest drop of a score"
    if not only and found.difference >= 0:
        label = "Smallest gain of a score"
    return Figure(label, f"{points(found.difference)} points", name + sure)


def _speed(report: Report) -> Iterator[Figure]:
    speed = report.speed
    if speed is None:
        return
    if speed.speedup is not None:
        load = f", {speed.concurrency} in flight" if speed.concurrency else ""
        yield Figure("Speedup", times(speed.speedup), f"output tokens a second{load}")
    adapter = speed.adapter or Side()
    if speed.artifact.p95_seconds is not None:
        yield _latency("Latency, 95 % within", adapter.p95_seconds, speed.artifact.p95_seconds)
    elif speed.artifact.mean_seconds is not None:
        yield _latency("Mean latency", adapter.mean_seconds, speed.artifact.mean_seconds)


def _latency(name: str, before: float | None, after: float) -> Figure:
    return Figure(name, seconds(after), f"adapter: {seconds(before)}" if before is not None else "")
