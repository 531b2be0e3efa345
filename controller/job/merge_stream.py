"""The merge as a stream of tensors, for a quantization that follows: nothing is written to the disk.

Every byte is what `merge` would write, by the same plan and the same arithmetic. Must not know what becomes of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from controller.job import merge
from controller.job.base import Base
from controller.job.changes import Change, Weighted
from controller.job.files import Sources
from controller.job.fit import changes_of
from controller.job.kernel import Bytes
from controller.job.layout import Block, Copy, plan_shard
from controller.job.merged_model import MergedTensor
from controller.job.operands import Operands
from controller.job.progress import Progress
from controller.job.safetensors_header import size_of


def merged_tensors(base: Base, adapters: Sequence[Weighted], dtype: str, progress: Progress) -> Iterator[MergedTensor]:
    """Every tensor of the merged checkpoint; each must be filled before the next is asked for.

    Raises PermanentError if a result is not finite, and OSError.
    """
    changes = changes_of(base, adapters, dtype)
    progress.stage("merge", changes.size)
    with Sources() as sources, ThreadPoolExecutor(len(os.sched_getaffinity(0)), "merge") as pool:
        for shard in sorted(changes.shards):
            for change in changes.shards[shard]:
                yield MergedTensor(change.name, change.dtype, change.shape, partial(_fill, change, sources, pool))
                progress.advance(change.size)


def write_other_files(base: Base, adapters: Sequence[Weighted], out: Path, dtype: str) -> None:
    """What `merge` would write beside the weights: config, tokenizer and the like."""
    out.mkdir(parents=True)
    merge.write_other_files(base, changes_of(base, adapters, dtype), out, dtype)


def _fill(change: Change, sources: Sources, pool: Executor, out: Bytes) -> None:
    plan = plan_shard("", [change], {})
    operands = None if change.is_copy else Operands(change, sources)

    def fill(piece: Copy | Block) -> None:
        at = piece.target - len(plan.header)
        if isinstance(piece, Copy):
            sources.read(piece.source, piece.start, out[at : at + piece.length].data)
        elif operands is not None:
            weight = np.empty(size_of(change.source.info.dtype, (piece.count,)), np.uint8)
            operands.compute(piece, weight, out[at : at + size_of(change.dtype, (piece.count,))])

    for _ in pool.map(fill, plan.pieces()):
        pass
