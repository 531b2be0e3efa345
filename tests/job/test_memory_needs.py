"""How much memory a quantization will take, told before a weight is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.job.memory_needs import LIBRARIES, needs_of
from tests.job.test_linears import base, quantization

MIB = 1 << 20
LAYER = {"self_attn.q_proj": (1024, 1024), "mlp.up_proj": (4096, 1024), "mlp.down_proj": (1024, 4096)}
SHAPES = {"lm_head.weight": (64, 1024)} | {
    f"model.layers.{n}.{name}.weight": shape for n in range(2) for name, shape in LAYER.items()
}
MODEL = 2 * (64 * 1024 + 2 * 9 * MIB)


@pytest.mark.parametrize("method", ["AWQ", "GPTQ", "FP8", "INT8"])
def test_the_model_is_in_memory_once_and_a_layer_is_worked_on(method: str, tmp_path: Path) -> None:
    needs = needs_of(base(tmp_path / "b", SHAPES), "auto", quantization(method), 1000)
    assert needs.model == MODEL
    assert 0 < needs.work < 512 * MIB
    assert needs.samples == 1000 * 2 * 2 * 1024
    assert needs.on_host(has_device=False) == LIBRARIES + needs.model + needs.samples + needs.work
    assert needs.on_host(has_device=True) == LIBRARIES + needs.model + needs.samples


def test_another_dtype_makes_another_size(tmp_path: Path) -> None:
    assert needs_of(base(tmp_path / "b", SHAPES), "float32", quantization("FP8"), 0).model == 2 * MODEL


def test_more_layers_need_no_more_to_work_on(tmp_path: Path) -> None:
    more = SHAPES | {f"model.layers.{n}.{name}.weight": shape for n in range(2, 5) for name, shape in LAYER.items()}
    two, five = (needs_of(base(tmp_path / str(len(s)), s), "auto", quantization("GPTQ"), 0) for s in (SHAPES, more))
    assert two.work == five.work
    assert two.model < five.model


def test_gptq_keeps_a_hessian_for_each_matrix_and_awq_what_it_was_calibrated_with(tmp_path: Path) -> None:
    model = base(tmp_path / "b", SHAPES)
    hessians = 4 * (1024**2 + 1024**2 + 4096**2)
    assert needs_of(model, "auto", quantization("GPTQ"), 0).work > hessians
    awq = [needs_of(model, "auto", quantization("AWQ"), tokens).work for tokens in (0, 1000)]
    assert awq[1] - awq[0] >= 1000 * 2 * (1024 + 4096)


def test_experts_have_hessians_of_their_own(tmp_path: Path) -> None:
    one = needs_of(base(tmp_path / "one", SHAPES), "auto", quantization("GPTQ"), 0).work
    experts = SHAPES | {"model.layers.0.mlp.experts.down_proj": (8, 1024, 4096)}
    many = needs_of(base(tmp_path / "many", experts), "auto", quantization("GPTQ"), 0).work
    assert many - one == 8 * 4 * 4096**2
