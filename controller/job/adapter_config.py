"""PEFT's `adapter_config.json`: what the weights mean, which modules they are for, and what is asked beyond plain LoRA.

Reads one JSON document. Whether tensors and base fit it is decided in `check.py`. Must not know of tensors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Settings that change the mathematics: name -> values under which nothing changes.
PLAIN: Mapping[str, tuple[Any, ...]] = {
    "use_dora": (None, False),
    "bias": (None, "none"),
    "lora_bias": (None, False),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None, [], {}),
    "layer_replication": (None, []),
    "target_parameters": (None, []),
    "use_qalora": (None, False),
    "use_bdlora": (None, False),
    "alora_invocation_tokens": (None, []),
    "arrow_config": (None,),
    "kasa_config": (None,),
    "monteclora_config": (None,),
    "velora_config": (None,),
    "megatron_config": (None,),
}
# These start from a changed base (PiSSA and its kin subtract what they move into A and B).
UNCHANGED_BASE = (None, True, False, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class AdapterConfig:
    """The part of PEFT's LoraConfig that decides what the weights mean.

    `trainable_tokens`: by embedding module, the rows that were trained. `merge_only`: what vLLM cannot serve
    dynamically but a merge can take in, as sentences; `unsupported`: what neither can.
    """

    rank: int
    alpha: float
    use_rslora: bool
    fan_in_fan_out: bool
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    target_modules: str | tuple[str, ...] | None
    exclude_modules: str | tuple[str, ...]
    layers_to_transform: tuple[int, ...]
    layers_pattern: tuple[str, ...]
    base_model: str | None
    use_dora: bool
    bias: str
    lora_bias: bool
    modules_to_save: tuple[str, ...]
    trainable_tokens: Mapping[str, tuple[int, ...]]
    merge_only: tuple[str, ...]
    unsupported: tuple[str, ...]

    def rank_of(self, module: str) -> int:
        return int(_by_pattern(self.rank_pattern, module, self.rank))

    def scaling_of(self, module: str) -> float:
        """alpha / r, or alpha / sqrt(r) with rsLoRA (Kalajdzievski, 2023), as PEFT computes it."""
        rank, alpha = self.rank_of(module), float(_by_pattern(self.alpha_pattern, module, self.alpha))
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank

    def targets(self, module: str) -> bool:
        """Whether PEFT would put a LoRA on `module` (its check_target_module_exists)."""
        if self.target_modules is None or _matches(self.exclude_modules, module):
            return False
        if not _matches(self.target_modules, module):
            return False
        if not self.layers_to_transform or isinstance(self.target_modules, str):
            return True
        patterns = self.layers_pattern or (r"[^.]*",)
        found = (re.match(rf"(?:^|.*?\.){p}\.([0-9]+)\.", module) for p in patterns)
        return any(m is not None and int(m[1]) in self.layers_to_transform for m in found)


def parse_config(document: Mapping[str, Any]) -> tuple[AdapterConfig | None, list[str]]:
    """The config, or None, and everything that is wrong with it."""
    problems: list[str] = []
    if document.get("peft_type") != "LORA":
        problems.append(f"peft_type is {document.get('peft_type')!r}, only LORA is supported")
    rank = document.get("r")
    if type(rank) is not int or rank < 1:
        problems.append(f"r is {rank!r}, not a positive integer")
    alpha = document.get("lora_alpha")
    if not _is_number(alpha):
        problems.append(f"lora_alpha is {alpha!r}, not a number")
    problems += _pattern_problems(document, "rank_pattern", lambda v: type(v) is int and v >= 1)
    problems += _pattern_problems(document, "alpha_pattern", _is_number)
    problems += _module_problems(document)
    for key in ("use_rslora", "fan_in_fan_out"):
        if document.get(key) not in (None, True, False):
            problems.append(f"{key} is {document[key]!r}, neither true nor false")
    if problems:
        return None, problems
    targets = document.get("target_modules")
    layers = document.get("layers_to_transform")
    return AdapterConfig(
        rank=int(document["r"]),
        alpha=float(document["lora_alpha"]),
        use_rslora=bool(document.get("use_rslora")),
        fan_in_fan_out=bool(document.get("fan_in_fan_out")),
        rank_pattern=document.get("rank_pattern") or {},
        alpha_pattern=document.get("alpha_pattern") or {},
        target_modules=targets if isinstance(targets, str) else (tuple(targets) if targets else None),
        exclude_modules=_texts(document.get("exclude_modules")),
        layers_to_transform=(layers,) if isinstance(layers, int) else tuple(layers or ()),
        layers_pattern=tuple([p] if isinstance(p := document.get("layers_pattern") or [], str) else p),
        base_model=document.get("base_model_name_or_path"),
        use_dora=bool(document.get("use_dora")),
        bias=document.get("bias") or "none",
        lora_bias=bool(document.get("lora_bias")),
        modules_to_save=tuple(document.get("modules_to_save") or ()),
        trainable_tokens=_trainable_tokens(document.get("trainable_token_indices")),
        merge_only=(),
        unsupported=_unsupported(document),
    ), []


def _unsupported(document: Mapping[str, Any]) -> tuple[str, ...]:
    found = [f"{k}={document[k]!r}" for k, plain in PLAIN.items() if document.get(k) not in plain]
    start = document.get("init_lora_weights")
    if start not in UNCHANGED_BASE:
        found.append(f"init_lora_weights={start!r} (trained against a changed base; convert it with PEFT)")
    return tuple(found)


def _trainable_tokens(value: Any) -> dict[str, tuple[int, ...]]:
    """A plain list is about the input embedding, as in PEFT's TrainableTokens."""
    by_module = value if isinstance(value, dict) else {"embed_tokens": value} if value else {}
    return {str(module): tuple(rows) for module, rows in by_module.items()}


