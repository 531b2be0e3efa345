"""Makes tiny Llama-shaped bases and LoRA adapters on disk, with numpy and the project's own writer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from controller.job.floats import encode
from controller.job.safetensors_header import encode_header

HIDDEN, INNER, VOCAB = 32, 64, 48
LINEARS = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN // 2, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}
Tensors = dict[str, tuple[str, np.ndarray]]


def write_safetensors(path: Path, tensors: Tensors, metadata: dict[str, str] | None = None) -> None:
    """`tensors`: name -> (dtype, float64 values)."""
    header = encode_header(((n, d, v.shape) for n, (d, v) in tensors.items()), metadata or {})
    path.write_bytes(header + b"".join(np.ascontiguousarray(encode(v, d)).tobytes() for d, v in tensors.values()))


def base(
    path: Path,
    *,
    layers: int = 2,
    dtype: str = "BF16",
    shards: int = 1,
    config: dict[str, Any] | None = None,
    hidden: int = HIDDEN,
    seed: int = 0,
) -> Path:
    """A base with `layers` layers; `shards` > 1 writes an index."""
    r = np.random.default_rng(seed)
    tensors: Tensors = {"model.embed_tokens.weight": (dtype, r.normal(size=(VOCAB, hidden)))}
    for layer in range(layers):
        for name, (out, inner) in LINEARS.items():
            shape = (out * hidden // HIDDEN, inner * hidden // HIDDEN)
            tensors[f"model.layers.{layer}.{name}.weight"] = (dtype, r.normal(size=shape) * 0.1)
        tensors[f"model.layers.{layer}.input_layernorm.weight"] = (dtype, r.normal(size=(hidden,)))
    tensors["lm_head.weight"] = (dtype, r.normal(size=(VOCAB, hidden)))
    path.mkdir(parents=True)
    names = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
    document = {"model_type": "llama", "num_hidden_layers": layers, "dtype": names[dtype], **(config or {})}
    (path / "config.json").write_text(json.dumps(document))
    (path / "tokenizer.json").write_text("{}")
    _write_shards(path, tensors, shards)
    return path


def _write_shards(path: Path, tensors: Tensors, shards: int) -> None:
    if shards == 1:
        write_safetensors(path / "model.safetensors", tensors, {"format": "pt"})
        return
    weight_map = {}
    names = list(tensors)
    for i in range(shards):
        shard = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        mine = names[i * len(names) // shards : (i + 1) * len(names) // shards]
        write_safetensors(path / shard, {n: tensors[n] for n in mine}, {"format": "pt"})
        weight_map |= dict.fromkeys(mine, shard)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


def lora_tensors(*, rank: int = 4, layers: int = 2, dtype: str = "F32", scale: int = 1, seed: int = 1) -> Tensors:
    """A and B for every linear layer; `scale` multiplies the sizes (2: of a base twice as wide)."""
    r = np.random.default_rng(seed)
    tensors: Tensors = {}
    for layer in range(layers):
        for name, (out, inner) in LINEARS.items():
            module = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{module}.lora_A.weight"] = (dtype, r.normal(size=(rank, inner * scale)) * 0.1)
            tensors[f"{module}.lora_B.weight"] = (dtype, r.normal(size=(out * scale, rank)) * 0.1)
    return tensors


def lora_config(rank: int = 4, **changes: Any) -> dict[str, Any]:
    """What PEFT 0.21 writes for the adapter of `lora_tensors`."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny/base",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": ["q_proj", "k_proj", "up_proj", "down_proj"],
        "bias": "none",
        "use_dora": False,
        "use_rslora": False,
        "fan_in_fan_out": False,
        "modules_to_save": None,
        "rank_pattern": {},
        "alpha_pattern": {},
        "init_lora_weights": True,
        **changes,
    }


def adapter(path: Path, tensors: Tensors | None = None, config: dict[str, Any] | None = None) -> Path:
    path.mkdir(parents=True)
    write_safetensors(path / "adapter_model.safetensors", lora_tensors() if tensors is None else tensors)
    (path / "adapter_config.json").write_text(json.dumps(lora_config() if config is None else config))
    return path
