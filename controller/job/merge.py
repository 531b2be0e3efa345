"""Merges LoRA adapters into a base, shard by shard and one block of one tensor at a time.

W' = round(W + sum of weight * scaling * B A), computed in float64 and rounded once. Memory does not grow with
the model. Tensors that no adapter changes are copied byte for byte. A shard that is finished is not made again.
Needs numpy only. Must not know where its result will be published.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from controller.errors import PermanentError
from controller.job.adapter import Adapter
from controller.job.base import INDEX, Base, read_raw, safetensors_dtype
from controller.job.floats import FLOATS, Float64, all_finite, decode, encode
from controller.job.progress import Progress
from controller.job.reasons import Reason
from controller.job.safetensors_header import TensorInfo, encode_header, read_header
from controller.job.store import BLOCK, copy_file, sync
from controller.job.strict_json import read_object

VERSION = "1"  # part of the artifact's id: raise it when the result of a merge changes
BLOCK_BYTES = 8 << 20  # of a weight at a time: 32 MiB in float64
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx")


@dataclass(frozen=True)
class Weighted:
    """An adapter and its weight in the sum."""

    adapter: Adapter
    weight: float = 1.0


@dataclass(frozen=True)
class Delta:
    """What is added to one weight: factor * B A, or its transpose for weights stored as (in, out)."""

    a: Float64
    b: Float64
    factor: float
    transposed: bool

    def rows(self, start: int, stop: int) -> Float64:
        """Rows `start` to `stop` of the addend, in the layout of the weight."""
        if self.transposed:
            return self.factor * (self.a.T[start:stop] @ self.b.T)
        return self.factor * (self.b[start:stop] @ self.a)


def merged_dtype(base: Base, info: TensorInfo, dtype: str) -> str:
    """The dtype that a tensor of the base has after the merge.

    Only what is stored in the base's own dtype is converted: what somebody keeps in another one, a router
    in float32, is so for a reason.
    """
    if dtype == "auto" or info.dtype != base.dtype or info.dtype not in FLOATS:
        return info.dtype
    return safetensors_dtype(dtype)


def merged_size(base: Base, dtype: str) -> int:
    """Bytes of the merged weights."""
    width = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
    sizes = 0
    for info in base.tensors():
        target = merged_dtype(base, info, dtype)
        sizes += info.size if target == info.dtype else info.size // width[info.dtype] * width[target]
    return sizes


def merge(base: Base, adapters: Sequence[Weighted], out: Path, dtype: str, progress: Progress) -> None:
    """Writes the merged checkpoint to `out`, which may hold finished shards of the same merge.

    `dtype` is auto, bfloat16, float16 or float32. Raises PermanentError if the result is not finite.
    """
    progress.stage("merge", base.size)
    out.mkdir(parents=True, exist_ok=True)
    for shard in sorted(base.shards):
        if (out / shard).exists():
            progress.advance(sum(t.size for t in base.shards[shard].tensors.values()))
        else:
            _merge_shard(base, shard, adapters, out / shard, dtype, progress)
    _copy_the_rest(base, out, dtype)
    sync(out)


def _merge_shard(
    base: Base, shard: str, adapters: Sequence[Weighted], target: Path, dtype: str, progress: Progress
) -> None:
    header, source = base.shards[shard], base.path / shard
    plan = [(t, merged_dtype(base, t, dtype)) for t in header.tensors.values()]
    partial = target.with_name(f"{target.name}.partial")
    with partial.open("wb") as f:
        f.write(encode_header(((t.name, d, t.shape) for t, d in plan), header.metadata))
        for info, to in plan:
            for block in _merged(read_raw(source, info), info, to, _deltas(adapters, info.name)):
                f.write(block)
            progress.advance(info.size)
        f.flush()
        os.fchmod(f.fileno(), 0o644)
        os.fsync(f.fileno())
    read_header(partial)  # the file on the disk is whole and says what it should
    partial.rename(target)


def _merged(raw: NDArray[np.uint8], info: TensorInfo, to: str, deltas: Sequence[Delta]) -> Iterator[memoryview]:
    """The bytes of one tensor after the merge, in blocks of whole rows."""
    if not deltas and to == info.dtype:
        for start in range(0, raw.size, BLOCK):
            yield raw[start : start + BLOCK].data
        return
    rows = info.shape[0] if info.shape else 1
    width = raw.size // max(rows, 1)
    step = max(1, BLOCK_BYTES // max(width, 1))
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        values = decode(raw[start * width : stop * width], info.dtype)
        if deltas:
            values = values.reshape(stop - start, -1)
            for delta in deltas:
                values += delta.rows(start, stop)
        result = np.ascontiguousarray(encode(values, to))
        if not all_finite(result.reshape(-1).view(np.uint8), to):
            raise PermanentError(
                f"{info.name} is not finite after the merge: too large for {to}, or the base holds NaN",
                reason=Reason.NON_FINITE_WEIGHTS,
            )
        yield result.data


def _deltas(adapters: Sequence[Weighted], tensor: str) -> list[Delta]:
    module = tensor.removesuffix(".weight")
    found = []
    for weighted in adapters:
        lora = weighted.adapter.modules.get(module) if tensor.endswith(".weight") else None
        if lora is not None and lora.a is not None and lora.b is not None:
            adapter = weighted.adapter
            factor = weighted.weight * adapter.config.scaling_of(module)
            a, b = (decode(adapter.raw(t), t.dtype).reshape(t.shape) for t in (lora.a, lora.b))
            found.append(Delta(a, b, factor, adapter.config.fan_in_fan_out))
    return found


def other_files(base: Base) -> list[str]:
    """Config, tokenizer and the like; without weights in other formats, hidden files and directories."""
    return sorted(
        p.name
        for p in base.path.iterdir()
        if p.is_file() and not p.name.startswith(".") and not p.name.endswith((*_WEIGHTS, ".index.json"))
    )


def _copy_the_rest(base: Base, out: Path, dtype: str) -> None:
    for name in other_files(base):
        copy_file((base.path / name).resolve(), out / name, 1 << 40)
        (out / name).chmod(0o644)
    if dtype != "auto" and safetensors_dtype(dtype) != base.dtype:
        _set_dtype(out / "config.json", dtype)
    if (base.path / INDEX).is_file():
        index = read_object(base.path / INDEX, 256 << 20)
        if isinstance(index.get("metadata"), dict):
            index["metadata"]["total_size"] = merged_size(base, dtype)
        (out / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def _set_dtype(config: Path, dtype: str) -> None:
    document = read_object(config)
    for part in (document, document.get("text_config")):
        if isinstance(part, dict):
            for key in ("dtype", "torch_dtype"):
                if key in part:
                    part[key] = dtype
    if "dtype" not in document and "torch_dtype" not in document:
        document["dtype"] = dtype
    config.write_text(json.dumps(document, indent=2) + "\n")
