"""A vLLM plugin: bfloat16 at the speed of float32, on processors that cannot multiply bfloat16.

There the CPU build's matrices of bfloat16 go through a reference kernel that is ten times as slow as float32's. Here
they are multiplied in float32, which is what a bfloat16 kernel adds up in, too, and rounded once at the end; and LoRA
is one multiplication for each adapter in a batch, where the CPU build copies the adapter's weights for each token.
Where the processor has AVX-512 with bfloat16, nothing changes.
"""

from typing import Any

import torch


def register() -> None:
    """Called by vLLM in each of its processes, before it makes its layers."""
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
    from vllm.model_executor.layers import utils

    dispatch = utils.dispatch_cpu_unquantized_gemm

    def in_float32(layer: torch.nn.Module, remove_weight: bool) -> None:
        dispatch_bfloat16(layer) if layer.weight.dtype == torch.bfloat16 else dispatch(layer, remove_weight)

    utils.dispatch_cpu_unquantized_gemm = in_float32
    update_metadata = PunicaWrapperCPU.update_metadata

    def then_sort(punica: Any, *args: Any, **kwargs: Any) -> None:
        update_metadata(punica, *args, **kwargs)
        punica.tokens_of = tokens_of(punica.token_lora_indices)

    PunicaWrapperCPU.update_metadata = then_sort
    PunicaWrapperCPU._apply_shrink = _apply_shrink
    PunicaWrapperCPU._apply_expand = _apply_expand


def dispatch_bfloat16(layer: torch.nn.Module) -> None:
    """What vLLM asks of a layer: `cpu_linear(x, weight, bias)`; it may leave the weight where it is."""
    weight32 = layer.weight.detach().float()

    def cpu_linear(x: torch.Tensor, _: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        out = torch.nn.functional.linear(x.float(), weight32, None if bias is None else bias.float())
        return out.to(x.dtype)

    layer.cpu_linear = cpu_linear


def tokens_of(indices: torch.Tensor) -> dict[int, torch.Tensor | slice]:
    """Which tokens of a batch are whose: by adapter, of an adapter for each token."""
    adapters = indices.unique().tolist()
    if len(adapters) == 1:
        return {adapters[0]: slice(None)}
    return {adapter: (indices == adapter).nonzero().squeeze(1) for adapter in adapters}


def _apply_shrink(punica: Any, y: torch.Tensor, x: torch.Tensor, w_t_all: torch.Tensor, scale: float) -> None:
    """y = x @ A * scale, in float32"""
    if punica.is_prefill and punica.no_lora:
        return
    y, x = y.view(-1, y.shape[-1]), x.float()
    for adapter, tokens in punica.tokens_of.items():
        weights = _weights(w_t_all, adapter)
        y[tokens, : weights.shape[0]] = (x[tokens] @ weights.T) * scale


def _apply_expand(
    punica: Any,
    y: torch.Tensor,
    x: torch.Tensor,
    w_t_all: torch.Tensor,
    y_offset: int,
    y_slice_size: int,
    add_inputs: bool = True,
) -> None:
    """y[:, offset : offset + size] (+)= x @ B"""
    if punica.is_prefill and punica.no_lora:
        return
    into, x = y[:, y_offset : y_offset + y_slice_size], x.float()
    for adapter, tokens in punica.tokens_of.items():
        out = (x[tokens] @ _weights(w_t_all, adapter).T).to(y.dtype)
        into[tokens] = into[tokens] + out if add_inputs else out


def _weights(stacked: torch.Tensor, adapter: int) -> torch.Tensor:
    """(adapters, 1, out, in) -> (out, in)"""
    return stacked[adapter].reshape(stacked.shape[-2:]).float()
