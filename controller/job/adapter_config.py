"""PEFT's `adapter_config.json`: what the weights mean, which modules they are for, and what is asked beyond plain LoRA.

Whether the document is well-formed is decided in `adapter_settings.py`, whether tensors and base fit it in `check.py`.
Must not know of tensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from controller.job import adapter_features, adapter_settings
from controller.job.module_names import is_embedding, is_output, suffixes
from controller.job.patterns import Matcher

ALL_LINEAR = "all-linear"


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
    revision: str | None
    base_class: str | None
    use_dora: bool
    bias: str
    lora_bias: bool
    modules_to_save: tuple[str, ...]
    trainable_tokens: Mapping[str, tuple[int, ...]]
    ensure_weight_tying: bool
    merge_only: tuple[str, ...]
    unsupported: tuple[str, ...]
    matcher: Matcher = field(default_factory=Matcher, compare=False, repr=False)

    def rank_of(self, module: str) -> int:
        return int(self._by_pattern(self.rank_pattern, module, self.rank))

    def scaling_of(self, module: str) -> float:
        """alpha / r, or alpha / sqrt(r) with rsLoRA (Kalajdzievski, 2023), as PEFT computes it."""
        rank, alpha = self.rank_of(module), float(self._by_pattern(self.alpha_pattern, module, self.alpha))
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank

    @property
    def all_linear(self) -> bool:
        return isinstance(self.target_modules, str) and self.target_modules.lower() == ALL_LINEAR

    def targets(self, module: str) -> bool:
        """Whether PEFT would put a LoRA on `module`, if it can (its check_target_module_exists)."""
        if self._excluded(module) or self.saves(module):
            return False
        if self.all_linear:
            return not is_output(module) and not is_embedding(module)
        if isinstance(self.target_modules, str):
            return self.matcher.fullmatch(self.target_modules, module)
        if module in self._names:
            return True  # by its full name: PEFT then asks for no layer
        return not self._names.isdisjoint(suffixes(module)) and self._is_in_layers(module)

    def saves(self, module: str) -> bool:
        """Whether `module` is, or lies in, one of modules_to_save: PEFT adapts nothing there."""
        patterns = (rf"(^|.*\.){m}($|\..*)" for m in self.modules_to_save)
        return any(self.matcher.match(p, module) is not None for p in patterns)

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.target_modules or ())

    @cached_property
    def _excluded_names(self) -> frozenset[str]:
        return frozenset(self.exclude_modules)

    def _excluded(self, module: str) -> bool:
        if isinstance(self.exclude_modules, str):
            return bool(self.exclude_modules) and self.matcher.fullmatch(self.exclude_modules, module)
        return not self._excluded_names.isdisjoint(suffixes(module))

    def _is_in_layers(self, module: str) -> bool:
        """PEFT takes the first number that the first fitting pattern finds."""
        if not self.layers_to_transform:
            return True
        patterns = [rf"(?:^|.*?\.){p}\.(?P<idx>\d+)\." for p in self.layers_pattern] or [r".*?\.[^.]*\.(?P<idx>\d+)\."]
        found = (self.matcher.match(p, module) for p in patterns)
        first = next((m for m in found if m is not None), None)
        return first is not None and int(first["idx"]) in self.layers_to_transform

    def _by_pattern(self, patterns: Mapping[str, Any], module: str, default: Any) -> Any:
        """PEFT's get_pattern_key: the first pattern that matches the end of the name."""
        for pattern, value in patterns.items():
            if self.matcher.match(rf"(.*\.)?({pattern})$", module):
                return value
        return default


def parse_config(document: Mapping[str, Any]) -> tuple[AdapterConfig | None, list[str]]:
    """The config, or None, and everything that is wrong with it."""
    problems = [*adapter_settings.problems_of(document), *adapter_features.unknown(document)]
    if problems:
        return None, problems
    layers = document.get("layers_to_transform")
    mapping = document.get("auto_mapping") or {}
    targets = document.get("target_modules")
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
        revision=document.get("revision"),
        base_class=mapping.get("base_model_class"),
        use_dora=bool(document.get("use_dora")),
        bias=document.get("bias") or "none",
        lora_bias=bool(document.get("lora_bias")),
        modules_to_save=tuple(document.get("modules_to_save") or ()),
        trainable_tokens=_trainable_tokens(document.get("trainable_token_indices")),
        ensure_weight_tying=bool(document.get("ensure_weight_tying")),
        merge_only=adapter_features.merge_only(document),
        unsupported=adapter_features.unsupported(document),
    ), []


def _trainable_tokens(value: Any) -> dict[str, tuple[int, ...]]:
    """A plain list is about the input embedding, as in PEFT's TrainableTokens."""
    by_module = value if isinstance(value, dict) else {"embed_tokens": value} if value else {}
    return {str(module): tuple(rows) for module, rows in by_module.items()}


def _texts(value: Any) -> str | tuple[str, ...]:
    return value if isinstance(value, str) else tuple(value or ())
