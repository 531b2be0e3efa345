"""Reads and writes the header of a safetensors file, and trusts none of it.

Own reader, because `check` and `import` run without torch and safetensors, and because an adapter comes
from somebody else: every byte of the data must belong to exactly one tensor of the right size.
Format: 8 bytes little-endian header length, JSON header, data. Must not know what the tensors mean.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

from controller.job.strict_json import parse_object

MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library
MAX_DIMENSIONS = 16
MAX_SIZE = 1 << 62
BITS = {
    **{"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8},
    **{"F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6},
    **{"I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32},
    **{"I64": 64, "U64": 64, "F64": 64, "C64": 64},
}


class HeaderError(ValueError):
    """The file is not a valid safetensors file. The message says where."""


@dataclass(frozen=True)
class TensorInfo:
    """One tensor. `start` and `end` count bytes from the beginning of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Header:
    """`tensors` in the order of their data."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    data_start: int


def read_header(path: Path, max_bytes: int = MAX_HEADER_BYTES) -> Header:
    """The header of the file at `path`. Raises HeaderError, or OSError when it cannot be read."""
    size = path.stat().st_size
    with path.open("rb") as f:
        length = header_length(f.read(8), size)
        if length > max_bytes:
            raise HeaderError(f"header of {length} bytes is longer than {max_bytes}")
        return parse_header(f.read(length), size)


def header_length(prefix: bytes, file_size: int) -> int:
    """The header's length in bytes, from the first eight bytes of a file of `file_size` bytes."""
    if len(prefix) < 8:
        raise HeaderError(f"file of {file_size} bytes is too short for a safetensors header")
    length: int = struct.unpack("<Q", prefix)[0]
    if length > min(MAX_HEADER_BYTES, file_size - 8):
        raise HeaderError(f"header length {length} is more than the file of {file_size} bytes can hold")
    return length


def parse_header(text: bytes, file_size: int) -> Header:
    """Checks everything: JSON, names, dtypes, shapes, and that the tensors cover the data exactly."""
    if not text.startswith(b"{"):
        raise HeaderError("header does not begin with '{'")
    try:
        document = parse_object(text, "header")
    except ValueError as e:
        raise HeaderError(str(e)) from e
    metadata = _metadata(document.pop("__metadata__", {}))
    start = 8 + len(text)
    tensors = sorted((_tensor(n, e, start) for n, e in document.items()), key=lambda t: (t.start, t.end))
    _check_coverage(tensors, start, file_size)
    return Header(MappingProxyType({t.name: t for t in tensors}), MappingProxyType(metadata), start)


def encode_header(tensors: Iterable[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str]) -> bytes:
    """Length and header of a file with the data of `tensors` (name, dtype, shape) in this order."""
    document: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, dtype, shape in tensors:
        end = offset + size_of(dtype, shape)
        document[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # data starts aligned, as the library writes it
    return struct.pack("<Q", len(text)) + text


def size_of(dtype: str, shape: Iterable[int]) -> int:
    """Bytes of a tensor. Raises HeaderError for an unknown dtype, a broken byte or an insane size."""
    bits = BITS.get(dtype, 0)
    if not bits:
        raise HeaderError(f"unknown dtype {dtype!r}")
    for n in shape:
        bits *= n
        if bits > MAX_SIZE:
            raise HeaderError("tensor is too large")
    if bits % 8:
        raise HeaderError("tensor does not end on a byte")
    return bits // 8


def _metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise HeaderError("__metadata__ is not a map of strings")
    return value


def _tensor(name: str, entry: Any, data_start: int) -> TensorInfo:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise HeaderError(f"tensor {name!r} needs exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2:
        raise HeaderError(f"tensor {name!r} has a malformed dtype, shape or data_offsets")
    if len(shape) > MAX_DIMENSIONS:
        raise HeaderError(f"tensor {name!r} has {len(shape)} dimensions")
    try:
        expected = size_of(dtype, shape)
    except HeaderError as e:
        raise HeaderError(f"tensor {name!r}: {e}") from e
    if offsets[1] - offsets[0] != expected:
        raise HeaderError(f"tensor {name!r}: {offsets[1] - offsets[0]} bytes, but {dtype}{shape} needs {expected}")
    return TensorInfo(name, dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n <= MAX_SIZE for n in value)


def _check_coverage(tensors: list[TensorInfo], data_start: int, file_size: int) -> None:
    end = tensors[-1].end if tensors else data_start
    if tensors and tensors[0].start != data_start:
        raise HeaderError(f"bytes before tensor {tensors[0].name!r} belong to no tensor")
    for before, after in pairwise(tensors):
        if after.start < before.end:
            raise HeaderError(f"tensors {before.name!r} and {after.name!r} overlap")
        if after.start > before.end:
            raise HeaderError(f"bytes between {before.name!r} and {after.name!r} belong to no tensor")
    if end > file_size:
        raise HeaderError(f"file is cut off: {file_size} of {end} bytes")
    if end < file_size:
        raise HeaderError(f"{file_size - end} bytes after the last tensor belong to no tensor")
