"""The faster kernel: the same bits as the exact one, which test_kernel.py compares with rational arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from controller.job import kernel, kernel_fast
from controller.job.floats import Float64, decode, encode
from controller.job.kernel import LANES, Scale, pack
from controller.job.kernel_fast import singles


def both(weight: np.ndarray, left: Float64, right: Float64) -> list[tuple[bytes, bool]]:
    """What the exact and the faster kernel make of rows of bfloat16 bits, and whether they call it finite."""
    columns, packed = right.shape[1], pack(right)
    raw = np.ascontiguousarray(weight, "<u2").reshape(-1).view(np.uint8)
    exact, fast = np.zeros_like(raw), np.zeros_like(raw)
    is_finite = [
        kernel.merge_block(raw, left, packed, exact, columns, "BF16", "BF16", Scale()),
        kernel_fast.merge_block(raw, left, packed, singles(packed), fast, columns),
    ]
    return list(zip((exact.tobytes(), fast.tobytes()), is_finite, strict=True))


def bits(values: Float64) -> np.ndarray:
    return np.ascontiguousarray(encode(values, "BF16")).reshape(values.shape)


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 2**32),
    rows=st.integers(0, 5),
    columns=st.sampled_from([1, LANES - 1, LANES, LANES + 1, 5 * LANES]),
    rank=st.sampled_from([1, 2, 3, 8, 16, 17, 64]),
    of_weight=st.integers(-140, 127),
    of_left=st.integers(-1060, 900),
    of_right=st.integers(-1060, 900),
)
@example(seed=0, rows=3, columns=4 * LANES, rank=16, of_weight=-6, of_left=-7, of_right=-6)
@example(seed=1, rows=3, columns=4 * LANES, rank=16, of_weight=-6, of_left=-200, of_right=190)
@example(seed=2, rows=3, columns=4 * LANES, rank=16, of_weight=-6, of_left=500, of_right=-510)
@example(seed=3, rows=3, columns=4 * LANES, rank=16, of_weight=126, of_left=60, of_right=64)
@example(seed=5, rows=3, columns=4 * LANES, rank=16, of_weight=-36, of_left=-155, of_right=120)
@example(seed=4, rows=3, columns=4 * LANES, rank=1, of_weight=-130, of_left=-70, of_right=-62)
def test_it_gives_the_same_bits_for_numbers_of_any_size(
    seed: int, rows: int, columns: int, rank: int, of_weight: int, of_left: int, of_right: int
) -> None:
    r = np.random.default_rng(seed)
    weight = bits(np.ldexp(r.normal(size=(rows, columns)), of_weight))
    left = np.ldexp(r.normal(size=(rows, rank)), of_left)
    right = np.ldexp(r.normal(size=(rank, columns)), of_right)
    exact, fast = both(weight, left, right)
    assert exact[1] == fast[1]
    if exact[1]:
        assert exact == fast


@pytest.mark.parametrize("side", [-1, 0, 1])
@pytest.mark.parametrize(("size", "distance"), [(2.0**-9, 2.0**-36), (64.0, 2.0**-18)])
@pytest.mark.parametrize("rank", [2, 15, 16, 64])
def test_sums_beside_the_middle_of_two_numbers_are_rounded_as_the_exact_kernel_does(
    rank: int, size: float, distance: float, side: int
) -> None:
    """So near that float32 cannot tell on which side: for small products because of the sum, for large ones of them.

    One sum in each tile: what float32 sees in the middle itself would give the tile away.
    """
    r = np.random.default_rng(rank)
    columns = 64 * LANES
    weight = bits(np.ldexp(1 + r.integers(0, 128, (1, columns)) / 128, r.integers(-8, -5, (1, columns))))
    value = decode(weight.reshape(-1).view(np.uint8), "BF16")
    half = np.ldexp(1.0, np.frexp(value)[1] - 9)  # of what the last of 8 bits is worth
    right = r.normal(size=(rank, columns)) * size
    right[-1] = half + side * distance * value - right[:-1].sum(axis=0)
    right[:, np.arange(columns) % LANES != 0] = 0
    exact, fast = both(weight, np.ones((1, rank)), right)
    assert exact == fast


def test_every_number_of_16_bits_gives_what_the_exact_kernel_says() -> None:
    every = np.arange(1 << 16, dtype="<u2").reshape(64, -1)
    finite = (every & 0x7F80) != 0x7F80
    every = np.where(finite, every, 0)
    for change in (0.0, 2.0**-9, 1e30):
        left, right = np.full((64, 2), change), np.full((2, 1024), 0.5)
        exact, fast = both(every, left, right)
        assert exact == fast


@pytest.mark.parametrize("bad", [0x7F80, 0xFF80, 0x7FC1, 0x7F7F])
def test_what_is_not_finite_is_said(bad: int) -> None:
    weight = np.full((2, 3 * LANES), 0x3F80, "<u2")
    weight[1, LANES + 5] = bad
    left, right = np.full((2, 2), 1e37), np.full((2, 3 * LANES), 0.5)
    exact, fast = both(weight, left, right)
    assert (exact[1], fast[1]) == (False, False)


def test_hardly_any_tile_is_left_to_the_exact_kernel() -> None:
    """Else it would be no faster. The numbers are like those of a real model: seen where the exact kernel is blind."""
    r = np.random.default_rng(0)
    weight = bits(r.normal(0, 0.02, size=(16, 64 * LANES)))
    left, right = r.normal(0, 0.02, size=(16, 16)), r.normal(0, 0.02, size=(16, 64 * LANES))
    packed, raw = pack(right), weight.reshape(-1).view(np.uint8)
    fast, of_exact = np.zeros_like(raw), np.full_like(packed, np.nan)  # the exact kernel makes NaN of what it is given
    kernel_fast.merge_block(raw, left, of_exact, singles(packed), fast, 64 * LANES)
    tiles = np.isnan(decode(fast, "BF16").reshape(16, 64, LANES)).any(axis=2)
    assert 0 < tiles.mean() < 0.1
