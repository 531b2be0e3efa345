"""The scores that evaluations have kept beside an artifact, as a table in Markdown.

Must not know how anything is scored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from controller.job.attestation import Descriptor, Part, Statement, parse_statement
from controller.job.markup import cell
from controller.job.provenance import read_text
from controller.job.strict_json import MAX_BYTES

_HEAD = """| measured | suite | samples | adapter | artifact | same answer |
|---|---|---|---|---|---|
"""


class _Suite(Part):
    name: str
    samples: int
    reference: float | None = None
    candidate: float
    agreement: float | None = None


class _Predicate(Part):
    suites: tuple[_Suite, ...]
    finished_on: str


class _Evaluation(Statement[Descriptor, _Predicate]):
    """As much of `statement.py`'s as is shown."""


def scores_of(artifact: Path) -> str:
    """The table, oldest first; a sentence where nothing was measured. Raises OSError where no artifact is."""
    digest = hashlib.sha256(read_text(artifact)).hexdigest()
    rows = sorted(row for path in _beside(artifact) for row in _rows(path, digest))
    return _HEAD + "".join(rows) if rows else "Nothing was measured of it yet.\n"


def _beside(artifact: Path) -> list[Path]:
    artifact = artifact.resolve()
    return sorted(artifact.with_name(f"{artifact.name}.evaluations").glob("[!.]*.json"))


def _rows(path: Path, digest: str) -> Iterator[str]:
    """Of one evaluation; none, if it is of another artifact or cannot be read as one."""
    with path.open("rb") as f:
        text = f.read(MAX_BYTES)
    try:
        said = parse_statement(_Evaluation, text, path.name)
    except ValueError:
        return
    if any((s.digest or {}).get("sha256") == digest for s in said.subject):
        for suite in said.predicate.suites:
            scores = " | ".join(map(shown_share, (suite.reference, suite.candidate, suite.agreement)))
            yield f"| {cell(said.predicate.finished_on)} | {cell(suite.name)} | {suite.samples} | {scores} |\n"


def shown_share(share: float | None) -> str:
    """Of a candidate that was measured alone there is nothing to compare."""
    return "not asked" if share is None else f"{share:.4f}"
