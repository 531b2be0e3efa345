"""How much memory a quantization will take at its peak, told by shapes and tokens before a weight is read.

The formulas follow what llm-compressor 0.14 keeps; docs/measured.md compares them with what was used. Must not know
how it is asked how much there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from controller.job.base import Base, layer_of
from controller.job.contract import Method, Quantization
from controller.job.linears import Linear, linears_of
from controller.job.merge import merged_size

LIBRARIES = 1 << 30  # torch, transformers and llm-compressor themselves, and the merge
BESIDE_DEVICE = 3 << 29  # CUDA's libraries, on the host
OF_DEVICE = 1 << 30  # on the device: its own tables, and gaps between tensors
_FLOAT32 = 4
_WIDTH = 2  # of weights and activations, in bytes


@dataclass(frozen=True)
class Needs:
    """Bytes: of the model; of what all samples are between two layers; of a layer's weights and the work on them; of
    `inputs`, what the parts of a layer take in for all samples; and of `ends`, the embeddings beside the head.

    The model waits on the host, and so does what is between layers; a layer is worked on on the device, if there is
    one. The inputs of experts wait on the host as well: that is llm-compressor's own choice.
    """

    model: int
    samples: int
    layer: int
    work: int
    inputs: int = 0
    ends: int = 0
    has_experts: bool = False


@dataclass(frozen=True)
class Placement:
    """Bytes needed on the host and on the device, and whether the parts' inputs wait on the host."""

    host: int
    device: int = 0
    inputs_on_host: bool = False


def placed(needs: Needs, device: int | None) -> Placement:
    """`device`: bytes that are free on the device, None if there is none. Inputs that find no room wait on the host."""
    host = LIBRARIES + needs.model + needs.samples
    if device is None:
        return Placement(host + needs.work + needs.inputs)
    host += BESIDE_DEVICE + needs.layer  # on its way to the device and back
    work = needs.layer + needs.work
    with_inputs = OF_DEVICE + max(work + needs.inputs, needs.ends)
    if with_inputs <= device and not needs.has_experts:
        return Placement(host, with_inputs)
    pinned = needs.inputs * 5 // 4  # each in a piece of the next power of two
    return Placement(host + pinned, OF_DEVICE + max(work, needs.ends), inputs_on_host=needs.inputs > 0)


def needs_of(base: Base, dtype: str, spec: Quantization, lengths: Sequence[int]) -> Needs:
    """`lengths`: the tokens of each calibration sample."""
    if spec.method is None:
        raise ValueError("no quantization needs no memory")
    by_layer: dict[int, list[Linear]] = {}
    for linear in linears_of(base):
        by_layer.setdefault(layer_of(linear.tensor.name) or 0, []).append(linear)
    layers = [_Layer(linears, sum(lengths)) for linears in by_layer.values()]
    masks = sum(length**2 for length in lengths) * _WIDTH  # of attention: a number for each pair of tokens
    inputs = max((layer.parts for layer in layers), default=0) + masks if spec.method == "AWQ" else 0
    return Needs(
        model=merged_size(base, dtype),
        samples=max((2 * layer.tokens * layer.hidden * _WIDTH for layer in layers), default=0) + masks,
        layer=max((layer.weights for layer in layers), default=0),
        work=max((_WORK[spec.method](layer) for layer in layers), default=0) + _attention(base, lengths),
        inputs=inputs,
        ends=_ends(base),
        has_experts=any(x.count > 1 or ".experts." in x.tensor.name for layer in layers for x in layer.linears),
    )


def _attention(base: Base, lengths: Sequence[int]) -> int:
    """Of the longest sample, each head's number for each pair of tokens: as it is, masked, in float32, and again."""
    text = base.config.get("text_config")
    found = [c.get("num_attention_heads") for c in (base.config, text if isinstance(text, Mapping) else {})]
    heads = next((n for n in found if isinstance(n, int)), 0)
    return heads * max(lengths, default=0) ** 2 * (3 * _WIDTH + _FLOAT32)


def _ends(base: Base) -> int:
    """Before it saves, llm-compressor compares embeddings and head on the device: both, and a byte for each number."""
    return max((t.size for t in base.tensors() if layer_of(t.name) is None), default=0) * 5 // 2


@dataclass(frozen=True)
class _Layer:
    linears: Sequence[Linear]
    tokens: int

    @cached_property
    def weights(self) -> int:
        return sum(x.count * x.outputs * x.inputs for x in self.linears) * _WIDTH

    @cached_property
    def largest(self) -> int:
        """Numbers of the largest matrix."""
        return max(x.outputs * x.inputs for x in self.linears)

    @cached_property
    def hidden(self) -> int:
        """Numbers of a token between layers: what most matrices take in."""
        found: Counter[int] = Counter()
        for x in self.linears:
            found[x.inputs] += x.count
        return found.most_common(1)[0][0]

    @cached_property
    def wide(self) -> int:
        return max(x.inputs for x in self.linears)

    @cached_property
    def parts(self) -> int:
        """Bytes that attention, the matrix after it, the rest, and all matrices of another width take in."""
        others = sum(x.count * x.inputs for x in self.linears if x.inputs != self.hidden)
        return self.tokens * (3 * self.hidden + others) * _WIDTH


def _awq(layer: _Layer) -> int:
    """The layer's weights once more, one of them in float32 some times; what comes out of a part, twice."""
    return layer.weights + 4 * layer.largest * _FLOAT32 + 2 * layer.tokens * layer.hidden * _WIDTH


def _gptq(layer: _Layer) -> int:
    """A Hessian for each matrix, and some copies of the largest of both."""
    hessians = sum(x.count * x.inputs**2 for x in layer.linears) * _FLOAT32
    return hessians + 4 * (layer.wide**2 + layer.largest) * _FLOAT32


def _fp8(layer: _Layer) -> int:
    return 4 * layer.largest * _FLOAT32


_WORK: Mapping[Method, Callable[[_Layer], int]] = {"AWQ": _awq, "GPTQ": _gptq, "INT8": _gptq, "FP8": _fp8}
