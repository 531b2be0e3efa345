"""Every adapter that vLLM would take and must not, one row each."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.job.base import read_base
from controller.job.check import check_adapter
from controller.job.contract import Stage
from controller.job.reasons import Reason
from controller.job.safetensors_header import encode_header
from tests.job import tiny_models
from tests.job.tiny_models import Tensors, lora_config, lora_tensors

Q0 = "base_model.model.model.layers.0.self_attn.q_proj"


def reasons(path: Path, base: Path, rank: int | None = 16, stage: Stage = Stage.EXPERIMENTAL) -> list[str]:
    return [str(f.reason) for f in check_adapter(path, read_base(base), rank, stage)[1]]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_models.base(tmp_path / "base")


def without(name: str) -> Tensors:
    return {k: v for k, v in lora_tensors().items() if name not in k}


def with_value(value: float, dtype: str) -> Tensors:
    tensors = lora_tensors(dtype=dtype)
    tensors[f"{Q0}.lora_B.weight"][1][3, 1] = value
    return tensors


def with_more(name: str, shape: tuple[int, ...] = (4, 32)) -> Tensors:
    return lora_tensors() | {name: ("F32", np.zeros(shape))}


BAD: dict[str, tuple[Tensors, dict[str, Any], set[Reason]]] = {
    "half the hidden size": (
        {k: (d, v[:, ::2] if "lora_A" in k else v[::2]) for k, (d, v) in lora_tensors().items()},
        lora_config(),
        {Reason.BASE_MISMATCH},
    ),
    "twice the hidden size": (lora_tensors(scale=2), lora_config(), {Reason.BASE_MISMATCH}),
    "a layer that does not exist": (lora_tensors(layers=3), lora_config(), {Reason.BASE_MISMATCH}),
    "a module that does not exist": (
        with_more(f"{Q0}x.lora_A.weight") | with_more(f"{Q0}x.lora_B.weight", (32, 4)),
        lora_config(target_modules=["q_proj", "q_projx", "k_proj", "up_proj", "down_proj"]),
        {Reason.BASE_MISMATCH},
    ),
    "names of fused modules": (
        {k.replace("q_proj", "qkv_proj"): v for k, v in without("k_proj").items()},
        lora_config(target_modules=["qkv_proj", "up_proj", "down_proj"]),
        {Reason.BASE_MISMATCH},
    ),
    "a lora_A is missing": (without("layers.1.mlp.up_proj.lora_A"), lora_config(), {Reason.INCOMPLETE_TENSORS}),
    "a lora_B is missing": (without("layers.0.mlp.up_proj.lora_B"), lora_config(), {Reason.INCOMPLETE_TENSORS}),
    "a whole layer is missing": (without("layers.1."), lora_config(), {Reason.INCOMPLETE_TENSORS}),
    "a target module is missing": (without("k_proj"), lora_config(), {Reason.INCOMPLETE_TENSORS}),
    "no tensor at all": ({}, lora_config(), {Reason.INCOMPLETE_TENSORS}),
    "tensors that the config does not target": (
        lora_tensors(),
        lora_config(target_modules=["q_proj", "k_proj", "up_proj"]),
        {Reason.INVALID_CONFIG},
    ),
    "NaN in float32": (with_value(math.nan, "F32"), lora_config(), {Reason.NON_FINITE_WEIGHTS}),
    "infinity in float16": (with_value(math.inf, "F16"), lora_config(), {Reason.NON_FINITE_WEIGHTS}),
    "infinity in bfloat16": (with_value(1e39, "BF16"), lora_config(), {Reason.NON_FINITE_WEIGHTS}),
    "rank over the server's": (lora_tensors(rank=32), lora_config(32), {Reason.RANK_TOO_HIGH}),
    "rank of another config": (lora_tensors(rank=8), lora_config(4), {Reason.INVALID_CONFIG}),
    "rank hidden in a pattern": (
        lora_tensors(rank=32),
        lora_config(4, rank_pattern={".*": 32}),
        {Reason.RANK_TOO_HIGH},
    ),
    "DoRA": (lora_tensors(), lora_config(use_dora=True), {Reason.NOT_SERVABLE_DYNAMICALLY}),
    "a bias": (lora_tensors(), lora_config(bias="all"), {Reason.NOT_SERVABLE_DYNAMICALLY}),
    "modules_to_save": (lora_tensors(), lora_config(modules_to_save=["lm_head"]), {Reason.NOT_SERVABLE_DYNAMICALLY}),
    "PiSSA": (lora_tensors(), lora_config(init_lora_weights="pissa"), {Reason.NOT_SERVABLE_DYNAMICALLY}),
    "a magnitude vector": (
        with_more(f"{Q0}.lora_magnitude_vector", (32,)),
        lora_config(),
        {Reason.NOT_SERVABLE_DYNAMICALLY},
    ),
    "an embedding": (
        with_more("base_model.model.model.embed_tokens.lora_embedding_A"),
        lora_config(),
        {Reason.NOT_SERVABLE_DYNAMICALLY},
    ),
    "a whole weight": (
        with_more("base_model.model.lm_head.weight", (48, 32)),
        lora_config(),
        {Reason.NOT_SERVABLE_DYNAMICALLY},
    ),
    "another method": (lora_tensors(), lora_config(peft_type="LOHA"), {Reason.INVALID_CONFIG}),
    "a rank of zero": (lora_tensors(), lora_config() | {"r": 0}, {Reason.INVALID_CONFIG}),
    "alpha is a text": (lora_tensors(), lora_config(lora_alpha="16"), {Reason.INVALID_CONFIG}),
    "a pattern that does not compile": (
        lora_tensors(),
        lora_config(rank_pattern={"q_(proj": 4}),
        {Reason.INVALID_CONFIG},
    ),
    "no targets": (lora_tensors(), lora_config(target_modules=[]), {Reason.INVALID_CONFIG}),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_adapter_is_refused_for_its_reason_alone(case: str, base: Path, tmp_path: Path) -> None:
    tensors, config, expected = BAD[case]
    path = tiny_models.adapter(tmp_path / "adapter", tensors, config)
    assert set(reasons(path, base)) == expected


GOOD: dict[str, tuple[Tensors, dict[str, Any]]] = {
    "as PEFT writes it": (lora_tensors(), lora_config()),
    "bfloat16": (lora_tensors(dtype="BF16"), lora_config()),
    "a pattern for the targets": (
        without("_proj.").copy() | lora_tensors(),
        lora_config(target_modules=r".*\.(q|k|up|down)_proj"),
    ),
    "one layer only": (without("layers.0."), lora_config(layers_to_transform=[1])),
    "a module excluded": (without("layers.0.mlp.up_proj"), lora_config(exclude_modules=["layers.0.mlp.up_proj"])),
    "full names as targets": (
        {k: v for k, v in lora_tensors().items() if "layers.0.self_attn.q_proj" in k},
        lora_config(target_modules=["model.layers.0.self_attn.q_proj"]),
    ),
    "rank and alpha by pattern": (
        {k: (d, (v[:2] if "A" in k[-9:] else v[:, :2]) if "up" in k else v) for k, (d, v) in lora_tensors().items()},
        lora_config(rank_pattern={"up_proj": 2}, alpha_pattern={"layers.1.mlp.up_proj": 3}),
    ),
    "rsLoRA": (lora_tensors(), lora_config(use_rslora=True)),
    "settings of a later PEFT": (lora_tensors(), lora_config(some_new_setting={"a": 1})),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_good_adapter_is_accepted(case: str, base: Path, tmp_path: Path) -> None:
    tensors, config = GOOD[case]
    path = tiny_models.adapter(tmp_path / "adapter", tensors, config)
    assert check_adapter(path, read_base(base), 16)[1] == ()


def _pickle(path: Path) -> None:
    (path / "adapter_model.safetensors").rename(path / "adapter_model.bin")


def _link_out(path: Path) -> None:
    (path / "adapter_model.safetensors").rename(path.parent / "elsewhere")
    (path / "adapter_model.safetensors").symlink_to("../elsewhere")


def _cut(path: Path) -> None:
    file = path / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def _integers(path: Path) -> None:
    name = f"{Q0}.lora_A.weight"
    (path / "adapter_model.safetensors").write_bytes(encode_header([(name, "I8", (4, 32))], {}) + bytes(128))


BROKEN: dict[str, tuple[Callable[[Path], Any], Reason]] = {
    "a pickle": (_pickle, Reason.UNSUPPORTED_FORMAT),
    "a pickle besides": (lambda p: (p / "training_args.bin").write_bytes(b"x"), Reason.UNSUPPORTED_FORMAT),
    "a link out": (_link_out, Reason.UNSUPPORTED_FORMAT),
    "cut off": (_cut, Reason.UNSUPPORTED_FORMAT),
    "integers": (_integers, Reason.UNSUPPORTED_FORMAT),
    "no config": (lambda p: (p / "adapter_config.json").unlink(), Reason.INVALID_CONFIG),
    "config is a list": (lambda p: (p / "adapter_config.json").write_text("[]"), Reason.INVALID_CONFIG),
    "a name twice": (
        lambda p: (p / "adapter_config.json").write_text('{"peft_type":"LORA","r":1,"r":2}'),
        Reason.INVALID_CONFIG,
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_refused(case: str, base: Path, tmp_path: Path) -> None:
    change, expected = BROKEN[case]
    path = tiny_models.adapter(tmp_path / "adapter")
    change(path)
    assert expected in reasons(path, base)


def test_all_reasons_are_told_at_once(base: Path, tmp_path: Path) -> None:
    tensors = lora_tensors(rank=32, layers=3)
    tensors[f"{Q0}.lora_A.weight"][1][0, 0] = math.nan
    del tensors[f"{Q0}.lora_B.weight"]
    path = tiny_models.adapter(tmp_path / "adapter", tensors, lora_config(32, use_dora=True))
    (path / "optimizer.pt").write_bytes(b"x")
    assert set(reasons(path, base)) == {
        Reason.UNSUPPORTED_FORMAT,
        Reason.BASE_MISMATCH,
        Reason.INCOMPLETE_TENSORS,
        Reason.NON_FINITE_WEIGHTS,
        Reason.RANK_TOO_HIGH,
        Reason.NOT_SERVABLE_DYNAMICALLY,
    }


def test_a_message_says_where_and_what_to_do(base: Path, tmp_path: Path) -> None:
    path = tiny_models.adapter(tmp_path / "adapter", lora_tensors(layers=3))
    (finding,) = check_adapter(path, read_base(base))[1]
    assert "layer 2 does not exist, the base has 2 layers" in finding.message
    assert "model.layers.2.mlp.down_proj" in finding.message


def test_fan_in_fan_out_expects_the_transposed_weight(tmp_path: Path) -> None:
    base = tiny_models.base(tmp_path / "base")
    path = tiny_models.adapter(tmp_path / "adapter", config=lora_config(fan_in_fan_out=True))
    assert reasons(path, base) == [Reason.BASE_MISMATCH]


def test_layers_beyond_the_config_are_no_loss(tmp_path: Path) -> None:
    """A multi-token prediction layer lies in the checkpoint, but transformers does not build it."""
    base = tiny_models.base(tmp_path / "base", layers=3, config={"num_hidden_layers": 2})
    assert reasons(tiny_models.adapter(tmp_path / "adapter"), base) == []
