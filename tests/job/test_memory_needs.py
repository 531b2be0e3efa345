"""How much memory a quantization will take, told before a weight is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.job.memory_needs import BESIDE_DEVICE, LIBRARIES, OF_DEVICE, Needs, Placement, needs_of, placed
from tests.job.test_linears import base, quantization

pytestmark = pytest.mark.slow

MIB = 1 << 20
LAYER = {"self_attn.q_proj": (1024, 1024), "mlp.up_proj": (4096, 1024), "mlp.down_proj": (1024, 4096)}
SHAPES = {"lm_head.weight": (64, 1024)} | {
    f"model.layers.{n}.{name}.weight": shape for n in range(2) for name, shape in LAYER.items()
}
MODEL = 2 * (64 * 1024 + 2 * 9 * MIB)


LENGTHS = [600, 400]
MASKS = 2 * (600**2 + 400**2)


@pytest.mark.parametrize("method", ["AWQ", "GPTQ", "FP8", "INT8"])
def test_the_model_is_in_memory_once_and_a_layer_is_worked_on(method: str, tmp_path: Path) -> None:
    needs = needs_of(base(tmp_path / "b", SHAPES), "auto", quantization(method), LENGTHS)
    assert needs.model == MODEL
    assert needs.layer == 2 * 9 * MIB
    assert 0 < needs.work < 512 * MIB
    assert needs.samples == 1000 * 2 * 2 * 1024 + MASKS
    assert placed(needs, None) == Placement(LIBRARIES + MODEL + needs.samples + needs.work + needs.inputs)


GIB = 1 << 30
NEEDS = Needs(model=8 * GIB, samples=4 * GIB, layer=1 * GIB, work=2 * GIB, inputs=16 * GIB)
HOST, DEVICE = LIBRARIES + BESIDE_DEVICE + 13 * GIB, OF_DEVICE + 3 * GIB


def test_on_a_device_only_the_layers_are_worked_on() -> None:
    assert placed(NEEDS, DEVICE + 16 * GIB) == Placement(HOST, DEVICE + 16 * GIB)


def test_inputs_that_the_device_has_no_room_for_wait_on_the_host() -> None:
    assert placed(NEEDS, DEVICE + 16 * GIB - 1) == Placement(HOST + 20 * GIB, DEVICE, inputs_on_host=True)
    assert placed(NEEDS, 0).device == DEVICE


def test_inputs_of_experts_always_wait_on_the_host() -> None:
    assert placed(replace(NEEDS, has_experts=True), 1 << 60) == placed(NEEDS, 0)


def test_a_method_that_keeps_no_inputs_has_none_on_the_host() -> None:
    assert placed(replace(NEEDS, inputs=0), 0) == Placement(HOST, DEVICE)


def test_large_embeddings_are_compared_with_the_head_on_the_device(tmp_path: Path) -> None:
    assert needs_of(base(tmp_path / "b", SHAPES), "auto", quantization("AWQ"), []).ends == 2 * 64 * 1024 * 5 // 2
    large = replace(NEEDS, ends=32 * GIB)
    assert placed(large, 1 << 60).device == placed(large, 0).device == OF_DEVICE + 32 * GIB
    assert placed(large, None) == placed(NEEDS, None)


@pytest.mark.parametrize("config", [{"num_attention_heads": 8}, {"text_config": {"num_attention_heads": 8}}])
def test_attention_has_a_number_for_each_pair_of_tokens_of_the_longest_sample(
    config: dict[str, Any], tmp_path: Path
) -> None:
    model = base(tmp_path / "b", SHAPES)
    without, with_heads = (
        needs_of(replace(model, config=c), "auto", quantization("GPTQ"), LENGTHS).work for c in ({}, config)
    )
    assert with_heads - without == 8 * 600**2 * (2 + 2 + 4 + 2)


def test_another_dtype_makes_another_size(tmp_path: Path) -> None:
    assert needs_of(base(tmp_path / "b", SHAPES), "float32", quantization("FP8"), []).model == 2 * MODEL


def test_more_layers_need_no_more_to_work_on(tmp_path: Path) -> None:
    more = SHAPES | {f"model.layers.{n}.{name}.weight": shape for n in range(2, 5) for name, shape in LAYER.items()}
    two, five = (needs_of(base(tmp_path / str(len(s)), s), "auto", quantization("GPTQ"), []) for s in (SHAPES, more))
    assert two.work == five.work
    assert two.model < five.model


def test_gptq_keeps_a_hessian_for_each_matrix_and_awq_what_it_was_calibrated_with(tmp_path: Path) -> None:
    model = base(tmp_path / "b", SHAPES)
    hessians = 4 * (1024**2 + 1024**2 + 4096**2)
    assert needs_of(model, "auto", quantization("GPTQ"), []).work > hessians
    assert needs_of(model, "auto", quantization("GPTQ"), LENGTHS).inputs == 0
    awq = needs_of(model, "auto", quantization("AWQ"), LENGTHS)
    assert awq.inputs == 1000 * 2 * (3 * 1024 + 4096) + MASKS
    assert awq.work - needs_of(model, "auto", quantization("AWQ"), []).work == 1000 * 2 * 2 * 1024


def test_experts_have_hessians_of_their_own(tmp_path: Path) -> None:
    one = needs_of(base(tmp_path / "one", SHAPES), "auto", quantization("GPTQ"), []).work
    experts = SHAPES | {"model.layers.0.mlp.experts.down_proj": (8, 1024, 4096)}
    many = needs_of(base(tmp_path / "many", experts), "auto", quantization("GPTQ"), [])
    assert many.work - one == 8 * 4 * 4096**2
    assert many.has_experts


def test_experts_in_one_tensor_count_as_so_many_matrices(tmp_path: Path) -> None:
    """What most of them take in is the width between layers, though two of three tensors take in another."""
    layer = "model.layers.0"
    low_rank = {f"{layer}.self_attn.{x}_b_proj.weight": (1024, 512) for x in ("q", "kv")}
    shapes = low_rank | {f"{layer}.mlp.experts.gate_up_proj": (8, 512, 1024)}
    needs = needs_of(base(tmp_path / "b", shapes), "auto", quantization("AWQ"), LENGTHS)
    assert needs.samples == 1000 * 2 * 2 * 1024 + MASKS
    assert needs.inputs == 1000 * 2 * (3 * 1024 + 2 * 512) + MASKS


def test_each_expert_takes_in_all_tokens(tmp_path: Path) -> None:
    layer = "model.layers.0.mlp.experts"
    shapes = {f"{layer}.{n}.{x}_proj.weight": (256, 1024) for n in range(8) for x in ("gate", "up")}
    shapes |= {f"{layer}.{n}.down_proj.weight": (1024, 256) for n in range(8)}
    needs = needs_of(base(tmp_path / "b", shapes), "auto", quantization("AWQ"), LENGTHS)
    assert needs.inputs == 1000 * 2 * (3 * 1024 + 8 * 256) + MASKS
    assert needs.has_experts
