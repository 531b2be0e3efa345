"""Was a request lost, cut off, or answered by the wrong version? Pure: records and marks in, rows out.

A state is *reported* from the moment the release's status says that it serves. A request may be answered by what was
reported when it began, by anything reported before it ended, and by what is reported next, from the moment that the
cluster was told to change: the flip itself comes before its report. It may not be answered by what was replaced before
it began.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.no_request_lost.records import KEPT, Question, Record
from bench.no_request_lost.timeline import Timeline, Turn

DIES_WITH_IT = 2.0  # seconds after SIGKILL in which the kernel ends a big process and its connections
NEWS = 1.0  # seconds until the node's rules follow what is behind a Service; kube-proxy writes them once a second
HALT = 0.5  # seconds from a client's look at a kept connection to its request; longer: the client had stood still
LONGEST_MOVE = 5.0  # seconds until a kept connection that is not in use has left the old backend


@dataclass(frozen=True)
class Verdict:
    """Of one request; all empty: it was answered, whole and right."""

    failed: str = ""
    truncated: str = ""
    wrong_version: str = ""
    strange_text: str = ""
    died_with_server: str = ""
    refused_by_dead: str = ""
    client_halted: str = ""

    @property
    def trouble(self) -> str:
        """What the row must not have."""
        return self.failed or self.truncated or self.wrong_version or self.strange_text


@dataclass
class Row:
    """One client in one event."""

    event: str
    way: str
    requests: int = 0
    failed: int = 0
    truncated: int = 0
    wrong_version: int = 0
    strange_text: int = 0
    died_with_server: int = 0
    refused_by_dead: int = 0
    client_halted: int = 0
    retried: int = 0
    moves: list[float] = field(default_factory=list)
    stayed: int = 0
    """Moves that had not ended when the turn did."""
    troubles: list[tuple[Record, str]] = field(default_factory=list)

    @property
    def killed(self) -> int:
        """Lost to a kill, and not held against the row."""
        return self.died_with_server + self.refused_by_dead

    def passes(self, wanted: int) -> bool:
        lost = self.failed + self.truncated + self.wrong_version + self.strange_text + self.stayed
        return lost == 0 and self.requests >= wanted and not any(move > LONGEST_MOVE for move in self.moves)


def judge(record: Record, question: Question, model: str, timeline: Timeline) -> Verdict:
    if record.cause:
        return _of_failure(record, timeline)
    states = timeline.allowed(record.start, record.end)
    if record.model != model:
        return Verdict(failed=f"the answer says model {record.model!r}")
    version = question.version_of(record.text)
    if not version:
        return Verdict(strange_text=f"no version says {record.text[:80]!r}")
    versions = {s.version for s in states}
    for said, by in ((version, "text"), (record.version, "header")):
        if said and said not in versions:
            return Verdict(wrong_version=f"{said} by its {by}, when {' or '.join(sorted(versions))} was to answer")
    if record.version and record.version != version:
        return Verdict(wrong_version=f"the header says {record.version}, the text is of {version}")
    return Verdict()


def _of_failure(record: Record, timeline: Timeline) -> Verdict:
    """What a process that is killed was working on ends with it; and until Kubernetes has seen that it is dead, new
    connections are sent to it and refused. Nobody but a client that tries again can save those."""
    broke = record.truncated or record.cause.startswith("died")
    refused = record.cause.startswith("connect") and "refused" in record.cause.lower()
    for kill in timeline.kills:
        if broke and kill.ordered <= record.end <= kill.done + DIES_WITH_IT:
            return Verdict(died_with_server=record.cause)
        if refused and kill.ordered <= record.end and record.start <= kill.left + NEWS:  # with all its tries
            return Verdict(refused_by_dead=record.cause)
    if not record.status and halted(record.cause):
        return Verdict(client_halted=record.cause)
    return Verdict(truncated=record.cause) if record.truncated else Verdict(failed=record.cause)


def halted(cause: str) -> bool:
    """The client saw its connection open, stood still, and wrote: vLLM had closed the connection meanwhile, as it does
    5 s after an answer. See clients/ways.py for the words."""
    late = re.search(r"; written ([0-9.]+) s after a look at the connection$", cause)
    return late is not None and float(late[1]) >= HALT


def rows_of(records: Sequence[Record], questions: Mapping[str, Question], model: str, timeline: Timeline) -> list[Row]:
    """A row for each client in each event, in the order in which they come."""
    rows: dict[tuple[str, str], Row] = {}
    for record in records:
        event = timeline.row_of(record.start)
        row = rows.setdefault((event, record.way), Row(event, record.way))
        _count(row, record, judge(record, questions[record.question], model, timeline))
    for row in rows.values():
        if row.way in KEPT:
            mine = [r for r in records if r.way == row.way]
            for turn in timeline.turns():
                if turn.event == row.event:
                    _count_moves(row, mine, questions, turn, timeline)
    events = [turn.event for turn in timeline.turns()]
    return sorted(rows.values(), key=lambda row: events.index(row.event) if row.event in events else -1)


def _count(row: Row, record: Record, verdict: Verdict) -> None:
    row.requests += 1
    row.retried += record.retries > 0
    for name, why in vars(verdict).items():  # a Row counts each of its fields
        setattr(row, name, getattr(row, name) + bool(why))
    if verdict.trouble:
        row.troubles.append((record, verdict.trouble))


def _count_moves(
    row: Row, records: Sequence[Record], questions: Mapping[str, Question], turn: Turn, timeline: Timeline
) -> None:
    """Seconds from the switch to the begin of each worker's last request that the old backend answered; 0: it answered
    none that began after the switch. What runs already may end where it began. Who was not there does not move."""
    switched, old = turn.switched, turn.replaced(timeline)
    if switched is None or not old:
        return
    workers: dict[int, list[Record]] = {}
    for record in records:
        if record.cause or record.start >= turn.ends:
            continue
        if who_answered(record, questions[record.question], timeline).keys() & old.keys():
            workers.setdefault(record.worker, []).append(record)
    for mine in workers.values():
        stale = [is_stale(who_answered(r, questions[r.question], timeline), old) for r in mine]
        later = [(r, was) for r, was in zip(mine, stale, strict=True) if r.start > switched]
        was_there = stale[len(mine) - len(later) - 1] if len(later) < len(mine) else True
        if later and was_there:
            row.moves.append(max((r.start for r, was in later if was), default=switched) - switched)
            row.stayed += later[-1][1] and row.moves[-1] > LONGEST_MOVE


def who_answered(record: Record, question: Question, timeline: Timeline) -> dict[str, str]:
    """Version and kind of the backend that an answer is from, as far as it shows: by the text, and by the header or
    else the root."""
    version, kind = question.version_of(record.text), ""
    if record.backend:
        digest = record.backend.rpartition("-")[2]  # a header says the kind before it
        kind = next((s.kind for s in timeline.states() if s.hex.startswith(digest)), "")
    elif record.root:
        kind = "Artifact" if "/artifacts/" in record.root else "Adapter"
    return {name: value for name, value in (("version", version), ("kind", kind)) if value}


def is_stale(answered: Mapping[str, str], old: Mapping[str, str]) -> bool:
    return any(answered.get(name) == value for name, value in old.items())


def last_stale(
    records: Sequence[Record], questions: Mapping[str, Question], turn: Turn, timeline: Timeline
) -> float | None:
    """When the last request on a connection of its own began that the old backend answered: from then on the traffic
    had moved. The turn's begin, if none was; None, if nothing moved or answers do not show who they are from."""
    old = turn.replaced(timeline)
    mine = [r for r in records if r.way == "new" and turn.began <= r.start < turn.ends and not r.cause]
    sides = [(r.start, who_answered(r, questions[r.question], timeline)) for r in mine]
    known = [(start, side) for start, side in sides if side.keys() & old.keys()]
    if not known:
        return None
    return max((start for start, side in known if is_stale(side, old)), default=turn.began)


@dataclass(frozen=True)
class Ill:
    """A turn in which a backend began to fail: what that cost, until the route was pointed elsewhere by itself."""

    seconds: float
    """From the first request that failed (its begin) to the route."""
    failed: int
    failed_after: int
    """Began more than a second after the route was changed, when all new connections go elsewhere."""


def ill(records: Sequence[Record], turn: Turn) -> Ill | None:
    """None: nothing failed, or the route was never changed."""
    failed = [r.start for r in records if turn.began <= r.start < turn.ends and r.cause]
    if not failed or turn.route is None:
        return None
    return Ill(turn.route - min(failed), len(failed), sum(start > turn.route + 1 for start in failed))
