"""Adapters that must not get through, made from a good one without training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]


def _variant(good: Path, out: Path, change: Callable[[Tensors], Tensors], **config: object) -> None:
    if out.exists():
        shutil.rmtree(out)
    shutil.copytree(good, out)
    save_file(change(load_file(good / "adapter_model.safetensors")), out / "adapter_model.safetensors")
    path = out / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config, indent=2))


def with_nan(good: Path, out: Path) -> None:
    """vLLM takes it with 200, and it then spoils the answers of other models."""

    def spoil(tensors: Tensors) -> Tensors:
        name = sorted(n for n in tensors if "lora_B" in n)[0]
        return tensors | {name: torch.full_like(tensors[name], float("nan"))}

    _variant(good, out, spoil)


def for_another_base(good: Path, out: Path) -> None:
    """Tensors of half the hidden size."""

    def halve(tensors: Tensors) -> Tensors:
        return {
            n: (t[:, : t.shape[1] // 2] if "lora_A" in n else t[: t.shape[0] // 2]).contiguous()
            for n, t in tensors.items()
        }

    _variant(good, out, halve, base_model_name_or_path="another/base")


def with_high_rank(good: Path, out: Path, rank: int = 32) -> None:
    """Zeroes added up to a rank that the server does not take."""

    def widen(tensors: Tensors) -> Tensors:
        wide = {}
        for name, tensor in tensors.items():
            shape = (rank, tensor.shape[1]) if "lora_A" in name else (tensor.shape[0], rank)
            wide[name] = torch.zeros(shape, dtype=tensor.dtype)
            wide[name][: tensor.shape[0], : tensor.shape[1]] = tensor
        return wide

    _variant(good, out, widen, r=rank, lora_alpha=2 * rank)


def scaled(good: Path, out: Path, factor: float = 1.02) -> None:
    """Another version of a good adapter: other weights, the same answers."""

    def scale(tensors: Tensors) -> Tensors:
        return {n: (t * factor if "lora_B" in n else t).contiguous() for n, t in tensors.items()}

    _variant(good, out, scale)
