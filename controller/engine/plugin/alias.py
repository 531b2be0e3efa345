"""The model that a request asks for: where it stands in the bytes of a JSON body, and another one in its place.

Reads as vLLM does (`json.loads` of the body: the last of equal keys wins), changes that one value, keeps every other
byte. A body that vLLM would refuse is left alone, so that its error names the same position.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]

_skip_white = re.compile(r"[ \t\n\r]*").match
_scan_value = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Asked:
    """The value of "model", and which bytes of the body it is, quotes included."""

    model: str
    start: int
    end: int


def asked_model(body: bytes) -> Asked | None:
    """None: no JSON object in UTF-8 that names a model."""
    if body[:1] not in b"{ \t\r\n\xef" or b"\0" in body[:4]:
        return None
    try:
        offset = len(_BOM) if body.startswith(_BOM) else 0
        text = body[offset:].decode("utf-8", "surrogatepass") if offset else body.decode("utf-8", "surrogatepass")
        found = _member(text, "model")
    except (ValueError, IndexError, StopIteration, RecursionError):
        return None
    if found is None:
        return None
    model, start, end = found
    if not isinstance(model, str):
        return None
    if not text.isascii():
        start, end = _bytes_before(text, start), _bytes_before(text, end)
    return Asked(model, offset + start, offset + end)


def with_model(body: bytes, asked: Asked, model: str) -> bytes:
    return b"".join((memoryview(body)[: asked.start], json.dumps(model).encode(), memoryview(body)[asked.end :]))


def _bytes_before(text: str, position: int) -> int:
    return len(text[:position].encode("utf-8", "surrogatepass"))


def _member(text: str, wanted: str) -> tuple[object, int, int] | None:
    """Value and span of the last member of that name of the object that `text` is. Raises what json's scanner does,
    and ValueError or IndexError, for anything that `json.loads` refuses."""
    at = _after_white(text, 0)
    if text[at] != "{":
        return None
    found = None
    at = _after_white(text, at + 1)
    if text[at] == "}":
        at += 1
    else:
        more = True
        while more:
            _expect(text, at, '"')
            key, at = scanstring(text, at + 1, True)
            at = _after_white(text, at)
            _expect(text, at, ":")
            start = _after_white(text, at + 1)
            value, end = _scan_value(text, start)
            if key == wanted:
                found = value, start, end
            at = _after_white(text, end)
            more = text[at] == ","
            if not more:
                _expect(text, at, "}")
            at = _after_white(text, at + 1) if more else at + 1
    if _after_white(text, at) != len(text):
        raise ValueError("more than one value")
    return found


def _after_white(text: str, at: int) -> int:
    return _skip_white(text, at).end()  # type: ignore[union-attr]  # it matches anywhere, if only nothing


def _expect(text: str, at: int, character: str) -> None:
    if text[at] != character:
        raise ValueError(f"no {character} at {at}")
