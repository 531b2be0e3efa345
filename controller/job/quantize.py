"""Quantizes a merged checkpoint by llm-compressor. Runs on a GPU, or on a CPU where there is none.

torch and its kin are imported when they are used, and nowhere else. Must not know of adapters or the store.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.errors import PermanentError
from controller.job.base import Base, layer_of
from controller.job.calibration import Sample
from controller.job.progress import Progress
from controller.job.reasons import Reason
from controller.job.store import sync

VERSION = "1"  # part of the artifact's id: raise it when the result changes for the same inputs
IGNORED = ("lm_head",)


@dataclass(frozen=True)
class Awq:
    """Activation-aware 4-bit weights (Lin et al., 2024), in groups of `group_size` along the input."""

    scheme: str = "W4A16_ASYM"
    group_size: int = 128
    sequence_length: int = 2048


def undividable(base: Base, group_size: int) -> list[str]:
    """Linear layers whose input size is no multiple of `group_size`: these cannot be packed."""
    return [
        t.name
        for t in base.tensors()
        if t.name.endswith(".weight") and len(t.shape) == 2 and layer_of(t.name) is not None and t.shape[1] % group_size
    ]


def quantize(model: Path, out: Path, awq: Awq, samples: Sequence[Sample], progress: Progress) -> None:
    """Writes the quantized checkpoint of `model` to `out` (compressed-tensors, as vLLM reads it)."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # busy waiting is many times slower on shared cores
    progress.stage("load", unit="items")
    import torch
    from llmcompressor import oneshot
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _without_device_do_not_pin_memory()
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(model)
    weights = AutoModelForCausalLM.from_pretrained(model, dtype="auto")
    data = _tokenized(tokenizer, samples, awq.sequence_length)
    progress.stage("quantize", len(samples), "samples")
    oneshot(
        model=weights,
        tokenizer=tokenizer,
        recipe=_recipe(awq),
        dataset=data,
        num_calibration_samples=len(samples),
        max_seq_length=awq.sequence_length,
        shuffle_calibration_samples=False,
        batch_size=1,
    )
    progress.stage("save", unit="items")
    weights.save_pretrained(out, save_compressed=True)
    tokenizer.save_pretrained(out)
    _finish(model, out)


def _recipe(awq: Awq) -> list[Any]:
    from compressed_tensors.quantization import preset_name_to_scheme  # type: ignore[import-not-found]
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier

    scheme = preset_name_to_scheme(awq.scheme, ["Linear"])
    scheme.weights.group_size = awq.group_size
    return [
        AWQModifier(duo_scaling="both"),
        QuantizationModifier(config_groups={"group_0": scheme}, ignore=list(IGNORED)),
    ]


def _tokenized(tokenizer: Any, samples: Sequence[Sample], length: int) -> Any:
    from datasets import Dataset

    rows = []
    for number, sample in enumerate(samples, 1):
        text = sample.text or _rendered(tokenizer, sample)
        row = dict(tokenizer(text, add_special_tokens=bool(sample.text), truncation=True, max_length=length))
        if not row["input_ids"]:
            raise PermanentError(f"calibration sample {number} has no tokens", reason=Reason.INVALID_CALIBRATION)
        rows.append(row)
    return Dataset.from_list(rows)


def _rendered(tokenizer: Any, sample: Sample) -> str:
    if not getattr(tokenizer, "chat_template", None):
        raise PermanentError(
            "calibration data has messages, but the model has no chat template: use texts",
            reason=Reason.INVALID_CALIBRATION,
        )
    return str(tokenizer.apply_chat_template(list(sample.messages), tokenize=False))


def _without_device_do_not_pin_memory() -> None:
    """llm-compressor 0.14 pins memory whether there is a device or not, and torch then raises."""
    import torch
    from llmcompressor.pipelines.cache import IntermediatesCache

    if not torch.accelerator.is_available():
        IntermediatesCache.pin_memory = lambda self, *args, **kwargs: None


def _finish(model: Path, out: Path) -> None:
    """Adds what neither model nor tokenizer saved, and makes everything readable and durable."""
    for path in model.iterdir():
        target = out / path.name
        if path.is_file() and not target.exists() and ".safetensors" not in path.name:
            shutil.copyfile(path, target)
    for path in out.iterdir():
        path.chmod(0o644)  # safetensors writes 0600; vLLM runs as another user
        sync(path)
    sync(out)
