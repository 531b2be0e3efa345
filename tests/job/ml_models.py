"""Runs in the ML environment (no pytest there): makes real tiny models with transformers and PEFT.

python -m tests.job.ml_models make DIR             bases, adapters of every kind, and PEFT's own merges
python -m tests.job.ml_models compare ONE OTHER    cosine similarity of the logits of two models, as JSON
python -m tests.job.ml_models answers DIR OUT      by kind, how far OUT/KIND answers from the live adapter, as JSON
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Kind:
    """An adapter: what its LoraConfig says, which base it is for, and how many tokens were added before."""

    config: Mapping[str, Any] = field(default_factory=dict)
    base: str = "base"
    added: int = 0


EVERY_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# What vLLM serves as it is.
SERVABLE = {
    "plain": Kind(),
    "rslora": Kind({"use_rslora": True}),
    "patterns": Kind(
        {
            "rank_pattern": {"up_proj": 2, r"layers\.1\.self_attn\.q_proj": 6},
            "alpha_pattern": {"down_proj": 5, r"layers\.0\..*": 3},
        }
    ),
    "one-layer": Kind({"layers_to_transform": [1]}),
    "regex": Kind({"target_modules": r".*\.(q|v)_proj"}),
}
WITH_EMBEDDINGS = [*EVERY_LINEAR, "embed_tokens", "lm_head"]
# What only a merge can take in.
MERGE_ONLY = {
    "dora": Kind({"use_dora": True}),
    "dora-rslora": Kind({"use_dora": True, "use_rslora": True, "rank_pattern": {"up_proj": 2}}),
    "bias-all": Kind({"bias": "all"}, "biased"),
    "bias-lora-only": Kind({"bias": "lora_only", "target_modules": ["q_proj", "up_proj"]}, "biased"),
    "lora-bias": Kind({"lora_bias": True}, "biased"),
    "saved-head": Kind({"modules_to_save": ["lm_head"]}),
    "saved-both": Kind({"modules_to_save": ["lm_head", "embed_tokens"]}),
    "saved-norm": Kind({"modules_to_save": ["input_layernorm"]}),
    "embeddings": Kind({"target_modules": WITH_EMBEDDINGS}),
    "dora-embeddings": Kind({"target_modules": WITH_EMBEDDINGS, "use_dora": True}),
    "tokens": Kind({"trainable_token_indices": [3, 250, 7]}),
    "tokens-of-head": Kind({"trainable_token_indices": {"embed_tokens": [3, 7], "lm_head": [5]}}),
    "resized": Kind({}, added=5),
    "resized-saved": Kind({"modules_to_save": ["lm_head", "embed_tokens"]}, added=5),
    "resized-tokens": Kind({"trainable_token_indices": [258, 259, 262]}, added=5),
    "tied-tokens": Kind({"trainable_token_indices": [3, 250, 7]}, "tied"),
    "tied-head": Kind({"modules_to_save": ["lm_head"]}, "tied"),
    "tied-embedding": Kind({"modules_to_save": ["embed_tokens"]}, "tied"),
    "tied-lora": Kind({"target_modules": [*EVERY_LINEAR, "embed_tokens"]}, "tied"),
    "tied-lora-head": Kind({"target_modules": [*EVERY_LINEAR, "lm_head"]}, "tied"),
    "tied-ensured": Kind({"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}, "tied"),
    "tied-resized": Kind({}, "tied", added=5),
    "fan-in-fan-out": Kind({"target_modules": ["c_attn", "c_fc", "c_proj"], "fan_in_fan_out": True}, "gpt2"),
    "fan-in-fan-out-dora": Kind(
        {"target_modules": ["c_attn", "c_fc", "c_proj"], "fan_in_fan_out": True, "use_dora": True}, "gpt2"
    ),
}
KINDS = SERVABLE | MERGE_ONLY


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = ["<pad>", "<end>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")
    fast.chat_template = "{% for m in messages %}{{ m['role'] + ':' + m['content'] + '<end>' }}{% endfor %}"
    return fast


def make(directory: Path) -> None:
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer = _tokenizer()
    for name, model in _bases(len(tokenizer)).items():
        for parameter_name, weight in model.named_parameters():
            if parameter_name.endswith("bias"):
                weight.data = torch.randn(weight.shape) * 0.1  # transformers begins with zeros
        model.to(torch.bfloat16).save_pretrained(directory / name, max_shard_size="100KB")
        tokenizer.save_pretrained(directory / name)
    for kind, about in KINDS.items():
        _make_adapter(directory, kind, about)
        merged = _adapted(directory, kind, about).merge_and_unload()
        save_file({k: v.clone() for k, v in merged.state_dict().items()}, directory / f"{kind}.peft.safetensors")


def _bases(vocabulary: int) -> dict[str, Any]:
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    def llama(**changes: Any) -> Any:
        sizes = {"vocab_size": vocabulary, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
        return LlamaForCausalLM(LlamaConfig(**{"tie_word_embeddings": False, **sizes, **heads, **changes}))

    return {
        "base": llama(),
        "tied": llama(tie_word_embeddings=True),
        "biased": llama(attention_bias=True, mlp_bias=True),
        "gpt2": GPT2LMHeadModel(GPT2Config(vocab_size=vocabulary, n_embd=64, n_layer=2, n_head=4, n_positions=64)),
    }


def _base(directory: Path, about: Kind, untied: bool) -> Any:
    """The base in float32. Untied where it is tied: PEFT's merge adds a LoRA on one of the two to both."""
    import torch
    from transformers import AutoModelForCausalLM

    path = directory / about.base
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    if about.added:
        torch.manual_seed(1)
        model.resize_token_embeddings(model.config.vocab_size + about.added)
    if untied and model.config.tie_word_embeddings:
        model.config.tie_word_embeddings = False
        head = model.get_output_embeddings()
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
    return model


def _make_adapter(directory: Path, kind: str, about: Kind) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import save_file

    settings = {"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM", "target_modules": EVERY_LINEAR, **about.config}
    adapted = get_peft_model(_base(directory, about, untied=False), LoraConfig(**settings))
    adapted.base_model.model.config._name_or_path = str(directory / about.base)
    adapted.peft_config["default"].base_model_name_or_path = str(directory / about.base)
    for weight in adapted.parameters():
        if weight.requires_grad:
            weight.data += torch.randn(weight.shape) * 0.05
    adapted.save_pretrained(directory / kind)
    save_file({"logits": _logits(adapted)}, directory / f"{kind}.live.safetensors")


def _adapted(directory: Path, kind: str, about: Kind) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(_base(directory, about, untied=True), directory / kind)


def _logits(model: Any) -> Any:
    import torch

    with torch.no_grad():
        return model.eval()(torch.arange(60).reshape(2, 30)).logits


def compare(one: str, other: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    a, b = (_logits(AutoModelForCausalLM.from_pretrained(m, dtype=torch.float32)) for m in (one, other))
    print(json.dumps({"cosine": torch.cosine_similarity(a, b, dim=-1).mean().item()}))


def answers(directory: Path, out: Path) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    far = {}
    for kind in KINDS:
        live = load_file(directory / f"{kind}.live.safetensors")["logits"]
        merged = _logits(AutoModelForCausalLM.from_pretrained(out / kind, dtype=torch.float32))
        far[kind] = (live - merged).abs().max().item() / live.abs().max().item()
    print(json.dumps(far))


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
    elif sys.argv[1] == "answers":
        answers(*map(Path, sys.argv[2:4]))
    else:
        compare(*sys.argv[2:4])
