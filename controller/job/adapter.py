"""A LoRA adapter in PEFT's format: its config and the names and shapes of its tensors.

Sorts the header of `adapter_model.safetensors` by what PEFT would do with each tensor. Whether the adapter is any
good is decided in `check.py`, what it does to a base in `changes.py`. Must not know of the base model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from controller.job.adapter_config import AdapterConfig
from controller.job.base import read_raw
from controller.job.safetensors_header import Header, TensorInfo

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_LORA = re.compile(r"(.+)\.lora_([AB])\.weight")
# What PEFT keeps of a module beside A and B of a linear layer; the first group is the module.
_PARTS = {
    "embedding": re.compile(r"(.+)\.lora_embedding_([AB])"),
    "magnitude": re.compile(r"(.+)\.lora_magnitude_vector(?:\.weight)?"),
    "lora_bias": re.compile(r"(.+)\.lora_B\.bias"),
    "tokens": re.compile(r"(.+)\.token_adapter\.trainable_tokens_delta"),
}
# A whole tensor. PEFT names it by the wrapper that it was in; `original_module` is what it was before the training.
_WRAPPED = re.compile(r"(.+?)\.(?:(?:token_adapter|modules_to_save|base_layer|original_module)\.)+([^.]+)")
_BEFORE = ".original_module."
_OF_LORA = re.compile(r"(?:^|\.)(?:lora_|trainable_tokens_)")


@dataclass(frozen=True)
class LoraModule:
    """The tensors of one adapted module: A is (rank, in), B is (out, rank)."""

    name: str
    a: TensorInfo | None
    b: TensorInfo | None


@dataclass(frozen=True)
class Adapter:
    """`modules` are linear layers; `strays` are all tensors that are neither an A nor a B of one.

    The other maps sort the strays: by module `embeddings` (A is (rank, rows), B is (columns, rank)), `magnitudes`
    (DoRA), `lora_biases` and `tokens` (rows that replace those of the config's `trainable_tokens`); by the base's
    tensor `saved`, which replaces it. `unknown` are strays that are none of these.
    """

    path: Path
    config: AdapterConfig
    header: Header
    modules: Mapping[str, LoraModule]
    strays: tuple[str, ...]
    embeddings: Mapping[str, LoraModule]
    magnitudes: Mapping[str, TensorInfo]
    lora_biases: Mapping[str, TensorInfo]
    tokens: Mapping[str, TensorInfo]
    saved: Mapping[str, TensorInfo]
    unknown: tuple[str, ...]

    @property
    def rank(self) -> int:
        """The largest rank of any module."""
        return max((m.a.shape[0] for m in self.modules.values() if m.a and m.a.shape), default=self.config.rank)

    def raw(self, info: TensorInfo) -> NDArray[np.uint8]:
        return read_raw(self.path / WEIGHTS, info)


def make_adapter(path: Path, config: AdapterConfig, header: Header) -> Adapter:
    """Sorts the tensors."""
    sorted_: dict[str, dict[str, TensorInfo]] = {part: {} for part in ("lora", "saved", *_PARTS)}
    strays, unknown = [], []
    # A tensor's plain name comes after its wrapped ones and wins: that is the one PEFT loads.
    for name, info in sorted(header.tensors.items(), key=lambda item: -item[0].count(".")):
        part, key = _sort(name)
        if part != "lora":
            strays.append(name)
        if part == "unknown":
            unknown.append(name)
        elif part != "before":
            sorted_[part][key] = info
    return Adapter(
        path,
        config,
        header,
        modules=_pairs(sorted_["lora"]),
        strays=tuple(sorted(strays)),
        embeddings=_pairs(sorted_["embedding"]),
        magnitudes=sorted_["magnitude"],
        lora_biases=sorted_["lora_bias"],
        tokens=sorted_["tokens"],
        saved=sorted_["saved"],
        unknown=tuple(sorted(unknown)),
    )


def _sort(name: str) -> tuple[str, str]:
    """What a tensor is, and of which module or tensor of the base: `("magnitude", "model.layers.0.mlp.up_proj")`."""
    if not name.startswith(_PREFIX):
        return "unknown", name
    inner = name.removeprefix(_PREFIX)
    if found := _LORA.fullmatch(inner):
        return "lora", f"{found[1]} {found[2]}"
    for part, pattern in _PARTS.items():
        if found := pattern.fullmatch(inner):
            return part, " ".join(found.groups())
    if _OF_LORA.search(inner):
        return "unknown", name
    if _BEFORE in inner:
        return "before", inner
    found = _WRAPPED.fullmatch(inner)
    return "saved", f"{found[1]}.{found[2]}" if found else inner


def _pairs(tensors: Mapping[str, TensorInfo]) -> dict[str, LoraModule]:
    """`{"q_proj A": ..., "q_proj B": ...}` as modules."""
    names = sorted({key[:-2] for key in tensors})
    return {n: LoraModule(n, tensors.get(f"{n} A"), tensors.get(f"{n} B")) for n in names}
