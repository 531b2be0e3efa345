"""What clients saw, and what was reported meanwhile: the two things that `judge` compares. Plain data, one clock.

Times are seconds of the machine's wall clock, which pods and the harness share.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

KEPT = ("openai", "openai-retries", "keepalive", "stream")
"""Ways whose connections outlive a request."""


@dataclass(frozen=True)
class Record:
    """One request; see clients/ways.py for who writes it."""

    way: str
    worker: int
    question: str
    start: float
    end: float
    cause: str = ""
    truncated: bool = False
    status: int = 0
    conn: str = ""
    closed: bool = False
    version: str = ""
    backend: str = ""
    root: str = ""
    model: str = ""
    text: str = ""
    first: float = 0.0
    retries: int = 0


@dataclass(frozen=True)
class State:
    """Who answers for the release, as its status says it."""

    kind: str
    id: str
    version: str

    def __str__(self) -> str:
        return f"{self.kind} {self.version} {self.hex[:12]}"

    @property
    def hex(self) -> str:
        return self.id.removeprefix("sha256:")


@dataclass(frozen=True)
class Mark:
    """Something that happened. `state` goes with kind REPORTED alone."""

    at: float
    kind: str
    text: str
    state: State | None = None


BEGAN = "began"  # a turn of an event: text is the row's name; the cluster is told in this moment
REPORTED = "reported"  # the release's status says who serves
ROUTE = "route"  # the route's Service or the pods behind it changed
KILLING = "kill"  # a server's process gets SIGKILL from now on; each is followed by the next two
KILLED = "killed"  # what it was working on ends with it
LEFT = "left"  # its pod is behind the route no more
NOTE = "note"  # all else that a reader of a failure wants to see: events, steps, restarts


@dataclass(frozen=True)
class Question:
    """What may come back for it, by version; more than one text where rounding can decide."""

    id: str
    texts: dict[str, frozenset[str]] = field(default_factory=dict)

    def version_of(self, text: str) -> str:
        """Empty: no version says that."""
        return next((version for version, known in self.texts.items() if text in known), "")


def records_from(way: str, lines: Iterable[str]) -> list[Record]:
    """In the order of their starts. A last line that was cut while it was fetched is left out."""
    known = {f.name for f in fields(Record)}
    found = []
    for line in lines:
        try:
            row: dict[str, Any] = json.loads(line)
        except json.JSONDecodeError:
            continue
        found.append(Record(way=way, **{k: v for k, v in row.items() if k in known and v is not None}))
    return sorted(found, key=lambda r: r.start)
