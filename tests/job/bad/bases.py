"""Adapters that were made for another base, and bases that nothing can be merged into."""

from __future__ import annotations

import json

from controller.job.reasons import Reason
from tests.job.bad.making import LORA_Q, STABLE, Bad, file, on, plain, setting, tokenizer
from tests.job.odd_models import (
    FUSED_EXPERTS,
    LLAMA,
    MIXTRAL,
    PHI,
    Q0,
    QWEN_MOE,
    SPLIT,
    TIED,
    VISION,
    WRAPPED,
    H,
    I,
    V,
    lora_on,
    tensor,
)
from tests.job.tiny_models import lora_tensors

R = Reason

BASES = (
    Bad(
        "half the hidden size",
        R.BASE_MISMATCH,
        plain({k: (d, v[:, ::2] if "lora_A" in k else v[::2]) for k, (d, v) in lora_tensors().items()}),
    ),
    Bad("twice the hidden size", R.BASE_MISMATCH, plain(lora_tensors(scale=2))),
    Bad("a layer that does not exist", R.BASE_MISMATCH, plain(lora_tensors(layers=3))),
    Bad("a module that does not exist", R.BASE_MISMATCH, on(LLAMA, LORA_Q | lora_on({f"{Q0}x": (H, H)}))),
    Bad("fan_in_fan_out on a base of linear layers", R.BASE_MISMATCH, setting(fan_in_fan_out=True)),
    Bad(
        "fused projections on a base that splits them",
        R.BASE_MISMATCH,
        on(SPLIT, lora_on({"model.layers.0.self_attn.qkv_proj": (3 * H, H)})),
    ),
    Bad("split projections on a base that fuses them", R.BASE_MISMATCH, on(PHI, lora_on({Q0: (H, H)}))),
    Bad(
        "the multimodal wrapper by another name",
        R.BASE_MISMATCH,
        on(WRAPPED, lora_on({"model.language_model.layers.0.self_attn.q_proj": (H, H)})),
    ),
    Bad("a convolution", R.BASE_MISMATCH, on(VISION, lora_on({"vision_tower.patch_embedding": (8, 48)})), STABLE),
    Bad(
        "an expert too many",
        R.BASE_MISMATCH,
        on(QWEN_MOE, lora_on({f"model.layers.0.mlp.experts.{n}.up_proj": (I, H) for n in range(3)})),
    ),
    Bad(
        "experts by another model's names",
        R.BASE_MISMATCH,
        on(MIXTRAL, lora_on({"model.layers.0.mlp.experts.0.gate_proj": (I, H)})),
    ),
    Bad(
        "single experts on a base that fuses them",
        R.BASE_MISMATCH,
        on(FUSED_EXPERTS, lora_on({f"model.layers.0.mlp.experts.{n}.up_proj": (I, H) for n in range(2)})),
    ),
    Bad(
        "fused experts on a base that splits them",
        R.BASE_MISMATCH,
        on(QWEN_MOE, lora_on({"model.layers.0.mlp.experts": (H, 2 * I)})),
    ),
    Bad(
        "a base of another class",
        R.BASE_MISMATCH,
        on(LLAMA, LORA_Q, auto_mapping={"base_model_class": "Qwen2ForCausalLM"}),
    ),
    Bad(
        "the config.json of another model besides",
        R.BASE_MISMATCH,
        file("config.json", json.dumps({"model_type": "qwen2", "num_hidden_layers": 28})),
    ),
    Bad(
        "tokens that the embedding cannot hold",
        R.BASE_MISMATCH,
        tokenizer([f"t{i}" for i in range(50)], [f"t{i}" for i in range(48)]),
    ),
    Bad(
        "the tokenizer of another model",
        R.BASE_MISMATCH,
        tokenizer([f"u{i}" for i in range(48)], [f"t{i}" for i in range(48)]),
    ),
    Bad(
        "a trained token beyond the vocabulary",
        R.BASE_MISMATCH,
        on(
            LLAMA,
            LORA_Q | tensor("model.embed_tokens.token_adapter.trainable_tokens_delta", 2, H),
            trainable_token_indices=[1, V],
        ),
        STABLE,
    ),
    Bad(
        "a saved tensor of another shape",
        R.BASE_MISMATCH,
        on(LLAMA, LORA_Q | tensor("model.norm.weight", 2 * H), modules_to_save=["norm"]),
        STABLE,
    ),
    Bad(
        "a magnitude of another length",
        R.BASE_MISMATCH,
        on(LLAMA, LORA_Q | tensor(f"{Q0}.lora_magnitude_vector", H + 1), use_dora=True),
        STABLE,
    ),
    Bad(
        "a bias in lora_B, and none in the base",
        R.BASE_MISMATCH,
        on(LLAMA, LORA_Q | tensor(f"{Q0}.lora_B.bias", H), lora_bias=True),
        STABLE,
    ),
    Bad("modules_to_save that the base has not", R.BASE_MISMATCH, on(LLAMA, LORA_Q, modules_to_save=["score"]), STABLE),
    Bad(
        "different changes to what vLLM must tie",
        R.BASE_MISMATCH,
        on(TIED, lora_on({"lm_head": (V, H)}), {"model_type": "gemma2"}),
        STABLE,
    ),
    Bad("a base in float8, to be merged", R.INVALID_BASE, on(LLAMA, LORA_Q, dtype="F8_E4M3"), STABLE),
    Bad(
        "a quantized base, to be merged",
        R.INVALID_BASE,
        on(LLAMA, LORA_Q, base={"quantization_config": {"quant_method": "gptq"}}),
        STABLE,
    ),
)
