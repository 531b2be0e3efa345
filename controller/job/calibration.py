"""Calibration data: JSONL with one {"messages": [...], "expected": "..."} or {"text": "..."} a line.

Read and judged before anything large is loaded. Must not know how it is used.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.errors import PermanentError
from controller.job.reasons import Reason

MAX_BYTES = 1 << 30
MIN_SAMPLES = 8


@dataclass(frozen=True)
class Sample:
    """Either a conversation or a text."""

    messages: tuple[dict[str, str], ...] = ()
    text: str = ""


def read_samples(path: Path, wanted: int) -> list[Sample]:
    """The first `wanted` samples. Raises PermanentError if one is malformed or empty, or there are too few."""
    samples: list[Sample] = []
    with path.open("rb") as f:
        for number, line in enumerate(f, 1):
            if len(samples) == wanted:
                break
            if line.strip():
                samples.append(_sample(line, number))
    if len(samples) < min(wanted, MIN_SAMPLES):
        raise _invalid(f"{len(samples)} samples, at least {min(wanted, MIN_SAMPLES)} are needed")
    return samples


def _sample(line: bytes, number: int) -> Sample:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as e:
        raise _invalid(f"line {number} is not JSON: {e}") from e
    if isinstance(row, dict) and isinstance(row.get("text"), str) and row["text"].strip():
        return Sample(text=row["text"])
    messages = row.get("messages") if isinstance(row, dict) else None
    if isinstance(messages, list) and messages and all(_is_message(m) for m in messages):
        answer = row.get("expected")
        more = [{"role": "assistant", "content": answer}] if isinstance(answer, str) and answer else []
        return Sample(messages=tuple([{"role": m["role"], "content": m["content"]} for m in messages] + more))
    raise _invalid(f"line {number} has neither messages nor a text")


def _is_message(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("role"), str)
        and isinstance(value.get("content"), str)
        and bool(value["content"].strip())
    )


def _invalid(what: str) -> PermanentError:
    return PermanentError(f"calibration data: {what}", reason=Reason.INVALID_CALIBRATION)
