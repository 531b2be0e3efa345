"""The evidence of one event: what was reported, what clients saw, which text is of which version. On disk as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from bench.no_request_lost.judge import Ill, Row, ill, last_stale, rows_of
from bench.no_request_lost.records import Mark, Question, Record, State
from bench.no_request_lost.timeline import Timeline, Timing, Turn


@dataclass(frozen=True)
class Raw:
    event: str
    model: str
    marks: tuple[Mark, ...]
    records: tuple[Record, ...]
    questions: dict[str, Question]
    trouble: str = ""
    """Why the event could not be made to happen as it should; empty: it was."""

    @cached_property
    def timeline(self) -> Timeline:
        return Timeline(self.marks)

    def rows(self) -> list[Row]:
        return rows_of(self.records, self.questions, self.model, self.timeline)

    def ills(self) -> list[Ill]:
        """Of turns in which an engine was made to fail."""
        found = [ill(self.records, turn) for turn in self.timeline.turns()]
        return [f for f in found if f is not None]

    def timings(self) -> list[Timing]:
        return [self._timing(turn) for turn in self.timeline.turns()]

    def _timing(self, turn: Turn) -> Timing:
        moved = last_stale(self.records, self.questions, turn, self.timeline)
        times = (turn.route, moved, turn.reported.at if turn.reported else None)
        return Timing(turn.event, *(None if at is None else at - turn.began for at in times))


def write_raw(directory: Path, raw: Raw) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    told = {
        "event": raw.event,
        "model": raw.model,
        "trouble": raw.trouble,
        "marks": [asdict(m) for m in raw.marks],
        "questions": {
            q.id: {version: sorted(texts) for version, texts in q.texts.items()} for q in raw.questions.values()
        },
        "records": [asdict(r) for r in raw.records],
    }
    (directory / f"{raw.event}.raw.json").write_text(json.dumps(told) + "\n")


def read_raw(directory: Path) -> list[Raw]:
    """In the order in which they happened."""
    found = [_read(path) for path in directory.glob("*.raw.json")]
    return sorted(found, key=lambda raw: raw.marks[0].at if raw.marks else 0.0)


def _read(path: Path) -> Raw:
    told = json.loads(path.read_text())
    marks = [Mark(m["at"], m["kind"], m["text"], State(**m["state"]) if m["state"] else None) for m in told["marks"]]
    questions = {
        identifier: Question(identifier, {version: frozenset(texts) for version, texts in known.items()})
        for identifier, known in told["questions"].items()
    }
    records = tuple(Record(**r) for r in told["records"])
    return Raw(told["event"], told["model"], tuple(marks), records, questions, told["trouble"])
