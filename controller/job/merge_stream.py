"""The merge as a stream of tensors, for a quantization that follows: nothing is written to the disk.

Must not know what becomes of the tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from controller.job import merge
from controller.job.base import Base, read_raw
from controller.job.merge import Weighted, merged_dtype
from controller.job.merged_model import MergedTensor
from controller.job.progress import Progress


def merged_tensors(base: Base, adapters: Sequence[Weighted], dtype: str, progress: Progress) -> Iterator[MergedTensor]:
    """Every tensor that `merge` would write, with the same bytes. Raises PermanentError if one is not finite."""
    progress.stage("merge", base.size)
    for shard in sorted(base.shards):
        for info in base.shards[shard].tensors.values():
            to = merged_dtype(base, info, dtype)
            raw = read_raw(base.path / shard, info)
            blocks = merge._merged(raw, info, to, merge._deltas(adapters, info.name))
            yield MergedTensor(info.name, to, info.shape, blocks)
            progress.advance(info.size)


def write_other_files(base: Base, out: Path, dtype: str) -> None:
    """What `merge` would write beside the weights: config, tokenizer and the like."""
    out.mkdir(parents=True)
    merge._copy_the_rest(base, out, dtype)
