"""Decodes the float formats of safetensors to float64 and encodes them back with one rounding.

Must not know of models: arrays in, arrays out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
_NATIVE = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
FLOATS = frozenset(_NATIVE) | {"BF16"}


def decode(raw: NDArray[np.uint8], dtype: str) -> Float64:
    """`raw` bytes of F64, F32, F16 or BF16 numbers as float64: exact."""
    if dtype == "BF16":
        wide = raw.view("<u2").astype(np.uint32) << np.uint32(16)
        return wide.view(np.float32).astype(np.float64)
    return raw.view(_NATIVE[dtype]).astype(np.float64)


def encode(values: Float64, dtype: str) -> NDArray[Any]:
    """float64 to `dtype`, rounded once to nearest even; as an array whose bytes go into the file.

    `values` must be finite. What is too large for `dtype` becomes infinite: see `all_finite`.
    """
    with np.errstate(over="ignore", under="ignore"):
        if dtype == "BF16":
            return _bfloat16(values)
        return values.astype(_NATIVE[dtype])  # numpy converts float64 to each of these with one rounding


def _bfloat16(values: Float64) -> NDArray[np.uint16]:
    """bfloat16 bits. Going through float32 rounds twice, wrongly for about one weight in 140,000.

    So float32 is rounded to odd first: an inexact number gets its last bit set, which no later
    rounding to fewer bits can take for a tie (Boldo and Melquiond, 2008).
    """
    nearest = values.astype(np.float32)
    bits = nearest.view(np.uint32).copy()
    back = nearest.astype(np.float64)
    bits -= np.abs(back) > np.abs(values)  # rounded away from zero: truncate instead
    bits |= back != values
    bits += np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (bits >> np.uint32(16)).astype("<u2")


def all_finite(raw: NDArray[np.uint8], dtype: str) -> bool:
    """True if none of the numbers is NaN or infinite."""
    if dtype == "BF16":
        exponent = np.uint16(0x7F80)
        return not bool(((raw.view("<u2") & exponent) == exponent).any())
    return bool(np.isfinite(raw.view(_NATIVE[dtype])).all())
