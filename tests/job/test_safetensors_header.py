"""The header reader believes nothing."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from controller.job.safetensors_header import HeaderError, encode_header, parse_header, read_header


def file_of(document: Any, data: bytes = b"") -> bytes:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def read(tmp_path: Path, content: bytes) -> Any:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    return read_header(path)


def test_a_written_header_is_read_back(tmp_path: Path) -> None:
    content = encode_header([("a", "BF16", (2, 3)), ("b", "F32", ()), ("c", "F64", (0, 5))], {"format": "pt"})
    header = read(tmp_path, content + bytes(16))
    assert [(t.name, t.dtype, t.shape, t.size) for t in header.tensors.values()] == [
        ("a", "BF16", (2, 3), 12),
        ("b", "F32", (), 4),
        ("c", "F64", (0, 5), 0),
    ]
    assert header.metadata == {"format": "pt"}
    assert header.data_start % 8 == 0


def test_what_the_safetensors_library_writes_is_read(tmp_path: Path) -> None:
    save_file({"w": numpy.arange(6, dtype="<f4").reshape(2, 3)}, tmp_path / "x.safetensors")
    assert read_header(tmp_path / "x.safetensors").tensors["w"].shape == (2, 3)


BAD = {
    "empty file": (b"", "too short"),
    "length over the file": (struct.pack("<Q", 1 << 40), "more than the file"),
    "length over the limit of the library": (struct.pack("<Q", (1 << 64) - 1) + b"{}", "more than the file"),
    "no object": (file_of(b"[]"), "begin with"),
    "not UTF-8": (file_of(b'{"\xff": 1}'), "not valid JSON"),
    "half of a character": (file_of({"\ud800": tensor()}, bytes(8)), "not valid JSON"),
    "not JSON": (file_of(b"{,}"), "not valid JSON"),
    "deep nesting": (file_of(b'{"a":' + b"[" * 100_000), "not valid JSON"),
    "huge number": (file_of(b'{"a":' + b"9" * 5000 + b"}"), "not valid JSON"),
    "NaN": (file_of(b'{"a": NaN}'), "not valid JSON"),
    "name twice": (
        file_of(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{}}', b"x"),
        "appears twice",
    ),
    "metadata of numbers": (file_of({"__metadata__": {"a": 1}}), "__metadata__"),
    "entry without shape": (file_of({"a": {"dtype": "F32", "data_offsets": [0, 8]}}), "exactly dtype"),
    "unknown dtype": (file_of({"a": tensor("F31")}, bytes(8)), "unknown dtype"),
    "negative dimension": (file_of({"a": tensor(shape=[-2])}, bytes(8)), "malformed"),
    "boolean dimension": (file_of({"a": tensor(shape=[True])}, bytes(8)), "malformed"),
    "float offset": (file_of({"a": tensor(offsets=[0, 8.0])}, bytes(8)), "malformed"),
    "three offsets": (file_of({"a": tensor(offsets=[0, 8, 9])}, bytes(8)), "malformed"),
    "shape product overflows": (file_of({"a": tensor(shape=[1 << 61, 1 << 61])}, bytes(8)), "too large"),
    "many dimensions": (file_of({"a": tensor(shape=[1] * 17, offsets=[0, 4])}, bytes(4)), "dimensions"),
    "shape does not fit the bytes": (file_of({"a": tensor(shape=[3])}, bytes(8)), "needs 12"),
    "half a byte": (file_of({"a": tensor("F4", [3], [0, 1])}, bytes(1)), "does not end on a byte"),
    "overlap": (file_of({"a": tensor(), "b": tensor(offsets=[4, 12])}, bytes(12)), "overlap"),
    "same bytes twice": (file_of({"a": tensor(), "b": tensor()}, bytes(8)), "overlap"),
    "gap": (file_of({"a": tensor(), "b": tensor(offsets=[9, 17])}, bytes(17)), "between"),
    "gap at the front": (file_of({"a": tensor(offsets=[1, 9])}, bytes(9)), "before"),
    "bytes at the end": (file_of({"a": tensor()}, bytes(9)), "after the last"),
    "cut off": (file_of({"a": tensor()}, bytes(7)), "cut off"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_broken_file_is_refused_with_its_reason(case: str, tmp_path: Path) -> None:
    content, message = BAD[case]
    with pytest.raises(HeaderError, match=message):
        read(tmp_path, content)


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=300), st.integers(0, 1 << 40))
def test_any_bytes_give_a_header_or_a_header_error(text: bytes, size: int) -> None:
    for prefix in (b"", b"{"):
        with contextlib.suppress(HeaderError):
            parse_header(prefix + text, size)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "F4", "U8", "?"]) | json_values,
        "shape": st.lists(st.integers(-1, 5), max_size=4) | json_values,
        "data_offsets": st.lists(st.integers(-1, 64), min_size=2, max_size=2) | json_values,
    }
)


@settings(deadline=None)  # the machine may be busy
@given(st.dictionaries(st.text(max_size=4) | st.just("__metadata__"), entries | json_values), st.binary(max_size=64))
def test_what_is_accepted_covers_the_data_exactly(document: dict[str, Any], data: bytes) -> None:
    content = file_of(document, data)
    try:
        header = parse_header(content[8 : len(content) - len(data)], len(content))
    except HeaderError:
        return
    assert sum(t.size for t in header.tensors.values()) == len(data)
    end = header.data_start
    for t in header.tensors.values():
        assert t.start == end
        end = t.end
    assert end == len(content)
