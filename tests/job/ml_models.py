"""Runs in the ML environment (no pytest there): makes real tiny models with transformers and PEFT.

python -m tests.job.ml_models make DIR             a base, adapters of every kind, and PEFT's own merges
python -m tests.job.ml_models compare ONE OTHER    cosine similarity of the logits of two models, as JSON
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "patterns": {
        "rank_pattern": {"up_proj": 2, r"layers\.1\.self_attn\.q_proj": 6},
        "alpha_pattern": {"down_proj": 5, r"layers\.0\..*": 3},
    },
    "one-layer": {"layers_to_transform": [1]},
    "regex": {"target_modules": r".*\.(q|v)_proj"},
}


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
    from peft import LoraConfig, PeftModel, get_peft_model
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer = _tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    )
    base = directory / "base"
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(base, max_shard_size="100KB")
    tokenizer.save_pretrained(base)
    for kind, changes in KINDS.items():
        lora = {"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM"} | {
            "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
            **changes,
        }
        plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        adapted = get_peft_model(plain, LoraConfig(**lora))
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.data = torch.randn(weight.shape) * 0.05
        adapted.save_pretrained(directory / kind)
        plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        merged = PeftModel.from_pretrained(plain, directory / kind).merge_and_unload()
        save_file({k: v.contiguous() for k, v in merged.state_dict().items()}, directory / f"{kind}.peft.safetensors")


def compare(one: str, other: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    ids = torch.arange(60).reshape(2, 30)
    with torch.no_grad():
        a, b = (AutoModelForCausalLM.from_pretrained(m, dtype=torch.float32)(ids).logits for m in (one, other))
    print(json.dumps({"cosine": torch.cosine_similarity(a, b, dim=-1).mean().item()}))


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
    else:
        compare(*sys.argv[2:4])
