"""How much memory a quantization will take at its peak, told by shapes and tokens before a weight is read.

The formulas follow what llm-compressor 0.14 keeps; docs/measured.md compares them with what was used. Must not know
how much there is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from controller.job.base import Base, layer_of
from controller.job.contract import Method, Quantization
from controller.job.linears import Linear, linears_of
from controller.job.merge import merged_size

LIBRARIES = 1 << 30  # torch, transformers and llm-compressor themselves, and the merge
_FLOAT32 = 4
_WIDTH = 2  # of activations, in bytes


@dataclass(frozen=True)
class Needs:
    """Bytes: of the model, of what goes in and out of a layer, and of the work on it.

    Model and samples wait on the host; the work is done on the device, if there is one.
    """

    model: int
    samples: int
    work: int

    def on_host(self, has_device: bool) -> int:
        return LIBRARIES + self.model + self.samples + (0 if has_device else self.work)


def needs_of(base: Base, dtype: str, spec: Quantization, tokens: int) -> Needs:
    """`tokens`: of all calibration samples together."""
    if spec.method is None:
        raise ValueError("no quantization needs no memory")
    by_layer: dict[int, list[Linear]] = {}
    for linear in linears_of(base):
        by_layer.setdefault(layer_of(linear.tensor.name) or 0, []).append(linear)
    layers = [_Layer(linears, tokens) for linears in by_layer.values()]
    return Needs(
        model=merged_size(base, dtype),
        samples=max((2 * tokens * layer.narrow * _WIDTH for layer in layers), default=0),
        work=max((_WORK[spec.method](layer) for layer in layers), default=0),
    )


@dataclass(frozen=True)
class _Layer:
    linears: Sequence[Linear]
    tokens: int

    @property
    def largest(self) -> int:
        """Numbers of the largest matrix."""
        return max(x.outputs * x.inputs for x in self.linears)

    @property
    def narrow(self) -> int:
        """Numbers of a token between layers: what most matrices take in."""
        return min(x.inputs for x in self.linears)

    @property
    def wide(self) -> int:
        return max(x.inputs for x in self.linears)


def _awq(layer: _Layer) -> int:
    """The layer's weights once more, one of them in float32 some times; what goes in and out of its parts."""
    weights = sum(x.count * x.outputs * x.inputs for x in layer.linears) * _WIDTH
    return weights + 4 * layer.largest * _FLOAT32 + layer.tokens * (6 * layer.narrow + 2 * layer.wide) * _WIDTH


def _gptq(layer: _Layer) -> int:
    """A Hessian for each matrix, and some copies of the largest of both."""
    hessians = sum(x.count * x.inputs**2 for x in layer.linears) * _FLOAT32
    return hessians + 4 * (layer.wide**2 + layer.largest) * _FLOAT32


def _fp8(layer: _Layer) -> int:
    return 4 * layer.largest * _FLOAT32


_WORK: Mapping[Method, Callable[[_Layer], int]] = {"AWQ": _awq, "GPTQ": _gptq, "INT8": _gptq, "FP8": _fp8}
