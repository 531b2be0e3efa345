"""Bases of other architectures and the adapters that belong to them, tiny, by the names of their tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from controller.job.safetensors_header import encode_header, size_of
from tests.job.tiny_models import Tensors, write_safetensors

Shapes = dict[str, tuple[int, ...]]
H, I, V = 32, 64, 48  # noqa: E741 - hidden, inner, vocabulary
Q0 = "model.layers.0.self_attn.q_proj"

LLAMA: Shapes = {
    "model.embed_tokens.weight": (V, H),
    "model.layers.0.self_attn.q_proj.weight": (H, H),
    "model.layers.0.mlp.up_proj.weight": (I, H),
    "model.norm.weight": (H,),
    "lm_head.weight": (V, H),
}
WITH_BIAS: Shapes = {**LLAMA, f"{Q0}.bias": (H,), "model.layers.0.mlp.up_proj.bias": (I,)}
TIED: Shapes = {n: s for n, s in LLAMA.items() if n != "lm_head.weight"}
PHI: Shapes = {
    "model.embed_tokens.weight": (V, H),
    "model.layers.0.self_attn.qkv_proj.weight": (3 * H, H),
    "model.layers.0.mlp.gate_up_proj.weight": (2 * I, H),
}
SPLIT: Shapes = {
    "model.embed_tokens.weight": (V, H),
    **{f"model.layers.0.self_attn.{p}_proj.weight": (H, H) for p in "qkv"},
    **{f"model.layers.0.mlp.{p}_proj.weight": (I, H) for p in ("gate", "up")},
}
MIXTRAL: Shapes = {
    "model.embed_tokens.weight": (V, H),
    "model.layers.0.block_sparse_moe.gate.weight": (2, H),
    **{f"model.layers.0.block_sparse_moe.experts.{n}.w{w}.weight": (I, H) for n in range(2) for w in (1, 3)},
    **{f"model.layers.0.block_sparse_moe.experts.{n}.w2.weight": (H, I) for n in range(2)},
}
QWEN_MOE: Shapes = {
    "model.embed_tokens.weight": (V, H),
    "model.layers.0.mlp.gate.weight": (2, H),
    **{f"model.layers.0.mlp.experts.{n}.{p}_proj.weight": (I, H) for n in range(2) for p in ("gate", "up")},
    **{f"model.layers.0.mlp.experts.{n}.down_proj.weight": (H, I) for n in range(2)},
}
FUSED_EXPERTS: Shapes = {
    "model.embed_tokens.weight": (V, H),
    "model.layers.0.mlp.experts.gate_up_proj": (2, 2 * I, H),
    "model.layers.0.mlp.experts.down_proj": (2, H, I),
}
GPT2: Shapes = {"wte.weight": (V, H), "h.0.attn.c_attn.weight": (H, 3 * H), "h.0.attn.c_proj.weight": (H, H)}
WRAPPED: Shapes = {f"language_model.{n}": s for n, s in LLAMA.items()}
SEES = "vision_tower.encoder.layers.0.self_attn.q_proj"
VISION: Shapes = {**WRAPPED, "vision_tower.patch_embedding.weight": (8, 3, 4, 4), f"{SEES}.weight": (H, H)}


def base_of(path: Path, shapes: Shapes, dtype: str = "BF16", config: Mapping[str, Any] | None = None) -> Path:
    """A base with tensors of these shapes."""
    path.mkdir(parents=True)
    document = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1}
    (path / "config.json").write_text(json.dumps(document | dict(config or {})))
    file = path / "model.safetensors"
    if dtype in ("BF16", "F16", "F32"):
        r = np.random.default_rng(0)
        write_safetensors(file, {n: (dtype, r.normal(size=s)) for n, s in shapes.items()})
    else:
        header = encode_header(((n, dtype, s) for n, s in shapes.items()), {})
        file.write_bytes(header + bytes(sum(size_of(dtype, s) for s in shapes.values())))
    return path


def lora_on(modules: dict[str, tuple[int, int]], rank: int = 4) -> Tensors:
    """A and B for each module of (out, in)."""
    r = np.random.default_rng(1)
    tensors: Tensors = {}
    for name, (out, inner) in modules.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = ("F32", r.normal(size=(rank, inner)))
        tensors[f"base_model.model.{name}.lora_B.weight"] = ("F32", r.normal(size=(out, rank)))
    return tensors


def tensor(name: str, *shape: int, value: float = 0.5) -> Tensors:
    """One more tensor of the adapter."""
    return {f"base_model.model.{name}": ("F32", np.full(shape, value))}
