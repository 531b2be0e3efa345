"""Calibration data: JSONL with one {"messages": [...], "expected": "..."} or {"text": "..."} a line.

Read, judged and cut into tokens before a model is loaded. Must not know how it is used.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.errors import PermanentError
from controller.job.findings import some
from controller.job.reasons import Reason
from controller.job.strict_json import can_be_written

MAX_BYTES = 1 << 30
MIN_SAMPLES = 8
# Statistics of a handful of tokens say nothing about a model's channels; a few hundred already keep the worst away.
MIN_TOKENS = 8
MIN_TOKENS_IN_ALL = 256

Row = dict[str, list[int]]


@dataclass(frozen=True)
class Sample:
    """Either a conversation or a text; `line` is where it stands in its file."""

    line: int
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


def tokenized(tokenizer: Any, samples: Sequence[Sample], length: int) -> list[Row]:
    """What the model will see of the samples: at most `length` tokens of each.

    `tokenizer` is transformers'. Raises PermanentError if messages meet no chat template, or there is too little.
    """
    if any(s.messages for s in samples) and not getattr(tokenizer, "chat_template", None):
        raise _invalid("there are messages, but the model has no chat template: use texts")
    rows = [_row(tokenizer, sample, length) for sample in samples]
    least = min(MIN_TOKENS, length)
    if short := [f"line {s.line}" for s, r in zip(samples, rows, strict=True) if len(r["input_ids"]) < least]:
        raise _invalid(f"{some(short)} have less than {least} tokens: use what clients really send")
    total = sum(len(row["input_ids"]) for row in rows)
    if total < MIN_TOKENS_IN_ALL:
        raise _invalid(
            f"{total} tokens in {len(rows)} samples of at most {length}, at least {MIN_TOKENS_IN_ALL} are needed"
        )
    return rows


def _row(tokenizer: Any, sample: Sample, length: int) -> Row:
    text = sample.text
    if sample.messages:
        try:
            text = str(tokenizer.apply_chat_template(list(sample.messages), tokenize=False))
        except Exception as e:  # templates are programs and raise what they like: a role they do not know, an order
            raise _invalid(f"line {sample.line} does not fit the model's chat template: {e}") from e
    try:  # a template writes the special tokens itself
        encoded = tokenizer(text, add_special_tokens=not sample.messages, truncation=True, max_length=length)
    except Exception as e:  # tokenizers raise what they like, too
        raise _invalid(f"line {sample.line} cannot be cut into tokens: {e}") from e
    return {key: list(encoded[key]) for key in ("input_ids", "attention_mask")}


def _sample(line: bytes, number: int) -> Sample:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as e:
        raise _invalid(f"line {number} is not JSON: {e}") from e
    sample = _text_or_conversation(row, number)
    try:
        can_be_written([sample.text, *sample.messages])
    except ValueError as e:
        raise _invalid(f"line {number} is no text: {e}") from e
    return sample


def _text_or_conversation(row: Any, number: int) -> Sample:
    if isinstance(row, dict) and isinstance(row.get("text"), str) and row["text"].strip():
        return Sample(number, text=row["text"])
    messages = row.get("messages") if isinstance(row, dict) else None
    if isinstance(messages, list) and messages and all(_is_message(m) for m in messages):
        answer = row.get("expected")
        more = [{"role": "assistant", "content": answer}] if isinstance(answer, str) and answer else []
        return Sample(number, tuple([{"role": m["role"], "content": m["content"]} for m in messages] + more))
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
