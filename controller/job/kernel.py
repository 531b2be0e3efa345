"""The arithmetic of a merge, compiled for this processor: round(scale * (W + L R)), in float64, rounded once.

Written in LLVM's own language and compiled by llvmlite when it is first used, in a tenth of a second: numba needs
seconds for the same, and keeps what it compiled in pickles. Sums go in one order, from the first rank to the last,
by fused multiply-add, which IEEE 754 defines to the last bit: so the result depends neither on the processor nor on
how the work is cut into blocks and threads. Must not know of files and models.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from numpy.typing import NDArray

from controller.job import kernel_ir as ir
from controller.job.floats import Float64

POINTER, NUMBER = ctypes.c_void_p, ctypes.c_int64
ARGUMENTS = (*[POINTER] * 5, *[NUMBER] * 3)

LANES = ir.LANES
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Kernel:
    """Compiled code. The engine is kept, because the code lives as long as it."""

    call: Callable[..., int]
    engine: Any


@dataclass(frozen=True)
class Scale:
    """Factors of the rows of a block, or of the columns; there may be none."""

    axis: ir.Axis = ir.Axis.NONE
    factors: Float64 = field(default_factory=lambda: np.empty(0))


def pack(right: Float64) -> Float64:
    """R, (rank, columns), in tiles of LANES columns as the kernel reads it; the last one filled up with zeros."""
    rank, columns = right.shape
    tiles = -(-columns // LANES)
    packed = np.zeros((tiles, rank, LANES))
    for tile in range(tiles):
        part = right[:, tile * LANES : (tile + 1) * LANES]
        packed[tile, :, : part.shape[1]] = part
    return packed


def merge_block(
    weight: Bytes, left: Float64, packed: Float64, out: Bytes, columns: int, source: str, target: str, scale: Scale
) -> bool:
    """Fills `out` with the rows in `weight` after the merge. False if a result is not finite.

    `weight` holds whole rows in dtype `source`, `out` has room for them in dtype `target`. L is `left`,
    (rows, rank); R is packed by `pack`.
    """
    kernel = compiled(_merge_text(source, target, scale.axis))
    rows, rank = left.shape
    return kernel.call(*addresses(weight, left, packed, scale.factors, out), rows, columns, rank) == 0


def add_squares(
    weight: Bytes, left: Float64, packed: Float64, sums: Float64, columns: int, source: str, axis: ir.Axis
) -> None:
    """Adds the squares of W + L R to `sums`: by row, (rows, LANES), for the caller to add up; or by column."""
    kernel = compiled(_squares_text(source, axis))
    rows, rank = left.shape
    kernel.call(*addresses(weight, left, packed, sums, sums), rows, columns, rank)


def addresses(*arrays: NDArray[Any]) -> list[int]:
    if not all(array.flags.c_contiguous for array in arrays):
        raise ValueError("the kernel reads memory in one piece")
    return [array.ctypes.data for array in arrays]


_merge_text, _squares_text = lru_cache(ir.merge), lru_cache(ir.squares)


@lru_cache
def _machine() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=features, opt=3)


_compiling = threading.Lock()
_kernels: dict[str, Kernel] = {}


def compiled(text: str, name: str = "kernel", arguments: Sequence[Any] = ARGUMENTS) -> Kernel:
    """The text's function of this name, compiled once, even when all threads ask for it at the same time."""
    with _compiling:
        if text not in _kernels:
            _kernels[text] = _compile(text, name, arguments)
        return _kernels[text]


def _compile(text: str, name: str, arguments: Sequence[Any]) -> Kernel:
    module = llvm.parse_assembly(text)
    module.verify()
    builder = llvm.create_pass_builder(_machine(), llvm.create_pipeline_tuning_options(speed_level=2))
    builder.getModulePassManager().run(module, builder)
    engine = llvm.create_mcjit_compiler(module, _machine())
    engine.finalize_object()
    kind = ctypes.CFUNCTYPE(NUMBER, *arguments)
    return Kernel(kind(engine.get_function_address(name)), engine)
