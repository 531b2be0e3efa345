"""What a recorded life leaves beside Prometheus's data, so that pictures of it need no more than the directory."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

_NAME = "life.json"


@dataclass(frozen=True)
class Kept:
    """From when to when (Unix time), seconds between two scrapes, and the dashboards' variables."""

    start: float
    end: float
    scrape: float
    variables: dict[str, str]

    def write(self, directory: Path) -> None:
        (directory / _NAME).write_text(json.dumps(asdict(self), indent=1) + "\n")


def kept(directory: Path) -> Kept:
    """Raises FileNotFoundError with what to do where nobody has left a note."""
    note = directory / _NAME
    if not note.is_file():
        raise FileNotFoundError(f"there is no {note}: for other data start a Prometheus on it and give --prometheus")
    return Kept(**json.loads(note.read_text()))
