"""The form of `adapter_config.json`: types, ranges, sizes, patterns, and settings that exclude each other.

A config comes from somebody else, so everything in it is bounded. Must not know what the settings do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from controller.job.findings import shown
from controller.job.patterns import problem_of

MAX_RANK = 4096  # over the width of any layer that is adapted today, a LoRA has more weights than the layer
MAX_ALPHA = 1e12
MAX_ENTRIES = 65_536  # names in a list, tokens, patterns: some trainers write one for each expert of each layer
MAX_TEXT = 4096
MAX_LAYER = 100_000


def problems_of(document: Mapping[str, Any]) -> Iterator[str]:
    """Everything that is malformed, as sentences."""
    if document.get("peft_type") != "LORA":
        yield f"peft_type is {shown(document.get('peft_type'))}, only LORA is supported"
    for key, (valid, what) in _RULES.items():
        if not valid(document.get(key)):
            yield f"{key} is {shown(document.get(key))}, not {what}"
    if not document.get("target_modules") and not document.get("target_parameters"):
        yield "target_modules is empty: nothing says which layers the weights are for"
    yield from _pattern_problems(document)
    yield from _contradictions(document)


def _contradictions(document: Mapping[str, Any]) -> Iterator[str]:
    """What PEFT itself refuses to load."""
    layers, on = document.get("layers_to_transform"), document.get
    if isinstance(on("target_modules"), str):
        for key in ("layers_to_transform", "layers_pattern"):
            if on(key) is not None:
                yield f"{key} works with a list of target_modules only, and target_modules is a pattern"
    elif on("layers_pattern") and layers is None:
        yield "layers_pattern needs layers_to_transform"
    if on("lora_bias") and on("use_dora"):
        yield "lora_bias and use_dora exclude each other"


def _pattern_problems(document: Mapping[str, Any]) -> Iterator[str]:
    for key, wrapped in _PATTERNS.items():
        value = document.get(key)
        if isinstance(value, str):
            patterns = [value] if key != "modules_to_save" else []
        elif isinstance(value, dict) or key in ("layers_pattern", "modules_to_save"):
            patterns = [p for p in value or () if isinstance(p, str)] if isinstance(value, dict | list) else []
        else:
            patterns = []  # a list of names, which PEFT compares as they are
        for pattern in patterns:
            problem = problem_of(pattern) or problem_of(wrapped.replace("PATTERN", pattern))
            if problem:
                yield f"{key}: {shown(pattern)} {problem}"


# Setting -> the pattern that PEFT makes of it.
_PATTERNS = {
    "target_modules": "PATTERN",
    "exclude_modules": "PATTERN",
    "layers_pattern": r"(?:^|.*?\.)PATTERN\.(?P<idx>\d+)\.",
    "modules_to_save": r"(^|.*\.)PATTERN($|\..*)",
    "rank_pattern": r"(.*\.)?(PATTERN)$",
    "alpha_pattern": r"(.*\.)?(PATTERN)$",
}


def _integer(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _rank(value: Any) -> bool:
    return _integer(value, 1, MAX_RANK)


def _alpha(value: Any) -> bool:
    return type(value) in (int, float) and 0 < abs(value) <= MAX_ALPHA and math.isfinite(value)


def _truth(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT


def _texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MAX_ENTRIES and all(_text(v) and v for v in value)


def _layers(value: Any) -> bool:
    numbers = value if isinstance(value, list) else [value]
    return len(numbers) <= MAX_ENTRIES and all(_integer(n, 0, MAX_LAYER) for n in numbers)


def _map_of(valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        return isinstance(value, dict) and len(value) <= MAX_ENTRIES and all(valid(v) for v in value.values())

    return check


def _tokens(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MAX_ENTRIES
        and all(_integer(n, 0, (1 << 31) - 1) for n in value)
        and len(set(value)) == len(value)
    )


def _or_none(*valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or any(v(value) for v in valid)


def _auto_mapping(value: Any) -> bool:
    return isinstance(value, dict) and _or_none(_text)(value.get("base_model_class"))


_TRUTH = (_truth, "true or false")
_RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "r": (_rank, f"an integer from 1 to {MAX_RANK}"),
    "lora_alpha": (_alpha, f"a number other than 0 of at most {MAX_ALPHA:g}"),
    "rank_pattern": (_or_none(_map_of(_rank)), f"a map of patterns to integers from 1 to {MAX_RANK}"),
    "alpha_pattern": (_or_none(_map_of(_alpha)), "a map of patterns to finite numbers other than 0"),
    "use_rslora": _TRUTH,
    "fan_in_fan_out": _TRUTH,
    "use_dora": _TRUTH,
    "lora_bias": _TRUTH,
    "ensure_weight_tying": _TRUTH,
    "bias": (lambda v: v in (None, "none", "all", "lora_only"), "none, all or lora_only"),
    "target_modules": (_or_none(_text, _texts), "a pattern or a list of names"),
    "exclude_modules": (_or_none(_text, _texts), "a pattern or a list of names"),
    "layers_pattern": (_or_none(_text, _texts), "a pattern or a list of patterns"),
    "layers_to_transform": (_or_none(_layers), "a list of layer numbers"),
    "modules_to_save": (_or_none(_texts), "a list of names"),
    "trainable_token_indices": (
        _or_none(_tokens, _map_of(_tokens)),
        "a list of different token ids, or a map of embeddings to such lists",
    ),
    "base_model_name_or_path": (_or_none(_text), "a name"),
    "revision": (_or_none(_text), "a name"),
    "auto_mapping": (_or_none(_auto_mapping), "a map with the base's class"),
}
