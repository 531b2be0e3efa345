"""Which weights a quantization changes, told by names and shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.job.base import Base, read_base
from controller.job.contract import Quantization
from controller.job.linears import is_left_alone, linears_of, quantized_size, unfit
from tests.job.tiny_models import write_safetensors

DATA = {"path": "/c", "root": "/"}


def quantization(method: str, **changes: Any) -> Quantization:
    data = {"calibration": DATA} if method != "FP8" else {}
    return Quantization.model_validate({"method": method, **data, **changes})


def base(path: Path, shapes: dict[str, tuple[int, ...]], dtype: str = "BF16") -> Base:
    path.mkdir()
    (path / "config.json").write_text('{"model_type": "llama"}')
    write_safetensors(path / "model.safetensors", {n: (dtype, np.zeros(s)) for n, s in shapes.items()})
    return read_base(path)


@pytest.mark.parametrize(
    "module",
    [
        "lm_head",
        "language_model.lm_head",
        "model.layers.0.mlp.gate",
        "model.layers.0.block_sparse_moe.gate",
        "model.layers.0.mlp.shared_expert_gate",
        "model.layers.0.mlp.router",
        "model.layers.0.block_sparse_moe.router.layer",
        "model.layers.0.feed_forward.router",
        "model.visual.blocks.0.attn.qkv",
        "model.vision_tower.encoder.layers.0.self_attn.q_proj",
        "vision_model.encoder.layers.3.mlp.fc1",
        "model.multi_modal_projector.linear_1",
        "model.audio_tower.layers.0.fc1",
    ],
)
def test_heads_routers_and_what_sees_are_left_alone(module: str) -> None:
    assert is_left_alone(module)


@pytest.mark.parametrize(
    "module",
    [
        "model.layers.0.mlp.gate_proj",
        "model.layers.0.mlp.experts.3.gate_proj",
        "model.layers.0.block_sparse_moe.experts.0.w1",
        "model.layers.0.self_attn.q_proj",
        "model.layers.0.mlp.shared_expert.up_proj",
        "model.language_model.layers.0.mlp.down_proj",
        "transformer.h.0.mlp.c_fc",
    ],
)
def test_matrices_of_the_layers_are_quantized(module: str) -> None:
    assert not is_left_alone(module)


MIXTURE = {
    "model.embed_tokens.weight": (8, 64),
    "model.norm.weight": (64,),
    "lm_head.weight": (8, 64),
    "model.layers.0.input_layernorm.weight": (64,),
    "model.layers.0.self_attn.q_proj.weight": (32, 64),
    "model.layers.0.self_attn.q_proj.bias": (32,),
    "model.layers.0.mlp.gate.weight": (4, 64),
    "model.layers.0.mlp.experts.0.up_proj.weight": (96, 64),
    "model.layers.1.mlp.experts.gate_up_proj": (4, 192, 64),
    "model.layers.1.mlp.experts.down_proj": (4, 64, 96),
    "model.visual.blocks.0.attn.qkv.weight": (30, 10),
}


def test_experts_count_one_by_one_or_as_one_tensor(tmp_path: Path) -> None:
    found = {x.tensor.name: (x.count, x.outputs, x.inputs) for x in linears_of(base(tmp_path / "b", MIXTURE))}
    assert found == {
        "model.layers.0.self_attn.q_proj.weight": (1, 32, 64),
        "model.layers.0.mlp.experts.0.up_proj.weight": (1, 96, 64),
        "model.layers.1.mlp.experts.gate_up_proj": (4, 192, 64),
        "model.layers.1.mlp.experts.down_proj": (4, 64, 96),
    }


@pytest.mark.parametrize(
    ("method", "changes", "bad"),
    [
        ("AWQ", {"groupSize": 32}, []),
        ("GPTQ", {"groupSize": 64}, ["model.layers.1.mlp.experts.down_proj"]),
        ("FP8", {}, []),
        ("INT8", {}, []),
    ],
)
def test_a_group_must_divide_the_inputs_of_every_expert(
    method: str, changes: dict[str, Any], bad: list[str], tmp_path: Path
) -> None:
    assert unfit(base(tmp_path / "b", MIXTURE), quantization(method, **changes)) == bad


def test_zero_points_are_packed_by_eight_outputs(tmp_path: Path) -> None:
    odd = base(tmp_path / "b", {"model.layers.0.self_attn.q_proj.weight": (12, 64)})
    assert unfit(odd, quantization("AWQ", groupSize=32)) == ["model.layers.0.self_attn.q_proj.weight"]
    assert unfit(odd, quantization("INT8")) == []


@pytest.mark.parametrize(
    ("method", "changes", "expected"),
    [
        ("AWQ", {"groupSize": 32}, 64 * 64 // 2 + 64 * 2 * 2),
        ("GPTQ", {"groupSize": 64}, 64 * 64 // 2 + 64 * 2),
        ("FP8", {}, 64 * 64 + 64 * 2),
        ("INT8", {}, 64 * 64 + 64 * 2),
    ],
)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_size_of_the_result_is_known_before(
    method: str, changes: dict[str, Any], expected: int, dtype: str, tmp_path: Path
) -> None:
    shapes = {"model.layers.0.self_attn.q_proj.weight": (64, 64), "lm_head.weight": (8, 64)}
    width = 2 if dtype == "bfloat16" else 4
    scales = expected - 64 * 64 * (1 if method in ("FP8", "INT8") else 0.5)
    found = quantized_size(base(tmp_path / "b", shapes), dtype, quantization(method, **changes))
    assert found == expected - scales + scales // 2 * width + 8 * 64 * width
