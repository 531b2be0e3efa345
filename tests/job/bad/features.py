"""Adapters that ask for what vLLM cannot serve, or nobody can."""

from __future__ import annotations

from controller.job.reasons import Reason
from tests.job.bad.making import EMBED, LORA_Q, STABLE, Bad, on, setting
from tests.job.odd_models import (
    LLAMA,
    Q0,
    SEES,
    TIED,
    VISION,
    WITH_BIAS,
    H,
    V,
    lora_on,
    tensor,
)

R = Reason

FEATURES = (
    Bad(
        "DoRA, to be served",
        R.NOT_SERVABLE_DYNAMICALLY,
        on(LLAMA, LORA_Q | tensor(f"{Q0}.lora_magnitude_vector", H), use_dora=True),
    ),
    Bad("trained biases, to be served", R.NOT_SERVABLE_DYNAMICALLY, setting(bias="all")),
    Bad(
        "a bias in lora_B, to be served",
        R.NOT_SERVABLE_DYNAMICALLY,
        on(WITH_BIAS, LORA_Q | tensor(f"{Q0}.lora_B.bias", H), lora_bias=True),
    ),
    Bad(
        "modules_to_save, to be served",
        R.NOT_SERVABLE_DYNAMICALLY,
        on(LLAMA, LORA_Q | tensor("lm_head.weight", V, H), modules_to_save=["lm_head"]),
    ),
    Bad(
        "trained tokens, to be served",
        R.NOT_SERVABLE_DYNAMICALLY,
        on(
            LLAMA,
            LORA_Q | tensor("model.embed_tokens.token_adapter.trainable_tokens_delta", 2, H),
            trainable_token_indices=[1, 2],
        ),
    ),
    Bad("a LoRA on the embedding, to be served", R.NOT_SERVABLE_DYNAMICALLY, on(LLAMA, LORA_Q | EMBED)),
    Bad(
        "a LoRA on a tied output layer, to be served",
        R.NOT_SERVABLE_DYNAMICALLY,
        on(TIED, lora_on({"lm_head": (V, H)}), base={"tie_word_embeddings": True}),
    ),
    Bad(
        "a LoRA on a vision tower, to be served",
        R.NOT_SERVABLE_DYNAMICALLY,
        on(VISION, lora_on({f"language_model.{Q0}": (H, H), SEES: (H, H)})),
    ),
    Bad(
        "a resized vocabulary, to be served",
        R.NOT_SERVABLE_DYNAMICALLY,
        on(LLAMA, LORA_Q | tensor("model.embed_tokens.weight", V + 2, H) | tensor("lm_head.weight", V + 2, H)),
    ),
    *(
        Bad(what, R.NOT_SERVABLE_DYNAMICALLY, setting(**{key: value}), STABLE)
        for what, key, value in (
            ("PiSSA", "init_lora_weights", "pissa_niter_16"),
            ("OLoRA", "init_lora_weights", "olora"),
            ("CorDA", "init_lora_weights", "corda"),
            ("LoftQ", "init_lora_weights", "loftq"),
            ("LoRA-GA", "init_lora_weights", "lora_ga"),
            ("repeated layers", "layer_replication", [[0, 2], [1, 2]]),
            ("LoRA on bare parameters", "target_parameters", ["mlp.experts.gate_up_proj"]),
            ("QALoRA", "use_qalora", True),
            ("block-diagonal LoRA", "use_bdlora", {"nblocks": 2}),
            ("activated LoRA", "alora_invocation_tokens", [1, 2]),
            ("KaSA", "kasa_config", {"beta": 0.1}),
            ("Arrow", "arrow_config", {"top_k": 3}),
        )
    ),
)
