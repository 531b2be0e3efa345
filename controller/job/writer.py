"""Writes merged shards: pieces of work for as many threads as there are processors, each reading, computing, writing.

While one thread waits for a file or copies in the kernel the others compute, so nothing needs to be scheduled. A
shard appears under its name complete and on the disk, or not at all. Must not know what a merge means.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from controller.job.changes import Change
from controller.job.files import Sources, Target
from controller.job.kernel import Bytes
from controller.job.layout import Block, Copy, Shard
from controller.job.operands import Operands
from controller.job.progress import Progress
from controller.job.safetensors_header import read_header, size_of
from controller.job.store import sync

WRITE_BACK_BYTES = 64 << 20  # written between two nudges of the disk


def is_finished(path: Path, shard: Shard) -> bool:
    """Whether the file at `path` is this shard, from an earlier try: it got its name when it was whole."""
    try:
        with path.open("rb") as f:
            return path.stat().st_size == shard.size and f.read(len(shard.header)) == shard.header
    except FileNotFoundError:
        return False


def write_shards(shards: Sequence[Shard], out: Path, progress: Progress, threads: int | None = None) -> None:
    """Writes each shard to `out`. Raises OSError, or PermanentError that names a tensor that is not finite."""
    with Sources() as sources:
        work = _Work(shards, out, sources, progress)
        workers = [
            threading.Thread(target=work.run, name=f"merge-{n}", daemon=True)
            for n in range(threads or len(os.sched_getaffinity(0)))
        ]
        try:
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        except BaseException as e:  # the job was asked to stop
            work.fail(e)
        finally:
            for worker in workers:
                worker.join()
            work.close()


class _Output:
    """A shard in the making, under another name."""

    def __init__(self, shard: Shard, out: Path) -> None:
        self.shard = shard
        self.pending = 0
        self.is_issued = False
        self._final = out / shard.name
        self.partial = self._final.with_name(f"{shard.name}.partial")
        self.target = Target(self.partial, shard.size)
        self._written = 0

    def note(self, size: int) -> None:
        """`size` more bytes are written."""
        before = self._written // WRITE_BACK_BYTES
        self._written += size
        if self._written // WRITE_BACK_BYTES > before:
            self.target.start_writing_back()

    def abandon(self) -> None:
        with suppress(OSError):
            self.target.close()
        self.partial.unlink(missing_ok=True)

    def finish(self) -> None:
        self.target.write(memoryview(self.shard.header), 0)  # last: what is cut off before is no safetensors file
        self.target.sync()
        self.target.close()
        read_header(self.partial)
        self.partial.rename(self._final)
        sync(self._final.parent)


@dataclass(frozen=True)
class _Piece:
    """Work on an output. Blocks of one tensor share the operands; the last piece of a shard is the header."""

    output: _Output
    what: Copy | Block | None
    shared: _Shared | None = None


class _Shared:
    """The operands of a tensor, made by the first thread that needs them."""

    def __init__(self, change: Change, sources: Sources) -> None:
        self._change = change
        self._sources = sources
        self._lock = threading.Lock()
        self._operands: Operands | None = None

    def get(self) -> Operands:
        with self._lock:
            self._operands = self._operands or Operands(self._change, self._sources)
            return self._operands


class _Work:
    """Hands out pieces in the order of the files, and knows when a shard is done or the work has failed."""

    def __init__(self, shards: Sequence[Shard], out: Path, sources: Sources, progress: Progress) -> None:
        self._lock = threading.Lock()
        self._sources = sources
        self._progress = progress
        self._outputs: set[_Output] = set()
        self._pieces = self._issue(shards, out)
        self._finisher = ThreadPoolExecutor(1, "merge-sync")  # a thread that waits for the disk does not compute
        self._error: BaseException | None = None

    def run(self) -> None:
        """What a thread does: pieces, until there are no more."""
        buffers = _Buffers()
        try:
            while (piece := self._next()) is not None:
                self._do(piece, buffers)
        except BaseException as e:
            self.fail(e)

    def fail(self, error: BaseException) -> None:
        with self._lock:
            self._error = self._error or error

    def close(self) -> None:
        """Waits for what is being written; then raises what went wrong, with nothing left of what is half done."""
        self._finisher.shutdown()
        if self._error is None:
            return
        for output in self._outputs:
            output.abandon()
        raise self._error

    def _issue(self, shards: Sequence[Shard], out: Path) -> Iterator[_Piece]:
        for shard in shards:
            output = _Output(shard, out)
            self._outputs.add(output)
            shared, change = None, None
            for piece in shard.pieces():
                if isinstance(piece, Block) and piece.change is not change:
                    change = piece.change
                    shared = _Shared(change, self._sources)
                yield _Piece(output, piece, shared)
            output.is_issued = True
            yield _Piece(output, None)

    def _next(self) -> _Piece | None:
        with self._lock:
            if self._error is not None:
                return None
            piece = next(self._pieces, None)
            if piece is not None:
                piece.output.pending += 1
            return piece

    def _do(self, piece: _Piece, buffers: _Buffers) -> None:
        output, what = piece.output, piece.what
        if isinstance(what, Copy):
            self._sources.copy(what.source, what.start, output.target, what.target, what.length)
            size = what.length
        elif what is not None and piece.shared is not None:
            size = self._compute(output, what, piece.shared, buffers)
        else:
            size = len(output.shard.header)
        self._progress.advance(size)
        with self._lock:
            output.note(size)
            output.pending -= 1
            if output.is_issued and not output.pending and self._error is None:
                self._finisher.submit(self._finish, output)

    def _finish(self, output: _Output) -> None:
        try:
            output.finish()
        except BaseException as e:
            self.fail(e)
        else:
            self._outputs.discard(output)

    def _compute(self, output: _Output, block: Block, shared: _Shared, buffers: _Buffers) -> int:
        change = block.change
        weight = buffers.weight(size_of(change.source.info.dtype, (block.count,)))
        result = buffers.result(size_of(change.dtype, (block.count,)))
        shared.get().compute(block, weight, result)
        output.target.write(result.data, block.target)
        return len(result)


class _Buffers:
    """The memory of one thread, used again for each block."""

    def __init__(self) -> None:
        self._weight = np.empty(0, np.uint8)
        self._result = np.empty(0, np.uint8)

    def weight(self, size: int) -> Bytes:
        if self._weight.size < size:
            self._weight = np.empty(size, np.uint8)
        return self._weight[:size]

    def result(self, size: int) -> Bytes:
        if self._result.size < size:
            self._result = np.empty(size, np.uint8)
        return self._result[:size]
