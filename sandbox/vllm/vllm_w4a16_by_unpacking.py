"""A vLLM plugin: serves 4-bit weights on processors without AVX-512.

The CPU build has a kernel for them in its AVX-512 part only; elsewhere the engine loads such a model and dies at the
first request. Here the weights are unpacked once, when the model is loaded: the same numbers, without the memory that
4 bits save. Where the kernel is there, nothing changes.
"""

import logging

import torch


def register() -> None:
    """Called by vLLM in each of its processes, before it loads its kernels: they are asked for when they are used."""
    from vllm.model_executor.kernels.linear.mixed_precision.cpu import CPUWNA16LinearKernel as Kernel
    from vllm.model_executor.layers.quantization.utils.quant_utils import unpack_quantized_values_into_int32 as unpack

    with_kernel = Kernel.process_weights_after_loading, Kernel.apply_weights

    def process_weights_after_loading(kernel: Kernel, layer: torch.nn.Module) -> None:
        if hasattr(torch.ops._C, "cpu_gemm_wna16"):
            with_kernel[0](kernel, layer)
            return
        logging.getLogger("vllm.w4a16").info("no kernel for 4-bit weights: unpacked")
        config = kernel.config
        weight, scale, zero = kernel._get_weight_params(layer)
        # compressed-tensors has (out, in), packed along the input; scales (out, groups); zeros packed along the output.
        values = unpack(weight.data if weight.input_dim == 1 else weight.data.t(), config.weight_type, 1)
        scales = scale.data if scale.output_dim == 0 else scale.data.t()
        if config.zero_points:
            zeros = unpack(zero.data if zero.output_dim == 0 else zero.data.t(), config.weight_type, 0)
        else:
            zeros = torch.full_like(scales, config.weight_type.bias, dtype=torch.int32)
        size = values.shape[1] // scales.shape[1]
        grouped = values.view(values.shape[0], -1, size) - zeros.unsqueeze(-1)
        dense = (grouped * scales.unsqueeze(-1).float()).view(values.shape).to(config.act_type)
        if config.act_type == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            dense = dense.float()  # the same numbers; see vllm_bf16_in_float32
        layer.register_buffer("unpacked_weight", dense, persistent=False)
        weight.data = torch.empty(0, dtype=weight.dtype)

    def apply_weights(
        kernel: Kernel, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        if hasattr(torch.ops._C, "cpu_gemm_wna16"):
            return with_kernel[1](kernel, layer, x, bias)
        weight = layer.unpacked_weight
        out = torch.nn.functional.linear(x.to(weight.dtype), weight, None if bias is None else bias.to(weight.dtype))
        return out.to(x.dtype)

    Kernel.process_weights_after_loading, Kernel.apply_weights = process_weights_after_loading, apply_weights
