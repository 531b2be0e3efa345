"""A LoRA adapter in PEFT's format: its config and the names and shapes of its tensors.

Sorts the header of `adapter_model.safetensors` into modules. Whether the adapter is any good is decided in
`check.py`. Must not know of the base model.
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
_LORA = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")


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
