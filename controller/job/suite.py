"""A suite of held-out examples, and what counts as a right answer.

Must not know where the answers come from.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.errors import PermanentError
from controller.job.contract import Scorer
from controller.job.reasons import Reason
from controller.job.strict_json import can_be_written

MAX_BYTES = 256 << 20


@dataclass(frozen=True)
class Example:
    """One conversation and the answer that is right."""

    messages: tuple[dict[str, Any], ...]
    expected: str


@dataclass(frozen=True)
class Examples:
    """What a suite's file holds; `digest` is the sha256 of the very bytes that were read."""

    examples: tuple[Example, ...]
    digest: str


def read_suite(path: Path, name: str) -> Examples:
    """All examples of the JSONL file. Raises PermanentError if one is malformed or there is none."""
    examples: list[Example] = []
    digest = hashlib.sha256()
    with path.open("rb") as f:
        for number, line in enumerate(f, 1):
            digest.update(line)
            if line.strip():
                examples.append(_example(line, f"suite {name}, line {number}"))
    if not examples:
        raise PermanentError(f"suite {name} is empty: nothing would be proven", reason=Reason.EMPTY_SUITE)
    return Examples(tuple(examples), f"sha256:{digest.hexdigest()}")


def _example(line: bytes, where: str) -> Example:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as e:
        raise PermanentError(f"{where} is not JSON: {e}", reason=Reason.INVALID_SUITE) from e
    messages = row.get("messages") if isinstance(row, dict) else None
    if not (isinstance(messages, list) and messages and all(isinstance(m, dict) for m in messages)):
        raise PermanentError(f"{where} has no messages", reason=Reason.INVALID_SUITE)
    expected = row.get("expected")
    if not isinstance(expected, str) or not expected.strip():
        # An empty text is contained in every answer.
        raise PermanentError(f"{where} has no expected answer", reason=Reason.INVALID_SUITE)
    try:
        can_be_written([messages, expected])
    except ValueError as e:
        raise PermanentError(f"{where} cannot be sent: {e}", reason=Reason.INVALID_SUITE) from e
    return Example(tuple(messages), expected)


def is_right(scorer: Scorer, answer: str, expected: str) -> bool:
    """ExactMatch ignores white space around the answer; Contains looks for the expected text in it."""
    if scorer is Scorer.EXACT_MATCH:
        return answer.strip() == expected.strip()
    return expected.strip() in answer
