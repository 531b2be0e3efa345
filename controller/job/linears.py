"""Which weights of a model a quantization changes, by their names and shapes alone.

So a group size that does not fit is found, and the size of the result known, before anything is loaded. Must not know
how a method works, and needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from controller.job.base import Base, layer_of
from controller.job.contract import Quantization
from controller.job.merge import merged_dtype
from controller.job.module_names import SENSES
from controller.job.safetensors_header import TensorInfo

# Modules that stay as they are, in every method: the head decides the token, a router decides the expert.
# `mlp.gate_proj` is no router. Texts do not calibrate what sees or hears.
LEFT_ALONE = (r"(.*\.)?lm_head", r".*\.(gate|router|shared_expert_gate)(\..*)?", SENSES)
_LEFT_ALONE = re.compile("|".join(LEFT_ALONE))
_PACKED = 8  # 4-bit values in an int32; vLLM packs the zero points of so many outputs
_BITS = {"W4A16": 4, "W4A16_ASYM": 4, "FP8_DYNAMIC": 8, "W8A8": 8}
_WIDTH = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True)
class Linear:
    """A weight that is quantized: `count` matrices of `outputs` x `inputs`, stored as one tensor."""

    tensor: TensorInfo
    count: int
    outputs: int
    inputs: int


def is_left_alone(module: str) -> bool:
    return _LEFT_ALONE.fullmatch(module) is not None


def linears_of(base: Base) -> Iterator[Linear]:
    """Matrices of the layers; experts may be stored as one tensor of three dimensions."""
    for tensor in base.tensors():
        name, shape = tensor.name, tensor.shape
        module = name.removesuffix(".weight")
        if layer_of(name) is None or is_left_alone(module) or tensor.dtype not in _WIDTH:
            continue
        if len(shape) == 2 and name.endswith(".weight"):
            yield Linear(tensor, 1, shape[0], shape[1])
        elif len(shape) == 3 and ".experts." in name and module.endswith("_proj"):
            yield Linear(tensor, *shape)


def unfit(base: Base, spec: Quantization) -> list[str]:
    """Weights that the method cannot pack in groups, or vLLM could not read then. FP8 and INT8 take every shape."""
    return [linear.tensor.name for linear in linears_of(base) if spec.group_size and not _fits(linear, spec.group_size)]


def _fits(linear: Linear, group: int) -> bool:
    if linear.count > 1 or len(linear.tensor.shape) == 3:
        # Which dimension is the input differs from model to model. Down has the one of the others as its output.
        return "down_proj" not in linear.tensor.name or not (linear.inputs % group or linear.outputs % group)
    return linear.inputs % group == 0 and linear.outputs % _PACKED == 0


def quantized_size(base: Base, dtype: str, spec: Quantization) -> int:
    """Bytes of the weights after merge and quantization, scales included."""
    linears = {linear.tensor.name: linear for linear in linears_of(base)}
    size = 0
    for tensor in base.tensors():
        linear, to = linears.get(tensor.name), merged_dtype(base, tensor, dtype)
        if linear is not None and spec.scheme is not None:
            values = linear.count * linear.outputs * linear.inputs
            group = spec.group_size or linear.inputs
            size += values * _BITS[spec.scheme] // 8 + values // group * _WIDTH[to]
        else:
            size += tensor.size if to == tensor.dtype else tensor.size // _WIDTH[tensor.dtype] * _WIDTH[to]
    return size
