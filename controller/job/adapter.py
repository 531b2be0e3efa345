"""A LoRA adapter in PEFT's format: its config and the names and shapes of its tensors.

Reads `adapter_config.json` and the header of `adapter_model.safetensors`. Whether the adapter is any good
is decided in `check.py`. Must not know of the base model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.job.base import read_raw
from controller.job.safetensors_header import Header, TensorInfo

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_LORA = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")

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
    """The part of PEFT's LoraConfig that decides what the weights mean."""

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


@dataclass(frozen=True)
class LoraModule:
    """The tensors of one adapted module: A is (rank, in), B is (out, rank)."""

    name: str
    a: TensorInfo | None
    b: TensorInfo | None


@dataclass(frozen=True)
class Adapter:
    """`strays` are tensors that are neither an A nor a B of a linear layer."""

    path: Path
    config: AdapterConfig
    header: Header
    modules: Mapping[str, LoraModule]
    strays: tuple[str, ...]

    @property
    def rank(self) -> int:
        """The largest rank of any module."""
        return max((m.a.shape[0] for m in self.modules.values() if m.a and m.a.shape), default=self.config.rank)

    def raw(self, info: TensorInfo) -> NDArray[np.uint8]:
        return read_raw(self.path / WEIGHTS, info)


def make_adapter(path: Path, config: AdapterConfig, header: Header) -> Adapter:
    """Sorts the tensors into modules."""
    found: dict[str, dict[str, TensorInfo]] = {}
    strays = []
    for name, info in header.tensors.items():
        parts = _LORA.fullmatch(name)
        if parts is None:
            strays.append(name)
        else:
            found.setdefault(parts[1], {})[parts[2]] = info
    modules = {n: LoraModule(n, t.get("A"), t.get("B")) for n, t in sorted(found.items())}
    return Adapter(path, config, header, modules, tuple(strays))


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
        unsupported=_unsupported(document),
    ), []


def _unsupported(document: Mapping[str, Any]) -> tuple[str, ...]:
    found = [f"{k}={document[k]!r}" for k, plain in PLAIN.items() if document.get(k) not in plain]
    start = document.get("init_lora_weights")
    if start not in UNCHANGED_BASE:
        found.append(f"init_lora_weights={start!r} (trained against a changed base; convert it with PEFT)")
    return tuple(found)


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
    if not isinstance(document.get("base_model_name_or_path"), str | None):
        problems.append("base_model_name_or_path is not a string")
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
