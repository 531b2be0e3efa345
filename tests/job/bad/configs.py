"""Adapters whose adapter_config.json is malformed, or does not fit the tensors."""

from __future__ import annotations

import json

import numpy as np

from controller.job.reasons import Reason
from tests.job.bad.making import CONFIG, LORA_Q, STABLE, Bad, file, on, plain, setting
from tests.job.odd_models import (
    GPT2,
    LLAMA,
    Q0,
    WITH_BIAS,
    H,
    V,
    lora_on,
    tensor,
)
from tests.job.tiny_models import lora_config, lora_tensors

R = Reason

CONFIGS = (
    Bad("no config", R.INVALID_CONFIG, plain(change=lambda d: (d / "adapter" / CONFIG).unlink())),
    Bad("a config that is no object", R.INVALID_CONFIG, file(CONFIG, "[]")),
    Bad("a config with a name twice", R.INVALID_CONFIG, file(CONFIG, '{"peft_type":"LORA","r":1,"r":2}')),
    Bad("a config of deep JSON", R.INVALID_CONFIG, file(CONFIG, "{" + '"a":{' * 50_000)),
    Bad("NaN in the config", R.INVALID_CONFIG, file(CONFIG, '{"lora_alpha": NaN}')),
    Bad("another method than LoRA", R.INVALID_CONFIG, setting(peft_type="LOHA")),
    Bad("a rank of zero", R.INVALID_CONFIG, setting(r=0)),
    Bad("an insane rank", R.INVALID_CONFIG, setting(r=1 << 40)),
    Bad("an alpha that is a text", R.INVALID_CONFIG, setting(lora_alpha="16")),
    Bad(
        "an alpha that is infinite",
        R.INVALID_CONFIG,
        file(CONFIG, json.dumps(lora_config()).replace('"lora_alpha": 8', '"lora_alpha": 1e999')),
    ),
    Bad("an alpha of zero", R.INVALID_CONFIG, setting(lora_alpha=0)),
    Bad("a flag that is a text", R.INVALID_CONFIG, setting(use_rslora="false")),
    Bad("a rank pattern of text", R.INVALID_CONFIG, setting(rank_pattern={"q_proj": "4"})),
    Bad("a pattern that does not compile", R.INVALID_CONFIG, setting(rank_pattern={"q_(proj": 4})),
    Bad("a pattern that never ends (ReDoS)", R.INVALID_CONFIG, setting(target_modules=r"(?=(?:\w|[a-z]|\.)+!).*")),
    Bad("a pattern of endless length", R.INVALID_CONFIG, setting(exclude_modules="x?" * 1000)),
    Bad("no targets", R.INVALID_CONFIG, setting(target_modules=[])),
    Bad(
        "layers by number with a pattern for targets",
        R.INVALID_CONFIG,
        setting(target_modules=".*_proj", layers_to_transform=[0]),
    ),
    Bad("a setting that PEFT does not have", R.INVALID_CONFIG, setting(use_quantum=True)),
    Bad(
        "tensors that the config does not target",
        R.INVALID_CONFIG,
        setting(target_modules=["q_proj", "k_proj", "up_proj"]),
    ),
    Bad("a rank that is not the tensors'", R.INVALID_CONFIG, plain(lora_tensors(rank=8), lora_config(4))),
    Bad(
        "a tensor that nobody knows",
        R.INVALID_CONFIG,
        plain(lora_tensors() | {"model.layers.0.lora_C": ("F32", np.ones(4))}),
    ),
    Bad(
        "a magnitude without DoRA", R.INVALID_CONFIG, plain(lora_tensors() | tensor(f"{Q0}.lora_magnitude_vector", 32))
    ),
    Bad(
        "a trained bias that the config denies",
        R.INVALID_CONFIG,
        on(WITH_BIAS, LORA_Q | tensor(f"{Q0}.bias", H)),
        STABLE,
    ),
    Bad(
        "weights of Conv1D without fan_in_fan_out",
        R.INVALID_CONFIG,
        on(GPT2, lora_on({"h.0.attn.c_proj": (H, H)}), {"model_type": "gpt2"}),
    ),
    Bad("lora_A for an embedding", R.INVALID_CONFIG, on(LLAMA, lora_on({"model.embed_tokens": (V, H)}))),
)
