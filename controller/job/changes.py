"""What becomes of each tensor of a base when adapters are merged into it: data only, for the engine to carry out.

Must not know how it is found out, how weights are computed, or how files are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.job.adapter import Adapter
from controller.job.safetensors_header import TensorInfo, size_of


@dataclass(frozen=True)
class Weighted:
    """An adapter and its weight in the sum."""

    adapter: Adapter
    weight: float = 1.0


@dataclass(frozen=True)
class Source:
    """Where the bytes of a tensor are."""

    path: Path
    info: TensorInfo


@dataclass(frozen=True)
class LowRank:
    """factor * B A is added, or its transpose. Without A: factor * B, to a vector."""

    a: Source | None
    b: Source
    factor: float
    transposed: bool


@dataclass(frozen=True)
class Magnitude:
    """DoRA (Liu et al., 2024): rows, or columns, get these lengths after the sum."""

    source: Source
    of_columns: bool


@dataclass(frozen=True)
class Rows:
    """Rows `indices` are replaced by the rows of `source`."""

    source: Source
    indices: tuple[int, ...]


@dataclass(frozen=True)
class Change:
    """What becomes of one tensor: `source` in `dtype`, with everything else done to it in the order of the fields."""

    name: str
    source: Source
    dtype: str
    addends: tuple[LowRank, ...] = ()
    magnitude: Magnitude | None = None
    rows: Rows | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.info.shape

    @property
    def size(self) -> int:
        return size_of(self.dtype, self.shape)

    @property
    def is_copy(self) -> bool:
        return self.dtype == self.source.info.dtype and not self.is_computed

    @property
    def is_computed(self) -> bool:
        """Whether rows and columns matter; else the tensor is at most converted."""
        return bool(self.addends) or self.magnitude is not None or self.rows is not None


@dataclass(frozen=True)
class Changes:
    """By shard, what becomes of each tensor. `vocab_size` is set if it is another one."""

    shards: Mapping[str, tuple[Change, ...]]
    untied: bool
    vocab_size: int | None

    @property
    def size(self) -> int:
        return sum(change.size for shard in self.shards.values() for change in shard)
