"""Loads a model to quantize: from a directory, or from the merge itself, without a copy on the disk.

Both go through transformers' own conversion of names and experts, so both give the same model. torch is imported when
it is used. Must not know of adapters, methods or the store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.errors import PermanentError
from controller.job.findings import some
from controller.job.reasons import Reason

log = logging.getLogger("adapterrelease.job")

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class MergedTensor:
    """One tensor of the merged checkpoint; `fill` writes its bytes into memory of their size."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    fill: Callable[[NDArray[np.uint8]], None]


class _Once:
    """A tensor that can be taken once, so that nothing keeps it when it has become part of the model.

    transformers reads a state dict's values by `value[...]`, because from a file they are slices not yet read.
    """

    def __init__(self, tensor: Any) -> None:
        self._tensor = tensor

    def __getitem__(self, _: Any) -> Any:
        tensor, self._tensor = self._tensor, None
        return tensor


def from_directory(model: Path) -> Any:
    """The model in `model`, in the dtype that its config names."""
    made = model_class(model).from_pretrained(model, dtype="auto", output_loading_info=True)
    return _whole(*made)


def from_tensors(tensors: Iterable[MergedTensor], files: Path, origin: Path) -> Any:
    """The model whose config lies in `files`, out of `tensors`: each becomes part of it as it is, without a copy.

    `origin` is the directory of the base: what transformers does not load (layers that predict several tokens at
    once) is copied from there when the model is saved.
    """
    import transformers

    config = transformers.AutoConfig.from_pretrained(files)
    dtype = config.dtype or config.get_text_config().dtype
    weights = {t.name: _Once(_tensor(t)) for t in tensors}
    made = model_class(files).from_pretrained(
        None, config=config, state_dict=weights, dtype=dtype, output_loading_info=True
    )
    model = _whole(*made)
    # What from_pretrained does for a directory: llm-compressor finds the config to write there.
    model.config._name_or_path = str(files)
    model.name_or_path = str(origin)
    if model.can_generate() and (files / "generation_config.json").is_file():
        model.generation_config = transformers.GenerationConfig.from_pretrained(files)
    return model


def model_class(directory: Path) -> Any:
    """The class that config.json names: for a model that sees, the whole of it and not its language half.

    Raises PermanentError if transformers does not have it; code that comes with a model is never run.
    """
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(directory)
    except (ValueError, KeyError, OSError) as e:
        why = str(e).partition("\n")[0].partition(". ")[0]
        raise _unknown(f"transformers {transformers.__version__} cannot read the model's config.json: {why}") from e
    for name in config.architectures or ():
        found = getattr(transformers, name, None)
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found
    if type(config) in transformers.AutoModelForCausalLM._model_mapping:
        return transformers.AutoModelForCausalLM._model_mapping[type(config)]
    raise _unknown(
        f"transformers {transformers.__version__} does not have {config.architectures or 'its architecture'}"
    )


def _tensor(merged: MergedTensor) -> Any:
    import torch

    tensor = torch.empty(merged.shape, dtype=getattr(torch, _DTYPES[merged.dtype]))
    if tensor.numel():
        merged.fill(tensor.reshape(-1).view(torch.uint8).numpy())
    return tensor


def _whole(model: Any, loaded: Mapping[str, Any]) -> Any:
    """transformers fills what it has not found with random numbers, and only logs it."""
    if missing := [str(k) for k in loaded["missing_keys"]] + [str(k) for k in loaded["mismatched_keys"]]:
        raise PermanentError(
            f"the model has no weights, or none that fit, for {some(missing)}", reason=Reason.INVALID_BASE
        )
    if unused := [str(k) for k in loaded["unexpected_keys"]]:
        log.warning("transformers has no place for %s: the quantized model will be without", some(unused))
    return model


def _unknown(what: str) -> PermanentError:
    return PermanentError(
        f"{what}: this model cannot be quantized; set method: None", reason=Reason.UNSUPPORTED_QUANTIZATION
    )
