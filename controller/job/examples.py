"""The file of examples beside an evaluation's statement: those that changed, one JSON object a line.

Its name has its own digest in it, so that two tries never write the same file, and the statement names the one that is
good. Must not know how an example is scored or shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from controller.job.contract import EvaluatedArtifact
from controller.job.evaluation import EXAMPLES_SUFFIX, MAX_EXAMPLES_BYTES, Change, ChangedExample, ExamplesHeader
from controller.job.outcomes import Scored


def examples_name(inputs: str, sha256: str) -> str:
    return f"{inputs}.{sha256[:16]}{EXAMPLES_SUFFIX}"


def of_other_tries(statement: Path, named: str | None) -> list[Path]:
    """Files of examples of the same inputs that `statement` does not name: a try was killed, or was not the first."""
    return [p for p in statement.parent.glob(f"{statement.stem}.*{EXAMPLES_SUFFIX}") if p.name != named]


def as_lines(artifact: EvaluatedArtifact, scored: Sequence[Scored]) -> str:
    """The file's text, of bounded size: what matters most comes first, whatever suite it is of."""
    header = ExamplesHeader(
        artifact=artifact.id, inputs=artifact.inputs, counts=tuple(count for s in scored for count in s.counts)
    )
    order = list(Change)
    changed = sorted((e for s in scored for e in s.changed), key=lambda e: order.index(e.change))
    return "".join(_bounded([header.model_dump_json(by_alias=True), *map(_line, changed)]))


def _line(example: ChangedExample) -> str:
    return example.model_dump_json(by_alias=True, exclude_none=True)


def _bounded(lines: Iterable[str]) -> Iterable[str]:
    room = MAX_EXAMPLES_BYTES
    for line in lines:
        room -= len(line.encode()) + 1
        if room >= 0:
            yield f"{line}\n"
