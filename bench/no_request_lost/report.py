"""Rows as a Markdown table, as JSON, and the first failures beside what the cluster did then. Knows no cluster."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import between
from bench.between import begin_of
from bench.no_request_lost.judge import Ill, Row
from bench.no_request_lost.records import Mark
from bench.no_request_lost.timeline import Timing

BEGIN = begin_of("bench.no_request_lost")
SHOWN = 10  # failures of a row
AROUND = 3.0  # seconds of the cluster's life shown on both sides of a failure
_HEAD = (
    "event",
    "client",
    "requests",
    "failed",
    "truncated",
    "wrong version",
    "wrong text",
    "cut off by the kill",
    "refused by the dead",
    "client stood still",
    "on the new backend after, s (p50, p90, max)",
    "",
)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1)]


def table(rows: Sequence[Row], wanted: int) -> str:
    lines = [_line(_HEAD), _line(["---"] * len(_HEAD))]
    return "\n".join([*lines, *(_line(_cells(row, wanted)) for row in rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Row, wanted: int) -> list[str]:
    counts = (
        row.requests,
        row.failed,
        row.truncated,
        row.wrong_version,
        row.strange_text,
        row.died_with_server,
        row.refused_by_dead,
        row.client_halted,
    )
    way = f"{row.way} ({row.retried} retried)" if row.way == "openai-retries" else row.way
    moved = spread(row.moves) + (f"; {row.stayed} never" if row.stayed else "")
    return [row.event, way, *map(str, counts), moved, _verdict(row, wanted)]


def _verdict(row: Row, wanted: int) -> str:
    if not row.passes(wanted):
        return "**not met**"
    excused = [what for count, what in ((row.killed, "the kill"), (row.client_halted, "the client's halt")) if count]
    return f"ok but for {' and '.join(excused)}" if excused else "ok"


def spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    return ", ".join(f"{quantile(values, share):.2f}" for share in (0.5, 0.9, 1.0)) + f" of {len(values)}"


def timing_table(found: Sequence[Timing]) -> str:
    told = [t for t in found if t.reported is not None]
    if not told:
        return ""
    heads = ("the route", "the last new connection", "the report")
    lines = [_line(("change: seconds until (p50, p90, max)", *heads)), _line(["---"] * 4)]
    for event in dict.fromkeys(t.event for t in told):
        mine = [t for t in told if t.event == event]
        columns = ([t.route for t in mine], [t.moved for t in mine], [t.reported for t in mine])
        lines.append(_line((event, *(spread([x for x in column if x is not None]) for column in columns))))
    return "\n".join(lines)


def ill_lines(found: Sequence[Ill]) -> str:
    """What a rollback by a failing check took, a line each."""
    lines = [
        f"- first failed request to the route back: {ill.seconds:.2f} s; {ill.failed} requests failed, "
        f"{ill.failed_after} of them began more than 1 s after the route was back"
        for ill in found
    ]
    return "\n".join(["Rollback by a failing check, one line each:", "", *lines]) if lines else ""


def failures(row: Row, marks: Sequence[Mark]) -> str:
    """The first ones, failures before wrong answers, each with what the cluster did around it."""
    lines = [f"{row.event}, {row.way}: {len(row.troubles)} of {row.requests}; the first {SHOWN}:"]
    first = sorted(row.troubles, key=lambda trouble: (not trouble[0].cause, trouble[0].start))[:SHOWN]
    for record, trouble in first:
        where = f"worker {record.worker}, connection {record.conn or '?'}"
        lines.append(f"  {clock(record.start)} to {clock(record.end)} {where}, question {record.question}: {trouble}")
    shown = [r for r, _ in first]
    near = [m for m in marks if any(r.start - AROUND <= m.at <= r.end + AROUND for r in shown)]
    lines += ["  meanwhile:", *(f"    {clock(m.at)} {m.kind}: {m.text}" for m in near)]
    return "\n".join(lines)


def clock(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%H:%M:%S.%f")[:-3]


def as_json(rows: Sequence[Row], found: Sequence[Timing], wanted: int, run: dict[str, Any]) -> str:
    told = [
        {
            **{k: v for k, v in asdict(row).items() if k != "troubles"},
            "passes": row.passes(wanted),
            "troubles": [{"start": r.start, "end": r.end, "worker": r.worker, "why": w} for r, w in row.troubles],
        }
        for row in rows
    ]
    return json.dumps({"run": run, "rows": told, "timings": [asdict(t) for t in found]}, indent=1) + "\n"


def write_between_markers(path: Path, text: str) -> None:
    """Replace what an earlier run wrote."""
    between.write(path, BEGIN, text)
