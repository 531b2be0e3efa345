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

from controller.errors import PermanentError
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
from controller.job.reasons import Reason
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
    merge.copy_the_rest(base, changes_of(base, adapters, dtype), out, dtype)


def _fill(change: Change, sources: Sources, pool: Executor, out: Bytes) -> None:
    operands = None if change.is_copy else Operands(change, sources)
    plan = plan_shard(change.name, [change], {})

    def fill(piece: Copy | Block) -> None:
        at = piece.target - len(plan.header)
        if isinstance(piece, Copy):
            sources.read(piece.source, piece.start, out[at : at + piece.length].data)
        elif operands is not None:
            _compute(piece, operands, sources, out[at : at + size_of(change.dtype, (piece.count,))])

    for _ in pool.map(fill, plan.pieces()):
        pass


def _compute(block: Block, operands: Operands, sources: Sources, out: Bytes) -> None:
    change, info = block.change, block.change.source.info
    weight = np.empty(size_of(info.dtype, (block.count,)), np.uint8)
    start = info.start + size_of(info.dtype, (block.first, block.count // (block.last - block.first)))
    sources.read(change.source.path, start, weight.data)
    if not operands.compute(weight, block.first, block.last, out):
        raise PermanentError(
            f"{change.name} is not finite after the merge: too large for {change.dtype}, or the base holds NaN",
            reason=Reason.NON_FINITE_WEIGHTS,
        )
