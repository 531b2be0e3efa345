"""A faster merge of bfloat16 weights into bfloat16, which gives the same bits as the exact kernel.

In float32 a sum costs half as much, and is wrong by no more than can be said beforehand. If both ends of that error are
rounded to the same bfloat16, so is every number between them, and the exact one is between them. A tile of a row where
this does not hold for each number, some 3 % of them, is computed by the exact kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller.job import kernel_fast_ir as ir
from controller.job.floats import Float64
from controller.job.kernel import ARGUMENTS, NUMBER, POINTER, Bytes, addresses, compiled

Float32 = NDArray[np.float32]
_ARGUMENTS = (*ARGUMENTS, POINTER, POINTER, NUMBER, POINTER, POINTER)
_SMALL = 1e-30  # a smaller length would be lost in float32, whatever it is multiplied by


@dataclass(frozen=True)
class Singles:
    """R in float32, (tiles, rank rounded up to even, LANES), and how long a column of each tile can be at most."""

    right: Float32
    lengths: Float32


def singles(packed: Float64) -> Singles:
    """Of R as `kernel.pack` packs it."""
    tiles, rank, lanes = packed.shape
    right, largest = np.zeros((tiles, rank + rank % 2, lanes), np.float32), np.empty((tiles, rank))
    with np.errstate(over="ignore"):  # an infinite number proves nothing, so the exact kernel decides
        for tile in range(tiles):
            right[tile, :rank] = packed[tile]
            largest[tile] = np.abs(packed[tile]).max(axis=1)
    return Singles(right, _lengths(largest, 1.0))


def merge_block(weight: Bytes, left: Float64, packed: Float64, fast: Singles, out: Bytes, columns: int) -> bool:
    """As `kernel.merge_block`, from BF16 to BF16, without a scale; the rank is not 0."""
    rows, rank = left.shape
    of_left = np.zeros((rows, fast.right.shape[1]), np.float32)
    with np.errstate(over="ignore"):
        of_left[:, :rank] = left
    # The products of l and r add up to |l| |r| at most. Of that, l, r, each sum of one half of them and the sum of both
    # halves are wrong by 2^-24: rank / 2 + 3 times, and 3 more for what the bound itself loses.
    lengths = _lengths(left, (rank / 2 + 6) * 2.0**-24)
    exact = addresses(weight, left, packed, np.empty(0), out), (rows, columns, rank)
    single = addresses(of_left, fast.right), (fast.right.shape[1],), addresses(lengths, fast.lengths)
    kernel = compiled(ir.MERGE, "fast", _ARGUMENTS)
    return kernel.call(*(number for part in (*exact, *single) for number in part)) == 0


def _lengths(vectors: Float64, factor: float) -> Float32:
    with np.errstate(over="ignore"):
        lengths: Float32 = np.maximum(factor * np.sqrt((vectors * vectors).sum(axis=1)), _SMALL).astype(np.float32)
    return lengths
