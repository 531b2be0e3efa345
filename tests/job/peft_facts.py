"""Runs in the ML environment (no pytest there): what the installed PEFT says and writes.

python -m tests.job.peft_facts ask QUESTIONS.json   fields of LoraConfig; which modules configs target, with what rank
python -m tests.job.peft_facts make DIR             bases, and adapters of every kind that can only be merged
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

# Kind -> (base, settings). On a Qwen2, since its projections have biases.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "dora": ("qwen", {"use_dora": True}),
    "bias-all": ("qwen", {"bias": "all"}),
    "bias-lora-only": ("qwen", {"bias": "lora_only"}),
    "lora-bias": ("qwen", {"lora_bias": True}),
    "saved-head": ("qwen", {"modules_to_save": ["lm_head"]}),
    "saved-norms": ("qwen", {"modules_to_save": ["norm", "input_layernorm"]}),
    "embedding": ("qwen", {"target_modules": ["q_proj", "embed_tokens"]}),
    "embedding-and-dora": ("qwen", {"target_modules": ["q_proj", "embed_tokens"], "use_dora": True}),
    "tokens": ("qwen", {"trainable_token_indices": [1, 7, 3]}),
    "tokens-by-name": ("qwen", {"trainable_token_indices": {"embed_tokens": [2]}}),
    "tied-tokens": ("tied", {"trainable_token_indices": [1, 7]}),
    "tied-embedding": ("tied", {"target_modules": ["embed_tokens"], "ensure_weight_tying": True}),
    "tied-saved-embedding": ("tied", {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}),
    "resized": ("qwen", {}),
}
SERVED: dict[str, dict[str, Any]] = {
    "all-linear": {"target_modules": "all-linear"},
    "pattern": {"target_modules": r"model\.layers\.[01]\..*(q|v)_proj"},
    "layers": {"layers_to_transform": [1], "layers_pattern": "layers"},
    "without": {"target_modules": ["q_proj", "up_proj"], "exclude_modules": r".*\.0\..*"},
    "eva-like": {"init_lora_weights": "orthogonal", "rank_pattern": {"model.layers.0.self_attn.q_proj": 2}},
}


def ask(questions: list[dict[str, Any]]) -> dict[str, Any]:
    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists
    from peft.utils.other import get_pattern_key

    answers = []
    for question in questions:
        config = LoraConfig(**question["config"])
        module = question["module"]
        rank = config.rank_pattern.get(get_pattern_key(config.rank_pattern.keys(), module), config.r)
        answers.append([bool(check_target_module_exists(config, module)), rank])
    return {"fields": [f.name for f in dataclasses.fields(LoraConfig)], "answers": answers}


def make(directory: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    torch.set_num_threads(1)
    for name, tied in (("qwen", False), ("tied", True)):
        config = Qwen2Config(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=tied,
        )
        Qwen2ForCausalLM(config).save_pretrained(directory / name)
    for kind, (base, changes) in (KINDS | {k: ("qwen", c) for k, c in SERVED.items()}).items():
        model = AutoModelForCausalLM.from_pretrained(directory / base)
        if kind == "resized":
            model.resize_token_embeddings(72)
        settings = {"r": 4, "task_type": "CAUSAL_LM", "target_modules": ["q_proj", "k_proj", "v_proj"], **changes}
        get_peft_model(model, LoraConfig(**settings)).save_pretrained(directory / kind)


if __name__ == "__main__":
    if sys.argv[1] == "ask":
        print(json.dumps(ask(json.loads(Path(sys.argv[2]).read_text()))))
    else:
        make(Path(sys.argv[2]))
