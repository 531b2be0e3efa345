"""The kernel: compared with exact rational arithmetic, for every format."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from controller.job.floats import Float64, decode, encode
from controller.job.kernel import LANES, Scale, add_squares, merge_block, pack
from controller.job.kernel_ir import Axis
from tests.job.test_floats import rounded_once

WIDTH = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8}
ROUNDED = ["BF16", "F16", "F32"]
ANY = st.floats(allow_nan=False, allow_infinity=False)
WEIGHTS = ANY | st.floats(-4, 4) | st.floats(-1e-37, 1e-37) | st.floats(-1e-7, 1e-7)


def as_bytes(values: Any, dtype: str) -> np.ndarray:
    return np.ascontiguousarray(encode(np.asarray(values, np.float64), dtype)).reshape(-1).view(np.uint8)


def merged(
    weight: Any,
    dtype: str,
    to: str,
    left: Float64 | None = None,
    right: Float64 | None = None,
    scale: Scale | None = None,
) -> tuple[Float64, bool]:
    """What the kernel makes of the rows in `weight`, and whether it says that they are finite."""
    rows, columns = np.shape(weight)
    left = np.zeros((rows, 0)) if left is None else np.ascontiguousarray(left)
    right = np.zeros((0, columns)) if right is None else right
    out = np.zeros(rows * columns * WIDTH[to], np.uint8)
    finite = merge_block(as_bytes(weight, dtype), left, pack(right), out, columns, dtype, to, scale or Scale())
    return decode(out, to).reshape(rows, columns), finite


@pytest.mark.parametrize("dtype", ROUNDED)
@settings(deadline=None, max_examples=50)
@given(values=st.lists(WEIGHTS, min_size=1, max_size=LANES + 3))
@example(values=[1 + 2**-8 + 2**-40, 1 + 3 * 2**-8 - 2**-40, 2.0**-133, 2.0**-134, 1.5 * 2**-25, 2.0**-25, -0.0])
@example(values=[65519.99, 65520.0, 3.3895313892515355e38, 3.39615136e38, 1.7e308, 5e-324])
def test_a_number_is_rounded_once_to_nearest_even(dtype: str, values: list[float]) -> None:
    got, finite = merged([values], "F64", dtype)
    expected = [rounded_once(v, dtype) for v in values]
    assert finite == all(map(math.isfinite, expected))
    pairs = [(g, e) for g, e in zip(got[0].tolist(), expected, strict=True) if math.isfinite(e)]
    assert [(g, math.copysign(1, g)) for g, _ in pairs] == [(e, math.copysign(1, e)) for _, e in pairs]


def rounded_sum(w: float, left: list[float], right: list[float]) -> float:
    """w + left . right in float64 as the kernel promises it: fused, from the first rank to the last."""
    total = Fraction(0)
    for x, y in zip(left, right, strict=True):
        total = Fraction(float(Fraction(x) * Fraction(y) + total))
    return float(Fraction(w) + total)


@pytest.mark.parametrize("to", ROUNDED)
@pytest.mark.parametrize("dtype", ROUNDED)
def test_a_weight_is_the_sum_in_float64_rounded_once(dtype: str, to: str) -> None:
    r = np.random.default_rng(list(map(ord, dtype + to)))
    for rank, scale in ((1, 1.0), (3, 1e-3), (16, 1e-6)):  # the smallest are subnormal in float16
        weight = decode(as_bytes(scale * r.normal(size=LANES + 2), dtype), dtype)
        left, right = scale * r.normal(size=(1, rank)), r.normal(size=(rank, LANES + 2))
        got, finite = merged([weight], dtype, to, left, right)
        columns = zip(weight.tolist(), right.T.tolist(), strict=True)
        assert finite and got[0].tolist() == [rounded_once(rounded_sum(w, left[0].tolist(), c), to) for w, c in columns]


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_every_number_of_16_bits_is_read_right(dtype: str) -> None:
    bits = np.arange(1 << 16, dtype="<u2")
    raw = bits.view(np.uint8)
    with np.errstate(invalid="ignore"):
        known = np.isfinite(decode(raw, dtype))
    finite = np.ascontiguousarray(bits[known]).view(np.uint8)
    out = np.zeros(finite.size * 4, np.uint8)
    assert merge_block(finite, np.zeros((1, 0)), pack(np.zeros((0, 1))), out, finite.size // 2, dtype, "F64", Scale())
    np.testing.assert_array_equal(decode(out, "F64"), decode(finite, dtype))
    for bad in bits[~known][[0, 1, -1]]:
        one = np.array([bad], "<u2").view(np.uint8)
        for to in ROUNDED:
            room = np.zeros(4, np.uint8)
            assert not merge_block(one, np.zeros((1, 0)), pack(np.zeros((0, 1))), room, 1, dtype, to, Scale())


def test_numbers_that_need_no_rounding_are_not_changed() -> None:
    for dtype in ("BF16", "F16", "F32", "F64"):
        values = decode(as_bytes(np.random.default_rng(0).normal(size=(3, LANES + 5)), dtype), dtype)
        got, finite = merged(values.reshape(3, -1), dtype, dtype)
        assert finite and np.array_equal(got.reshape(-1), values)


@pytest.mark.parametrize("columns", [1, LANES - 1, LANES, LANES + 1, 3 * LANES + 7])
def test_where_a_row_ends_makes_no_difference(columns: int) -> None:
    r = np.random.default_rng(columns)
    weight, left, right = r.normal(size=(5, columns)), r.normal(size=(5, 3)), r.normal(size=(3, columns))
    whole, _ = merged(weight, "F64", "BF16", left, right)
    for i in range(5):
        for j in range(columns):
            alone, _ = merged(weight[i : i + 1, j : j + 1], "F64", "BF16", left[i : i + 1], right[:, j : j + 1])
            assert whole[i, j] == alone[0, 0]


def test_rows_and_columns_have_factors_and_lengths() -> None:
    r = np.random.default_rng(1)
    rows, columns = 4, LANES + 3
    weight, left, right = r.normal(size=(rows, columns)), r.normal(size=(rows, 2)), r.normal(size=(2, columns))
    total = weight + left @ right
    by_row, by_column = r.normal(size=rows), r.normal(size=2 * LANES)
    got, _ = merged(weight, "F64", "F64", left, right, Scale(Axis.ROWS, by_row))
    np.testing.assert_allclose(got, by_row[:, None] * total, rtol=1e-13)
    got, _ = merged(weight, "F64", "F64", left, right, Scale(Axis.COLUMNS, by_column))
    np.testing.assert_allclose(got, by_column[:columns] * total, rtol=1e-13)

    of_rows, of_columns = np.zeros((rows, LANES)), np.zeros(2 * LANES)
    add_squares(as_bytes(weight, "F64"), left, pack(right), of_rows, columns, "F64", Axis.ROWS)
    add_squares(as_bytes(weight, "F64"), left, pack(right), of_columns, columns, "F64", Axis.COLUMNS)
    np.testing.assert_allclose(of_rows.sum(axis=1), (total**2).sum(axis=1), rtol=1e-13)
    np.testing.assert_allclose(of_columns[:columns], (total**2).sum(axis=0), rtol=1e-13)


def test_memory_that_is_not_in_one_piece_is_refused() -> None:
    with pytest.raises(ValueError, match="one piece"):
        merge_block(
            np.zeros(64, np.uint8)[::2], np.zeros((1, 0)), pack(np.zeros((0, 1))), np.zeros(32, np.uint8), 16,
            "BF16", "BF16", Scale(),
        )  # fmt: skip
