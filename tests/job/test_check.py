"""What a good adapter is, and how all reasons are told of one that is not. The bad ones: test_check_bad.py."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.job.base import read_base
from controller.job.check import check_adapter, examine
from controller.job.contract import Use
from controller.job.reasons import Reason
from tests.job import odd_models, tiny_models
from tests.job.odd_models import (
    GPT2,
    LLAMA,
    MIXTRAL,
    PHI,
    Q0,
    QWEN_MOE,
    TIED,
    WITH_BIAS,
    WRAPPED,
    H,
    I,
    Shapes,
    V,
    lora_on,
    tensor,
)
from tests.job.tiny_models import Tensors, lora_config, lora_tensors

FIRST = "base_model.model.model.layers.0.self_attn.q_proj"


def reasons(path: Path, base: Path, rank: int | None = 16, use: Use = Use.SERVE) -> list[str]:
    return [str(f.reason) for f in check_adapter(path, read_base(base), rank, use)[1]]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_models.base(tmp_path / "base")


def without(name: str) -> Tensors:
    return {k: v for k, v in lora_tensors().items() if name not in k}


GOOD: dict[str, tuple[Tensors, dict[str, Any]]] = {
    "as PEFT writes it": (lora_tensors(), lora_config()),
    "bfloat16": (lora_tensors(dtype="BF16"), lora_config()),
    "a pattern for the targets": (lora_tensors(), lora_config(target_modules=r".*\.(q|k|up|down)_proj")),
    "a pattern that looks ahead": (lora_tensors(), lora_config(target_modules=r"(?!.*lm_head).*_proj")),
    "all linear layers": (lora_tensors(), lora_config(target_modules="all-linear")),
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
    "EVA, which leaves the base alone": (lora_tensors(), lora_config(init_lora_weights="eva", eva_config={"rho": 2.0})),
    "a setting of a later PEFT that is off": (lora_tensors(), lora_config(use_quantum=False, later_config=None)),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_good_adapter_is_accepted(case: str, base: Path, tmp_path: Path) -> None:
    tensors, config = GOOD[case]
    path = tiny_models.adapter(tmp_path / "adapter", tensors, config)
    assert check_adapter(path, read_base(base), 16)[1] == ()


EXPERTS = {f"model.layers.0.mlp.experts.{n}.up_proj": (I, H) for n in range(2)}
MIXTRAL_EXPERTS = {f"model.layers.0.block_sparse_moe.experts.{n}.w2": (H, I) for n in range(2)}
ARCHITECTURES: dict[str, tuple[Shapes, Tensors, list[str]]] = {
    "fused projections": (PHI, lora_on({"model.layers.0.self_attn.qkv_proj": (3 * H, H)}), ["qkv_proj"]),
    "experts of Qwen": (QWEN_MOE, lora_on(EXPERTS), ["up_proj"]),
    "experts of Mixtral": (MIXTRAL, lora_on(MIXTRAL_EXPERTS), ["w2"]),
    "a router": (MIXTRAL, lora_on({"model.layers.0.block_sparse_moe.gate": (2, H)}), ["gate"]),
    "a multimodal wrapper": (WRAPPED, lora_on({f"language_model.{Q0}": (H, H)}), ["q_proj"]),
    "weights as (in, out)": (GPT2, lora_on({"h.0.attn.c_attn": (3 * H, H)}), ["c_attn"]),
    "an output layer of its own": (LLAMA, lora_on({"lm_head": (V, H)}), ["lm_head"]),
}


@pytest.mark.parametrize("case", ARCHITECTURES)
def test_layers_are_recognised_as_the_base_stores_them(case: str, tmp_path: Path) -> None:
    shapes, tensors, targets = ARCHITECTURES[case]
    base = odd_models.base_of(tmp_path / "base", shapes)
    config = lora_config(target_modules=targets, fan_in_fan_out=shapes is GPT2)
    path = tiny_models.adapter(tmp_path / "adapter", tensors, config)
    assert [reasons(path, base, use=use) for use in Use] == [[], [], []]


LORA_Q = lora_on({Q0: (H, H)})
EMBEDDING = tensor("model.embed_tokens.lora_embedding_A", 4, V) | tensor("model.embed_tokens.lora_embedding_B", H, 4)
RESIZED = tensor("model.embed_tokens.weight", V + 8, H) | tensor("lm_head.weight", V + 8, H)
MERGEABLE: dict[str, tuple[Shapes, Tensors, dict[str, Any]]] = {
    "DoRA": (LLAMA, LORA_Q | tensor(f"{Q0}.lora_magnitude_vector", H), {"use_dora": True}),
    "DoRA as older PEFT wrote it": (
        LLAMA,
        LORA_Q | tensor(f"{Q0}.lora_magnitude_vector.weight", H),
        {"use_dora": True},
    ),
    "all biases": (
        WITH_BIAS,
        LORA_Q | tensor(f"{Q0}.bias", H) | tensor("model.layers.0.mlp.up_proj.bias", I),
        {"bias": "all"},
    ),
    "biases of adapted layers": (WITH_BIAS, LORA_Q | tensor(f"{Q0}.base_layer.bias", H), {"bias": "lora_only"}),
    "a bias in lora_B": (WITH_BIAS, LORA_Q | tensor(f"{Q0}.lora_B.bias", H), {"lora_bias": True}),
    "a saved layer": (LLAMA, LORA_Q | tensor("lm_head.weight", V, H), {"modules_to_save": ["lm_head"]}),
    "trained tokens": (
        LLAMA,
        LORA_Q | tensor("model.embed_tokens.token_adapter.trainable_tokens_delta", 2, H),
        {"trainable_token_indices": [1, 40]},
    ),
    "an embedding": (LLAMA, LORA_Q | EMBEDDING, {"target_modules": ["q_proj", "embed_tokens"]}),
    "a resized vocabulary": (LLAMA, LORA_Q | RESIZED, {}),
    "a tied output layer": (TIED, lora_on({"lm_head": (V, H)}), {"target_modules": ["lm_head"]}),
}


@pytest.mark.parametrize("case", MERGEABLE)
def test_what_vllm_cannot_serve_is_refused_unless_it_is_only_merged(case: str, tmp_path: Path) -> None:
    shapes, tensors, changes = MERGEABLE[case]
    base = odd_models.base_of(tmp_path / "base", shapes)
    path = tiny_models.adapter(tmp_path / "adapter", tensors, lora_config(**{"target_modules": ["q_proj"], **changes}))
    assert reasons(path, base, use=Use.MERGE) == []
    (to_serve,) = check_adapter(path, read_base(base), 16, Use.SERVE)[1]
    assert to_serve.reason is Reason.NOT_SERVABLE_DYNAMICALLY
    assert "vLLM cannot serve this dynamically; it can be merged: set stage: Stable" in to_serve.message
    report = examine(path, read_base(base), 16, Use.EITHER)
    assert report.findings == ()
    assert report.merge_only and "; ".join(report.merge_only) in to_serve.message


def test_the_server_s_rank_is_no_limit_of_a_merge(base: Path, tmp_path: Path) -> None:
    path = tiny_models.adapter(tmp_path / "adapter", lora_tensors(rank=32), lora_config(32))
    assert [reasons(path, base, 16, use) for use in Use] == [[Reason.RANK_TOO_HIGH], [], [Reason.RANK_TOO_HIGH]]
    assert examine(path, read_base(base), 16, Use.EITHER).merge_only == ()


def test_all_reasons_are_told_at_once(base: Path, tmp_path: Path) -> None:
    tensors = lora_tensors(rank=32, layers=3)
    tensors[f"{FIRST}.lora_A.weight"][1][0, 0] = math.nan
    del tensors[f"{FIRST}.lora_B.weight"]
    tensors["base_model.model.lora_X"] = ("F32", np.ones(1))
    path = tiny_models.adapter(tmp_path / "adapter", tensors, lora_config(32, bias="all"))
    (path / "optimizer.pt").write_bytes(b"x")
    assert set(reasons(path, base)) == {
        Reason.UNSUPPORTED_FORMAT,
        Reason.INVALID_CONFIG,
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


def test_layers_beyond_the_config_are_no_loss(tmp_path: Path) -> None:
    """A multi-token prediction layer lies in the checkpoint, but transformers does not build it."""
    base = tiny_models.base(tmp_path / "base", layers=3, config={"num_hidden_layers": 2})
    assert reasons(tiny_models.adapter(tmp_path / "adapter"), base) == []


def test_a_module_for_multi_token_prediction_is_no_loss(tmp_path: Path) -> None:
    base = odd_models.base_of(tmp_path / "base", {**LLAMA, f"mtp.{Q0.removeprefix('model.')}.weight": (H, H)})
    path = tiny_models.adapter(tmp_path / "adapter", LORA_Q, lora_config(target_modules=["q_proj"]))
    assert reasons(path, base) == []


def test_a_base_in_float8_can_be_served_but_not_merged_into(tmp_path: Path) -> None:
    base = odd_models.base_of(tmp_path / "base", LLAMA, "F8_E4M3")
    path = tiny_models.adapter(tmp_path / "adapter", LORA_Q, lora_config(target_modules=["q_proj"]))
    assert [reasons(path, base, use=use) for use in Use] == [[], [Reason.INVALID_BASE], []]


def test_a_base_whose_shapes_are_packed_cannot_be_checked(tmp_path: Path) -> None:
    shapes = {n.replace("q_proj.weight", "q_proj.weight_packed"): s for n, s in LLAMA.items()}
    base = odd_models.base_of(tmp_path / "base", shapes)
    path = tiny_models.adapter(tmp_path / "adapter", LORA_Q, lora_config(target_modules=["q_proj"]))
    assert Reason.INVALID_BASE in reasons(path, base)
