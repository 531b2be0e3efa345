"""How the base names and stores its layers, and why it has no module of the name that an adapter uses.

Fused projections, experts, wrappers of multimodal models and tied embeddings are named differently by different
implementations. What an adapter says in one language and the base in another is never guessed at: the message
names both. Must not know what is done with the layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from controller.job.base import Base, layer_of
from controller.job.embeddings import Embeddings, embeddings_of
from controller.job.module_names import leaf
from controller.job.safetensors_header import TensorInfo

# One projection that some checkpoints store -> those that others store instead.
FUSED: Mapping[str, tuple[str, ...]] = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
    "query_key_value": ("q_proj", "k_proj", "v_proj"),
    "W_pack": ("q_proj", "k_proj", "v_proj"),
}
_OF_CONV1D = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer"})
_WRAPPERS = frozenset({"model", "language_model", "text_model", "llm", "transformer", "thinker"})
_EXPERT = re.compile(r"(.+\.experts)\.([0-9]+)\.(\w+)")
_OF_ALL_EXPERTS = re.compile(r"(.+\.experts)(?:\.base_layer|\.gate_up_proj|\.down_proj)?")
_QUANTIZED = ("weight_packed", "qweight", "weight_scale", "weight_scale_inv", "absmax", "SCB")


class Architecture:
    """What the names and shapes of a base's tensors say about it."""

    def __init__(self, base: Base) -> None:
        self._base = base

    @property
    def quantization(self) -> str | None:
        """How the weights are quantized, if they are; nothing can be added to such weights."""
        declared = self._base.config.get("quantization_config")
        if declared:
            return f"quantization_config is {_method(declared)}"
        parts = [t.name for t in self._base.tensors() if leaf(t.name) in _QUANTIZED]
        if parts:
            return f"it has {parts[0]}"
        small = [t for t in self._base.tensors() if t.name.endswith(".weight") and len(t.shape) == 2]
        odd = {t.dtype for t in small if t.dtype not in ("BF16", "F16", "F32", "F64")}
        return f"weights are stored as {', '.join(sorted(odd))}" if odd else None

    @cached_property
    def modules(self) -> frozenset[str]:
        """Modules that have a weight."""
        return frozenset(n.removesuffix(".weight") for n in self._base.location if n.endswith(".weight"))

    @cached_property
    def embeddings(self) -> Embeddings | None:
        return embeddings_of(self._base)

    @property
    def embedding_rows(self) -> int | None:
        """Tokens that the input embedding can hold."""
        info = self._base.tensor(self.embeddings.input) if self.embeddings is not None else None
        return info.shape[0] if info is not None else None

    def weight_of(self, module: str) -> TensorInfo | None:
        """The weight of `module`; a tied output layer has that of the input embedding."""
        info = self._base.tensor(f"{module}.weight")
        if info is None and self.embeddings is not None and self.is_tied_output(module):
            return self._base.tensor(self.embeddings.input)
        return info

    def is_tied_output(self, module: str) -> bool:
        """Whether `module` is the output layer, and the base computes it with the input embedding."""
        names = self.embeddings
        return names is not None and names.tied and names.head == f"{module}.weight"

    def is_transposed(self, module: str) -> bool:
        """Whether the base keeps the module's weight as (in, out), as transformers' Conv1D does."""
        return self._base.config.get("model_type") in _OF_CONV1D and leaf(module).startswith("c_")

    def linear_modules(self) -> Iterator[str]:
        """Modules with a matrix, without the layers that transformers does not build (multi-token prediction)."""
        for module in sorted(self.modules):
            info, layer = self._base.tensor(f"{module}.weight"), layer_of(module)
            beyond = self._base.layers is not None and layer is not None and layer >= self._base.layers
            if info is not None and len(info.shape) == 2 and not beyond:
                yield module

    def why_missing(self, module: str) -> str:
        """Why the base has no `module`, as a sentence."""
        explain = (self._layer, self._wrapper, self._expert, self._all_experts, self._projection)
        found = (one(module) for one in explain)
        return next((why for why in found if why), f"the base has no module {module}: trained on another base?")

    def _layer(self, module: str) -> str | None:
        layer, layers = layer_of(module), self._base.layers
        if layer is None or layers is None or layer < layers:
            return None
        return f"layer {layer} does not exist, the base has {layers} layers"

    def _wrapper(self, module: str) -> str | None:
        """The same module under another prefix: `language_model.model.` and `model.language_model.`."""
        other = self._by_core.get(core_of(module))
        if other is None or other == module:
            return None
        return (
            f"the adapter calls it {module}, the base's checkpoint {other}: the same layer of a multimodal model in"
            " two namings; rename the adapter's tensors and targets to those of the checkpoint"
        )

    def _expert(self, module: str) -> str | None:
        found = _EXPERT.fullmatch(module)
        if not found:
            return None
        experts, number, _ = found.groups()
        if fused := self._fused_experts(experts):
            return (
                f"the adapter has a LoRA for each expert ({module}), the base stores all experts in one tensor"
                f" ({fused}): use the checkpoint with a tensor for each expert"
            )
        mine = {int(m[2]) for m in map(_EXPERT.fullmatch, self.modules) if m and m[1] == experts}
        if mine and int(number) not in mine:
            return f"expert {int(number)} does not exist, the base has {len(mine)} experts in {experts}"
        names = sorted(m for m in self.modules if _EXPERT.fullmatch(m) and layer_of(m) == layer_of(module))
        if names and module not in self.modules:
            return f"the adapter calls an expert's layer {module}, the base's checkpoint {names[0]}: another model?"
        return None

    def _all_experts(self, module: str) -> str | None:
        found = _OF_ALL_EXPERTS.fullmatch(module)
        if not found:
            return None
        stored = self._fused_experts(found[1]) or next(
            (m for m in sorted(self.modules) if m.startswith(found[1])), None
        )
        if stored is None:
            return None
        return (
            f"the adapter has one LoRA for all experts ({module}; PEFT's target_parameters), the base stores {stored}:"
            " LoRA on fused experts is not supported; train on linear layers"
        )

    def _projection(self, module: str) -> str | None:
        parent, _, name = module.rpartition(".")
        for fused, parts in FUSED.items():
            if name in parts and f"{parent}.{fused}" in self.modules:
                return (
                    f"the adapter names {module}, the base stores {' and '.join(parts)} fused as {parent}.{fused}:"
                    " train it on the base as it is stored"
                )
            if name == fused and all(f"{parent}.{p}" in self.modules for p in parts):
                return (
                    f"the adapter names the fused {module}, the base stores"
                    f" {' and '.join(f'{parent}.{p}' for p in parts)}: train it on the base as it is stored"
                )
        return None

    def _fused_experts(self, experts: str) -> str | None:
        names = (n for n, shard in self._base.location.items() if n.startswith(f"{experts}."))
        wide = (n for n in names if (t := self._base.tensor(n)) is not None and len(t.shape) == 3)
        return min(wide, default=None)

    @cached_property
    def _by_core(self) -> Mapping[str, str]:
        return {core_of(m): m for m in sorted(self.modules)}


def core_of(module: str) -> str:
    """The name without the wrappers of the model around it."""
    parts = module.split(".")
    while len(parts) > 1 and parts[0] in _WRAPPERS:
        parts.pop(0)
    return ".".join(parts)


def _method(declared: Any) -> str:
    method = declared.get("quant_method") if isinstance(declared, dict) else declared
    return repr(method)[:80]
