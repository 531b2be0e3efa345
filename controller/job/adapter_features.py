"""Every setting of PEFT's LoraConfig, and what it is to us: read, mergeable only, unsupported, or of no matter.

What is not in this list nobody here understands, so it is refused as soon as it says something. A test compares the
list with the PEFT that is installed. Must not know of tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from controller.job.findings import shown

# They decide what the weights mean; adapter_config.py reads them.
READ = frozenset(
    {
        *("peft_type", "base_model_name_or_path", "revision", "auto_mapping"),
        *("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "init_lora_weights"),
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "ensure_weight_tying"),
    }
)

# vLLM cannot serve them dynamically, a merge can take them in. Setting -> what it is called.
MERGE_ONLY: Mapping[str, str] = {
    "use_dora": "DoRA",
    "bias": "trained biases",
    "lora_bias": "a bias in lora_B",
    "modules_to_save": "modules_to_save",
    "trainable_token_indices": "trained tokens",
}

# Neither vLLM nor a merge can do them. Setting -> why.
UNSUPPORTED: Mapping[str, str] = {
    "layer_replication": "it repeats layers of the base, which makes another model",
    "target_parameters": "it adapts bare parameters (fused experts), not linear layers",
    "use_qalora": "QALoRA pools the input of A, it is no product of B and A",
    "use_bdlora": "block-diagonal LoRA keeps only blocks of A and B",
    "alora_invocation_tokens": "activated LoRA works on the tokens after its invocation only",
    "arrow_config": "Arrow chooses among adapters token by token",
    "kasa_config": "KaSA cuts singular values off the base",
    "monteclora_config": "Monte Carlo LoRA draws its weights at random",
    "velora_config": "VeLoRA keeps projections beside A and B",
    "megatron_config": "Megatron's parallel layers are no linear layers of transformers",
}

# Of training, or of PEFT itself: the saved weights mean the same whatever they say.
IRRELEVANT = frozenset(
    {
        *("task_type", "peft_version", "inference_mode", "lora_dropout", "runtime_config", "megatron_core"),
        *("loftq_config", "eva_config", "corda_config", "lora_ga_config", "qalora_group_size"),
    }
)

# They set A and B and leave the base alone. PiSSA and its kin take out of the base what they put into A and B.
UNCHANGED_BASE = frozenset({"gaussian", "eva", "orthogonal", "mica"})
KNOWN = READ | set(MERGE_ONLY) | set(UNSUPPORTED) | IRRELEVANT
_OFF: tuple[Any, ...] = (None, False, "", "none")


def merge_only(document: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{name} ({k}={shown(document[k])})" for k, name in MERGE_ONLY.items() if _says(document.get(k)))


def unsupported(document: Mapping[str, Any]) -> tuple[str, ...]:
    found = [f"{k}={shown(document[k])}: {why}" for k, why in UNSUPPORTED.items() if _says(document.get(k))]
    start = document.get("init_lora_weights")
    if not (start is None or isinstance(start, bool) or str(start).lower() in UNCHANGED_BASE):
        found.append(
            f"init_lora_weights={shown(start)}: it was trained against a changed base;"
            " convert it with PEFT's path_initial_model_for_weight_conversion"
        )
    return tuple(found)


def unknown(document: Mapping[str, Any]) -> Iterator[str]:
    for key, value in document.items():
        if key not in KNOWN and _says(value):
            yield f"{shown(key)} is {shown(value)}: PEFT 0.21 has no such setting, so nobody knows what it changes"


def _says(value: Any) -> bool:
    """Whether a setting is on. Zero is a value: whoever writes it means it."""
    return not (value in _OFF or value in ([], {})) or type(value) in (int, float)
