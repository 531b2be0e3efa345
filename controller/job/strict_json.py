"""Reads a small JSON object that somebody else wrote: bounded, no duplicate names, no NaN, nothing but characters.

Must not know what the document means.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

MAX_BYTES = 16 << 20
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def read_object(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """The JSON object in the file. Raises ValueError that says what is wrong with it, or OSError."""
    with path.open("rb") as f:
        text = f.read(max_bytes + 1)
    if len(text) > max_bytes:
        raise ValueError(f"{path.name} is longer than {max_bytes} bytes")
    return parse_object(text, path.name)


def parse_object(text: bytes, what: str) -> dict[str, Any]:
    """The JSON object in `text`; `what` names it in the error."""
    try:
        document = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
        if _SURROGATE.search(text):
            json.dumps(document, ensure_ascii=False).encode()
    except RecursionError as e:
        raise ValueError(f"{what} is not valid JSON: nested too deeply") from e
    except ValueError as e:
        raise ValueError(f"{what} is not valid JSON: {e}") from e
    if not isinstance(document, dict):
        raise ValueError(f"{what} is not a JSON object")
    return document


def can_be_written(document: Any) -> None:
    """Raises ValueError for what Python reads as JSON and nobody can send on: half of a character, NaN, infinity."""
    json.dumps(document, ensure_ascii=False, allow_nan=False).encode()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) == len(pairs):
        return result
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise ValueError(f"the name {name!r} appears twice")
        seen.add(name)
    return result


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")
