"""Adapters that must not get through, made out of a good one by numpy alone.

vLLM answers 200 when it is told to load any of them but the one whose rank is too high.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

Tensors = dict[str, np.ndarray[Any, Any]]
Config = dict[str, Any]


def with_nan(tensors: Tensors, config: Config) -> tuple[Tensors, Config]:
    """One NaN in one tensor: enough to corrupt answers of other models through the KV cache."""
    name = sorted(tensors)[0]
    tensors[name] = tensors[name].copy()
    tensors[name].flat[0] = np.nan
    return tensors, config


def for_another_base(tensors: Tensors, config: Config) -> tuple[Tensors, Config]:
    """Shapes of a base with half the hidden size."""

    def halved(name: str, tensor: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return tensor[:, : tensor.shape[1] // 2] if "lora_A" in name else tensor[: tensor.shape[0] // 2]

    halves = {name: np.ascontiguousarray(halved(name, tensor)) for name, tensor in tensors.items()}
    return halves, config | {"base_model_name_or_path": "another-base"}


def with_rank(rank: int) -> Callable[[Tensors, Config], tuple[Tensors, Config]]:
    """The same function with more rank, by zeros: only the server's --max-lora-rank is against it."""

    def padded(tensors: Tensors, config: Config) -> tuple[Tensors, Config]:
        more = rank - config["r"]
        wider = {
            name: np.pad(tensor, ((0, more), (0, 0)) if "lora_A" in name else ((0, 0), (0, more)))
            for name, tensor in tensors.items()
        }
        return wider, config | {"r": rank, "lora_alpha": config["lora_alpha"] * rank // config["r"]}

    return padded


def too_loud(tensors: Tensors, config: Config) -> tuple[Tensors, Config]:
    """Eight times the alpha it was trained with: loads and answers, and no answer is right."""
    return tensors, config | {"lora_alpha": config["lora_alpha"] * 8}


KINDS: dict[str, Callable[[Tensors, Config], tuple[Tensors, Config]]] = {
    "nan": with_nan,
    "other-base": for_another_base,
    "rank-too-high": with_rank(32),
    "loud": too_loud,
}


def break_adapter(good: Path, out: Path, kind: str) -> None:
    """Write to `out` the adapter at `good`, broken as `kind` (a key of KINDS) says."""
    shutil.copytree(good, out)
    weights, described = out / "adapter_model.safetensors", out / "adapter_config.json"
    tensors, config = KINDS[kind](load_file(weights), json.loads(described.read_text()))
    weights.unlink()
    save_file(tensors, weights, metadata={"format": "pt"})
    described.write_text(json.dumps(config, indent=2))
