"""Merges LoRA adapters into a base: exact, in memory that does not grow with the model, near the speed of copying.

W' = round(scale * (W + sum of weight * scaling * B A)), computed in float64 and rounded once. What no adapter changes
is copied byte for byte by the kernel, and never looked at: a NaN that the base holds there stays where it is. A shard
that is finished is not made again. Must not know where its result will be published.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from controller.errors import PermanentError
from controller.job.base import INDEX, Base, safetensors_dtype
from controller.job.changes import Changes, Weighted
from controller.job.fit import changes_of, merged_dtype
from controller.job.layout import plan_shard
from controller.job.progress import Progress
from controller.job.reasons import Reason
from controller.job.store import copy_file, sync
from controller.job.strict_json import read_object

__all__ = ["VERSION", "Weighted", "merge", "merged_dtype", "merged_size", "other_files", "write_other_files"]

VERSION = "3"  # part of the artifact's id: raise it when the result of a merge changes
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx")


def merged_size(base: Base, dtype: str, adapters: Sequence[Weighted] = ()) -> int:
    """Bytes of the merged weights. Without the adapters, as if they added none."""
    return changes_of(base, adapters, dtype).size


def merge(
    base: Base, adapters: Sequence[Weighted], out: Path, dtype: str, progress: Progress, threads: int | None = None
) -> None:
    """Writes the merged checkpoint to `out`, which may hold finished shards of the same merge.

    `dtype` is auto, bfloat16, float16 or float32; `threads` as many as there are processors, if not given. Raises
    RejectedError before anything is written if the adapters do not fit the base, PermanentError if a result is not
    finite, and OSError.
    """
    try:
        from controller.job.writer import is_finished, write_shards
    except ImportError as e:
        raise PermanentError(
            f"merging needs llvmlite ({e}): use the job image, or pip install '.[job]' in the checkout",
            reason=Reason.TOOL_MISSING,
        ) from e
    changes = changes_of(base, adapters, dtype)
    shards = [plan_shard(name, changes.shards[name], base.shards[name].metadata) for name in sorted(base.shards)]
    progress.stage("merge", sum(shard.size for shard in shards))
    out.mkdir(parents=True, exist_ok=True)
    left = [shard for shard in shards if not is_finished(out / shard.name, shard)]
    progress.skip(sum(shard.size for shard in shards) - sum(shard.size for shard in left))
    write_shards(left, out, progress, threads)
    write_other_files(base, changes, out, dtype)
    sync(out)


def other_files(base: Base) -> list[str]:
    """Config, tokenizer and the like; without weights in other formats, hidden files and directories."""
    return sorted(p.name for p in base.path.iterdir() if is_other_file(p))


def is_other_file(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and not path.name.endswith((*_WEIGHTS, ".index.json"))


def write_other_files(base: Base, changes: Changes, out: Path, dtype: str) -> None:
    """Everything but the weights: config.json and index as the merge makes them, the rest as it was."""
    for name in other_files(base):
        copy_file((base.path / name).resolve(), out / name, 1 << 40)
        (out / name).chmod(0o644)
    _edit_config(out / "config.json", _config_edits(base, changes, dtype))
    if (base.path / INDEX).is_file():
        index = read_object(base.path / INDEX, 256 << 20)
        if isinstance(index.get("metadata"), dict):
            index["metadata"]["total_size"] = changes.size
        index["weight_map"] = {change.name: shard for shard in changes.shards for change in changes.shards[shard]}
        (out / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def _config_edits(base: Base, changes: Changes, dtype: str) -> dict[str, Any]:
    edits: dict[str, Any] = {}
    if dtype != "auto" and safetensors_dtype(dtype) != (base.named_dtype or base.dtype):
        edits["dtype"] = dtype
    if changes.vocab_size is not None:
        edits["vocab_size"] = changes.vocab_size
    if changes.untied:
        edits["tie_word_embeddings"] = False
    return edits


def _edit_config(config: Path, edits: dict[str, Any]) -> None:
    """Sets what has changed, at the top and in the text model's part: each is read without the other.

    A part that does not say its dtype has that of the top.
    """
    if not edits:
        return
    document = read_object(config)
    text = document.get("text_config")
    parts = [document, *([text] if isinstance(text, dict) else [])]
    for key, value in edits.items():
        places = [(part, key) for part in parts]
        if key == "dtype":
            said = [(part, name) for part in parts for name in ("dtype", "torch_dtype") if name in part]
            places = said or [(document, key)]
        for part, name in places:
            part[name] = value
    config.write_text(json.dumps(document, indent=2) + "\n")
