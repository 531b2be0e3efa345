"""Where everything in a merged shard goes, and the pieces of work that fill it.

A shard's size and header are known before a weight is read, so pieces may be done in any order. Must not know how
they are done.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.job.changes import Change
from controller.job.safetensors_header import encode_header, size_of

COPY_BYTES = 32 << 20  # one call of the kernel: long enough to cost nothing, short enough for a progress bar
BLOCK_BYTES = 512 << 10  # of a weight that is computed: two blocks fit into a core's second level cache


@dataclass(frozen=True)
class Copy:
    """`length` bytes from `start` of a file to `target` of the shard."""

    source: Path
    start: int
    target: int
    length: int


@dataclass(frozen=True)
class Block:
    """Rows `first` to `last` of a change's tensor, which go to `target` of the shard.

    A tensor that is only converted has no rows that matter: it counts as one long row, cut anywhere, and `first`
    and `last` are its numbers.
    """

    change: Change
    first: int
    last: int
    target: int

    @property
    def count(self) -> int:
        """Numbers in the block."""
        return (self.last - self.first) * width_of(self.change)


@dataclass(frozen=True)
class Shard:
    """One file to write: `header`, then the tensors in the order of `changes`."""

    name: str
    changes: tuple[Change, ...]
    header: bytes

    @property
    def size(self) -> int:
        return len(self.header) + sum(c.size for c in self.changes)

    def pieces(self) -> Iterator[Copy | Block]:
        """The work, in the order of the file. Neighbours that are only copied make one piece."""
        run: Copy | None = None
        for change, target in zip(self.changes, self._targets(), strict=True):
            if not change.is_copy:
                yield from _cut(run)
                yield from _blocks(change, target)
                run = None
            elif run is not None and _follows(run, change):
                run = Copy(run.source, run.start, run.target, run.length + change.size)
            else:
                yield from _cut(run)
                run = Copy(change.source.path, change.source.info.start, target, change.size)
        yield from _cut(run)

    def _targets(self) -> Iterator[int]:
        target = len(self.header)
        for change in self.changes:
            yield target
            target += change.size


def plan_shard(name: str, changes: Sequence[Change], metadata: Mapping[str, str]) -> Shard:
    return Shard(name, tuple(changes), encode_header(((c.name, c.dtype, c.shape) for c in changes), metadata))


def width_of(change: Change) -> int:
    """Numbers in a row. A vector is one row."""
    if not change.is_computed:
        return 1
    return change.shape[-1] if change.shape else 1


def _blocks(change: Change, target: int) -> Iterator[Block]:
    width = width_of(change)
    rows = math.prod(change.shape) // max(width, 1)
    bytes_of_row = size_of(change.source.info.dtype, (width,))
    step = max(1, BLOCK_BYTES // max(bytes_of_row, 1))
    for first in range(0, rows, step):
        yield Block(change, first, min(first + step, rows), target + size_of(change.dtype, (first, width)))


def _follows(run: Copy, change: Change) -> bool:
    return run.source == change.source.path and run.start + run.length == change.source.info.start


def _cut(run: Copy | None) -> Iterator[Copy]:
    if run is not None:
        for done in range(0, run.length, COPY_BYTES):
            yield Copy(run.source, run.start + done, run.target + done, min(COPY_BYTES, run.length - done))
