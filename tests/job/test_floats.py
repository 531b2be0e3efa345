"""Rounding: compared with exact rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.job.floats import all_finite, decode, encode

FORMATS = {"BF16": (8, 127), "F16": (11, 15), "F32": (24, 127)}  # bits of precision, largest exponent


def rounded_once(value: float, dtype: str) -> float:
    """`value` to the nearest number of `dtype`, ties to even, by rational arithmetic."""
    precision, top = FORMATS[dtype]
    if value == 0:
        return value
    exact = Fraction(abs(value))
    exponent = max(math.frexp(abs(value))[1] - 1, 1 - top)
    step = Fraction(2) ** (exponent - precision + 1)
    count, rest = divmod(exact, step)
    if rest * 2 > step or (rest * 2 == step and count % 2):
        count += 1
    result = count * step
    if result >= Fraction(2) ** (top + 1):
        return math.copysign(math.inf, value)
    return math.copysign(float(result), value)


def through(value: float, dtype: str) -> float:
    raw = np.ascontiguousarray(encode(np.array([value]), dtype)).view(np.uint8)
    return float(decode(raw, dtype)[0])


@pytest.mark.parametrize("dtype", FORMATS)
@settings(deadline=None)  # the machine may be busy
@given(value=st.floats(allow_nan=False, allow_infinity=False) | st.floats(-4, 4) | st.floats(-1e-37, 1e-37))
def test_a_number_is_rounded_once_to_nearest_even(dtype: str, value: float) -> None:
    got, expected = through(value, dtype), rounded_once(value, dtype)
    assert (got, math.copysign(1, got)) == (expected, math.copysign(1, expected))


def test_what_two_roundings_get_wrong_is_right() -> None:
    # Just above the middle of two bfloat16 numbers: float32 rounds it to the middle, and the middle to even.
    value = 1 + 2**-8 + 2**-40
    assert float(np.float32(value)) == 1 + 2**-8
    assert through(value, "BF16") == 1 + 2**-7
    assert through(-value, "BF16") == -1 - 2**-7
    # And just below the next middle, where even is above.
    value = 1 + 3 * 2**-8 - 2**-40
    assert float(np.float32(value)) == 1 + 3 * 2**-8
    assert through(value, "BF16") == 1 + 2**-7
    assert through(-value, "BF16") == -1 - 2**-7


@settings(deadline=None)  # the machine may be busy
@given(st.integers(0, 0xFFFF))
def test_every_bfloat16_number_survives(bits: int) -> None:
    raw = np.array([bits], "<u2").view(np.uint8)
    value = decode(raw, "BF16")
    if math.isfinite(value[0]):
        assert int(encode(value, "BF16")[0]) == bits
    else:
        assert not all_finite(raw, "BF16")


@pytest.mark.parametrize("dtype", ["F32", "F16", "F64"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_found(dtype: str, bad: float) -> None:
    assert all_finite(encode(np.array([1.0, 2.0]), dtype).view(np.uint8), dtype)
    assert not all_finite(encode(np.array([1.0, bad]), dtype).view(np.uint8), dtype)