def _pattern_problems(document: Mapping[str, Any], key: str, valid: Any) -> list[str]:
    patterns = document.get(key) or {}
    if not isinstance(patterns, dict):
        return [f"{key} is not a map"]
    problems = [f"{key}[{p!r}] is {v!r}" for p, v in patterns.items() if not valid(v)]
    return problems + [f"{key} has a bad pattern {p!r}" for p in patterns if not _compiles(p)]


def _module_problems(document: Mapping[str, Any]) -> list[str]:
    problems = []
    for key in ("target_modules", "exclude_modules", "layers_pattern"):
        value = document.get(key)
        if isinstance(value, str):
            if not _compiles(value):
                problems.append(f"{key} is a bad pattern {value!r}")
        elif value is not None and not (isinstance(value, list) and all(isinstance(v, str) for v in value)):
            problems.append(f"{key} is neither a pattern nor a list of names")
    if not document.get("target_modules"):
        problems.append("target_modules is empty")
    layers = document.get("layers_to_transform")
    numbers = layers if isinstance(layers, list) else [] if layers is None else [layers]
    if not all(type(n) is int for n in numbers):
        problems.append("layers_to_transform is not a list of layer numbers")
    problems += _extra_problems(document)
    if not isinstance(document.get("base_model_name_or_path"), str | None):
        problems.append("base_model_name_or_path is not a string")
    return problems


def _extra_problems(document: Mapping[str, Any]) -> list[str]:
    problems = []
    saved = document.get("modules_to_save")
    if saved is not None and not (isinstance(saved, list) and all(isinstance(m, str) for m in saved)):
        problems.append("modules_to_save is not a list of names")
    tokens = document.get("trainable_token_indices")
    rows = list(tokens.values()) if isinstance(tokens, dict) else [] if tokens is None else [tokens]
    if not all(isinstance(r, list) and all(type(n) is int and n >= 0 for n in r) for r in rows):
        problems.append("trainable_token_indices is neither a list of token ids nor a map of such lists")
    if not isinstance(document.get("bias"), str | None):
        problems.append("bias is not a word")
    return problems


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return len(pattern) <= 4096


def _texts(value: Any) -> str | tuple[str, ...]:
    return value if isinstance(value, str) else tuple(value or ())


def _matches(targets: str | tuple[str, ...], module: str) -> bool:
    if isinstance(targets, str):
        return bool(targets) and re.fullmatch(targets, module) is not None
    return any(module == t or module.endswith(f".{t}") for t in targets)


def _by_pattern(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    """PEFT's get_pattern_key: the first pattern that matches the end of the name."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default
