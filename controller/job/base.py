"""The base model on disk: its config, and the names, dtypes and shapes of its tensors. Reads headers only.

Must not know of adapters.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.errors import PermanentError
from controller.job.reasons import Reason
from controller.job.safetensors_header import Header, HeaderError, TensorInfo, read_header
from controller.job.strict_json import read_object

INDEX = "model.safetensors.index.json"
_DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64"}
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|layer)\.([0-9]+)\.")


@dataclass(frozen=True)
class Base:
    """`shards` by file name; `location` names the shard of each tensor."""

    path: Path
    config: Mapping[str, Any]
    shards: Mapping[str, Header]
    location: Mapping[str, str]

    def tensor(self, name: str) -> TensorInfo | None:
        shard = self.location.get(name)
        return self.shards[shard].tensors[name] if shard is not None else None

    @cached_property  # asked for each tensor
    def dtype(self) -> str:
        """What most bytes of the weights are stored in; of two that have as many, what config.json says."""
        sizes: dict[str, int] = {}
        for info in self.tensors():
            sizes[info.dtype] = sizes.get(info.dtype, 0) + info.size
        return max(sizes, key=lambda d: (sizes[d], d == self.named_dtype))

    @property
    def named_dtype(self) -> str | None:
        """What the weights are stored in by config.json, which may be wrong."""
        text = self.config.get("text_config") if isinstance(self.config.get("text_config"), dict) else {}
        for config in (self.config, text or {}):
            named = config.get("dtype") or config.get("torch_dtype")
            if isinstance(named, str) and named.removeprefix("torch.") in _DTYPES:
                return _DTYPES[named.removeprefix("torch.")]
        return None

    @property
    def layers(self) -> int | None:
        """Number of hidden layers by config.json, if it says so."""
        text = self.config.get("text_config")
        for config in (self.config, text if isinstance(text, dict) else {}):
            for key in ("num_hidden_layers", "n_layer", "num_layers"):
                if isinstance(config.get(key), int):
                    return int(config[key])
        return None

    @property
    def size(self) -> int:
        return sum(info.size for info in self.tensors())

    def tensors(self) -> list[TensorInfo]:
        return [info for header in self.shards.values() for info in header.tensors.values()]


def layer_of(name: str) -> int | None:
    """The layer that a tensor or module belongs to: 3 for `model.layers.3.mlp.up_proj`."""
    found = _LAYER.search(name + ".")
    return int(found[1]) if found else None


def safetensors_dtype(name: str) -> str:
    """`bfloat16` -> `BF16`."""
    return _DTYPES[name]


def read_raw(path: Path, info: TensorInfo) -> NDArray[np.uint8]:
    """The bytes of a tensor, mapped, not read."""
    if not info.size:
        return np.empty(0, np.uint8)
    return np.memmap(path, np.uint8, "r", offset=info.start, shape=(info.size,))


def find_base(model: str, revision: str | None = None) -> Path:
    """The directory of `model`: a path, or a Hub id in the local Hub cache. Nothing is downloaded."""
    path = Path(model)
    if path.is_dir():
        return path
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", model):
        repository = _hub_cache() / f"models--{model.replace('/', '--')}"
        commit = revision or "main"
        reference = repository / "refs" / commit
        if re.fullmatch(r"[\w.-]+", commit) and reference.is_file():
            commit = reference.read_text().strip()
        snapshot = repository / "snapshots" / commit
        if re.fullmatch(r"[\w.-]+", commit) and snapshot.is_dir():
            return snapshot
    raise PermanentError(
        f"base model {model!r} is neither a directory nor in the Hub cache: mount the volume that holds it",
        reason=Reason.BASE_MODEL_NOT_FOUND,
    )


def _hub_cache() -> Path:
    if "HF_HUB_CACHE" in os.environ:
        return Path(os.environ["HF_HUB_CACHE"])
    home = os.environ.get("HF_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "huggingface") / "hub"


def read_base(path: Path) -> Base:
    """Config and headers of the model in `path`. Raises PermanentError if it cannot be merged into."""
    try:
        config = read_object(path / "config.json")
        shards = {name: read_header(path / name) for name in _shard_names(path)}
    except (HeaderError, ValueError, OSError) as e:
        raise PermanentError(f"base model in {path}: {e}", reason=Reason.INVALID_BASE) from e
    location: dict[str, str] = {}
    for shard, header in shards.items():
        for name in header.tensors:
            if name in location:
                raise PermanentError(
                    f"base model in {path}: {name} is in both {location[name]} and {shard}",
                    reason=Reason.INVALID_BASE,
                )
            location[name] = shard
    if not location:
        raise PermanentError(f"base model in {path} has no tensors", reason=Reason.INVALID_BASE)
    return Base(path, config, shards, location)


def _shard_names(path: Path) -> list[str]:
    """Files of the checkpoint. Mistral's repositories hold the weights twice (consolidated.safetensors)."""
    if (path / INDEX).is_file():
        files = read_object(path / INDEX, 256 << 20).get("weight_map")
        if not isinstance(files, dict) or not files:
            raise ValueError(f"{INDEX} has no weight_map")
        names = sorted({str(f) for f in files.values()})
        if bad := [n for n in names if Path(n).name != n]:
            raise ValueError(f"{INDEX} names {bad[0]!r}, which is not a file beside it")
        return names
    if (path / "model.safetensors").is_file():
        return ["model.safetensors"]
    names = sorted(p.name for p in path.glob("*.safetensors"))
    if not names:
        raise ValueError("no *.safetensors file: convert the model first")
    return names
