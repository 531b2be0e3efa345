"""Carries out the change of one tensor, block by block: what the kernel needs is read and decoded here.

Memory is bounded by rank and width of the tensor, whatever its height. Must not know where blocks go.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from controller.errors import PermanentError
from controller.job import kernel, kernel_fast
from controller.job.changes import Change, LowRank, Magnitude, Source
from controller.job.files import Sources
from controller.job.floats import Float64, all_finite, decode, encode
from controller.job.kernel import LANES, Bytes, Scale
from controller.job.kernel_ir import Axis
from controller.job.layout import BLOCK_BYTES, Block, width_of
from controller.job.reasons import Reason
from controller.job.safetensors_header import size_of


class Operands:
    """The right factors of a change, packed; left factors, lengths and rows are read for each block.

    May be used by several threads once it is made.
    """

    def __init__(self, change: Change, sources: Sources) -> None:
        self._change = change
        self._sources = sources
        self._width = width_of(change)
        rank = sum(_rank(addend) for addend in change.addends)
        self._packed = np.zeros((-(-self._width // LANES), rank, LANES))
        for start, addend in zip(self._starts(), change.addends, strict=True):
            self._pack(addend, start)
        self._fast = kernel_fast.singles(self._packed) if self._can_be_fast() else None
        self._of_columns = self._column_scale()
        rows = change.rows
        self._rows = sorted((index, n) for n, index in enumerate(rows.indices)) if rows is not None else []

    def compute(self, block: Block, weight: Bytes, out: Bytes) -> None:
        """Fills `weight` with the block as it is and `out` with it after the change.

        Raises PermanentError if a result is not finite.
        """
        change, first, last = self._change, block.first, block.last
        start = change.source.info.start + size_of(change.source.info.dtype, (first, width_of(change)))
        self._sources.read(change.source.path, start, weight.data)
        columns = self._width if change.is_computed else last - first
        left = self._left(first, last) if change.is_computed else np.empty((1, 0))
        if self._fast is not None:
            finite = kernel_fast.merge_block(weight, left, self._packed, self._fast, out, columns)
        else:
            scale, dtype = self._scale(weight, left, first, last), change.source.info.dtype
            finite = kernel.merge_block(weight, left, self._packed, out, columns, dtype, change.dtype, scale)
        if not (self._replace_rows(first, last, out) and finite):
            raise PermanentError(
                f"{change.name} is not finite after the merge: too large for {change.dtype}, or the base holds NaN",
                reason=Reason.NON_FINITE_WEIGHTS,
            )

    def _can_be_fast(self) -> bool:
        change = self._change
        is_plain = change.magnitude is None and self._packed.shape[1] > 0
        return is_plain and change.source.info.dtype == change.dtype == "BF16"

    def _starts(self) -> Iterator[int]:
        start = 0
        for addend in self._change.addends:
            yield start
            start += _rank(addend)

    def _pack(self, addend: LowRank, start: int) -> None:
        """The right factor of one addend, into its ranks."""
        right: Float64
        if addend.a is None:
            right = self._read(addend.b, 0, addend.b.info.size).reshape(1, -1)
        elif addend.transposed:
            right = self._read(addend.b, 0, addend.b.info.size).reshape(addend.b.info.shape).T
        else:
            right = self._read(addend.a, 0, addend.a.info.size).reshape(addend.a.info.shape)
        for k, row in enumerate(right, start):
            whole = self._width // LANES
            scaled = addend.factor * row
            self._packed[:whole, k] = scaled[: whole * LANES].reshape(whole, LANES)
            if self._width % LANES:
                self._packed[whole, k, : self._width % LANES] = scaled[whole * LANES :]

    def _left(self, first: int, last: int) -> Float64:
        """The left factors of these rows, (rows, rank)."""
        left = np.empty((last - first, self._packed.shape[1]))
        for start, addend in zip(self._starts(), self._change.addends, strict=True):
            part = left[:, start : start + _rank(addend)]
            if addend.a is None:
                part[:] = 1
            elif addend.transposed:  # a slice of each of A's rows
                length, size = addend.a.info.shape[1], size_of(addend.a.info.dtype, (1,))
                for k in range(part.shape[1]):
                    part[:, k] = self._read(addend.a, (k * length + first) * size, (last - first) * size)
            else:
                size = size_of(addend.b.info.dtype, addend.b.info.shape[1:])
                part[:] = self._read(addend.b, first * size, (last - first) * size).reshape(part.shape)
        return left

    def _scale(self, weight: Bytes, left: Float64, first: int, last: int) -> Scale:
        magnitude = self._change.magnitude
        if magnitude is None or self._of_columns is not None:
            return self._of_columns or Scale()
        sums = np.zeros((last - first, LANES))
        kernel.add_squares(weight, left, self._packed, sums, self._width, self._change.source.info.dtype, Axis.ROWS)
        size = size_of(magnitude.source.info.dtype, (1,))
        wanted = self._read(magnitude.source, first * size, (last - first) * size)
        return Scale(Axis.ROWS, _factors(wanted, sum(sums.T[1:], start=sums.T[0])))

    def _column_scale(self) -> Scale | None:
        """Lengths of columns need the whole tensor, before the first of its blocks. Row by row: one order of sums."""
        magnitude = self._change.magnitude
        if magnitude is None or not magnitude.of_columns:
            return None
        info = self._change.source.info
        sums = np.zeros(self._packed.shape[0] * LANES)
        row = size_of(info.dtype, (self._width,))
        step = max(1, BLOCK_BYTES // row)
        for first in range(0, info.shape[0], step):
            last = min(first + step, info.shape[0])
            weight = self._bytes(self._change.source, first * row, (last - first) * row)
            kernel.add_squares(
                weight, self._left(first, last), self._packed, sums, self._width, info.dtype, Axis.COLUMNS
            )
        factors = np.zeros_like(sums)
        factors[: self._width] = _factors(self._whole(magnitude), sums[: self._width])
        return Scale(Axis.COLUMNS, factors)

    def _replace_rows(self, first: int, last: int, out: Bytes) -> bool:
        rows, dtype = self._change.rows, self._change.dtype
        if rows is None:
            return True
        size, finite = size_of(rows.source.info.dtype, (self._width,)), True
        target = out.reshape(last - first, -1)
        for index, n in self._rows:
            if first <= index < last:
                new = np.ascontiguousarray(encode(self._read(rows.source, n * size, size), dtype)).view(np.uint8)
                finite = finite and all_finite(new, dtype)
                target[index - first] = new
        return finite

    def _whole(self, magnitude: Magnitude) -> Float64:
        return self._read(magnitude.source, 0, magnitude.source.info.size)

    def _read(self, source: Source, start: int, size: int) -> Float64:
        """Numbers of a tensor, from byte `start` of it."""
        return decode(self._bytes(source, start, size), source.info.dtype)

    def _bytes(self, source: Source, start: int, size: int) -> NDArray[np.uint8]:
        buffer = np.empty(size, np.uint8)
        self._sources.read(source.path, source.info.start + start, buffer.data)
        return buffer


def _rank(addend: LowRank) -> int:
    return addend.a.info.shape[0] if addend.a is not None else 1


def _factors(wanted: Float64, squares: Float64) -> Float64:
    """What makes vectors of these squared lengths as long as wanted. A vector of zeros gets no length: not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(wanted / np.sqrt(squares))
