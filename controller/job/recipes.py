"""One recipe for each method of quantization, as llm-compressor's modifiers. Imports it when it is asked.

Must not know how a model is loaded or saved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from controller.errors import PermanentError
from controller.job.contract import Method, Quantization
from controller.job.linears import LEFT_ALONE
from controller.job.module_names import SENSES
from controller.job.reasons import Reason

_NAMED_AS = {"MixtralForCausalLM": "Qwen3MoeForCausalLM"}  # the same names of modules, and AWQ knows the other only
SMOOTHING = 0.8  # of SmoothQuant: how much of the outliers moves from the activations into the weights


def recipe(spec: Quantization, architecture: str, inputs_on_host: bool = False) -> list[Any]:
    """The modifiers for `spec`. Raises PermanentError if the method does not know the architecture.

    `inputs_on_host`: what AWQ keeps of all samples stays off the device between its uses. No other method keeps it.
    """
    if spec.method is None:
        raise ValueError("no quantization has no recipe")
    return _RECIPES[spec.method](spec, architecture, inputs_on_host)


def _awq(spec: Quantization, architecture: str, inputs_on_host: bool) -> list[Any]:
    """Activation-aware scaling of salient channels (Lin et al., 2024), then rounding in groups."""
    import torch
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier, dynamic_mappings, mappings

    name = _NAMED_AS.get(architecture, architecture)
    if name in mappings.AWQ_MAPPING_REGISTRY:
        known = [
            replace(m, smooth_layer=_of_texts(m.smooth_layer), balance_layers=[_of_texts(b) for b in m.balance_layers])
            for m in mappings.AWQ_MAPPING_REGISTRY[name]
        ]
    elif name in dynamic_mappings.AWQ_DYNAMIC_MAPPING_REGISTRY:
        known = None  # made from the model, layer by layer
    else:
        # It would scale by the names of Llama's layers: a norm that something else reads as well would be spoilt.
        raise PermanentError(
            f"llm-compressor's AWQ does not know {architecture}: choose method GPTQ or FP8",
            reason=Reason.UNSUPPORTED_QUANTIZATION,
        )
    AWQModifier._run_samples = _outputs
    kept = {"offload_device": torch.device("cpu")} if inputs_on_host else {}
    return [AWQModifier(duo_scaling="both", mappings=known, **kept), QuantizationModifier(**_scheme(spec))]


def _outputs(modifier: Any, part: Any) -> list[Any]:
    """What `part` of a layer gives for each sample, and nothing else that it returns.

    llm-compressor 0.14 keeps all of that until the last sample is through. Attention also returns the weight of each
    pair of tokens: of 256 samples of 2048 tokens 64 GiB in an 8B model.
    """
    returned = (part(**inputs) for inputs in modifier._parent_args_cache[part])
    return [x[0] if isinstance(x, tuple) else x for x in returned]


def _gptq(spec: Quantization, architecture: str, _: bool) -> list[Any]:
    """Rounding that makes up for its own error, column by column (Frantar et al., 2023)."""
    from llmcompressor.modifiers.gptq import GPTQModifier

    return [GPTQModifier(**_scheme(spec))]


def _int8(spec: Quantization, architecture: str, _: bool) -> list[Any]:
    """SmoothQuant (Xiao et al., 2023) where the architecture is known, then GPTQ to 8 bits."""
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier, dynamic_mappings, utils

    smooth = []
    if architecture in utils.MAPPINGS_REGISTRY:
        known = [
            utils.LayerMap([_of_texts(b) for b in m.balance_layers], _of_texts(m.smooth_layers))
            for m in utils.MAPPINGS_REGISTRY[architecture]
        ]
        smooth = [SmoothQuantModifier(smoothing_strength=SMOOTHING, mappings=known)]
    elif architecture in dynamic_mappings.SMOOTHQUANT_DYNAMIC_MAPPING_REGISTRY:
        smooth = [SmoothQuantModifier(smoothing_strength=SMOOTHING)]
    return [*smooth, GPTQModifier(**_scheme(spec))]


def _fp8(spec: Quantization, architecture: str, _: bool) -> list[Any]:
    """Weights rounded to float8 with a scale for each output; activations when they come, one scale a token."""
    from llmcompressor.modifiers.quantization import QuantizationModifier

    return [QuantizationModifier(**_scheme(spec))]


def _of_texts(pattern: str) -> str:
    """The layers of a pattern, without those of a vision tower that are called the same."""
    return f"re:(?!(?:{SENSES})$){pattern.removeprefix('re:')}"


def _scheme(spec: Quantization) -> dict[str, Any]:
    from compressed_tensors.quantization import preset_name_to_scheme

    scheme = preset_name_to_scheme(str(spec.scheme), ["Linear"])
    if spec.group_size is not None:
        scheme.weights.group_size = spec.group_size
    return {"config_groups": {"group_0": scheme}, "ignore": [f"re:^(?:{pattern})$" for pattern in LEFT_ALONE]}


_RECIPES: Mapping[Method, Callable[[Quantization, str, bool], list[Any]]] = {
    "AWQ": _awq,
    "GPTQ": _gptq,
    "FP8": _fp8,
    "INT8": _int8,
}
