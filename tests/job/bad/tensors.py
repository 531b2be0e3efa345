"""Adapters whose tensors are incomplete, not finite, or of too high a rank."""

from __future__ import annotations

import math

from controller.job.reasons import Reason
from tests.job.bad.making import LORA_Q, STABLE, Bad, on, plain, with_value, without
from tests.job.odd_models import (
    LLAMA,
    H,
    V,
    tensor,
)
from tests.job.tiny_models import lora_config, lora_tensors

R = Reason

TENSORS = (
    Bad("no tensor at all", R.INCOMPLETE_TENSORS, plain({})),
    Bad("a lora_A is missing", R.INCOMPLETE_TENSORS, plain(without("layers.1.mlp.up_proj.lora_A"))),
    Bad("a lora_B is missing", R.INCOMPLETE_TENSORS, plain(without("layers.0.mlp.up_proj.lora_B"))),
    Bad("a layer is missing", R.INCOMPLETE_TENSORS, plain(without("layers.1."))),
    Bad("a target is missing", R.INCOMPLETE_TENSORS, plain(without("k_proj"))),
    Bad(
        "a layer is missing of all-linear",
        R.INCOMPLETE_TENSORS,
        plain(without("layers.1.mlp.up_proj"), lora_config(target_modules="all-linear")),
    ),
    Bad("DoRA without a magnitude", R.INCOMPLETE_TENSORS, on(LLAMA, LORA_Q, use_dora=True), STABLE),
    Bad(
        "modules_to_save without its tensor",
        R.INCOMPLETE_TENSORS,
        on(LLAMA, LORA_Q, modules_to_save=["lm_head"]),
        STABLE,
    ),
    Bad(
        "trained tokens without their rows",
        R.INCOMPLETE_TENSORS,
        on(LLAMA, LORA_Q, trainable_token_indices=[1, 2]),
        STABLE,
    ),
    Bad(
        "a vocabulary resized in one place",
        R.INCOMPLETE_TENSORS,
        on(LLAMA, LORA_Q | tensor("model.embed_tokens.weight", V + 2, H)),
        STABLE,
    ),
    Bad("NaN in float32", R.NON_FINITE_WEIGHTS, plain(with_value(math.nan, "F32"))),
    Bad("infinity in float16", R.NON_FINITE_WEIGHTS, plain(with_value(math.inf, "F16"))),
    Bad("infinity in bfloat16", R.NON_FINITE_WEIGHTS, plain(with_value(1e39, "BF16"))),
    Bad("a rank over the server's", R.RANK_TOO_HIGH, plain(lora_tensors(rank=32), lora_config(32))),
    Bad(
        "a high rank in a pattern",
        R.RANK_TOO_HIGH,
        plain(lora_tensors(rank=32), lora_config(4, rank_pattern={".*": 32})),
    ),
)
