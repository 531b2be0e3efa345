"""Quantizes a model by llm-compressor. Runs on a GPU, or on a CPU where there is none.

torch and its kin are imported when they are used, and nowhere else. Must not know of adapters or the store.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from controller.job.calibration import Row, Sample, tokenized
from controller.job.contract import Quantization
from controller.job.linears import is_left_alone
from controller.job.merge import is_other_file
from controller.job.merged_model import model_class
from controller.job.progress import Progress
from controller.job.provenance import CARD, DOCUMENT
from controller.job.recipes import recipe
from controller.job.store import sync

log = logging.getLogger("adapterrelease.job")

VERSION = "3"  # part of the artifact's id: raise it when the result changes for the same inputs
SHARD = "5GB"  # a file: whoever reads the artifact, or verifies it, reads several at a time
_LAYER = re.compile(r"(?:.*\.)?(?:layers|h|blocks|layer)\.[0-9]+(?=\.|$)")
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "passive",  # busy waiting is many times slower on shared cores
    "TQDM_DISABLE": "1",
}


def inputs(spec: Quantization | None, calibration_digest: str | None) -> dict[str, Any] | None:
    """What of `spec` decides the bytes of the result."""
    if spec is None or spec.method is None:
        return None
    made: dict[str, Any] = {"method": spec.method, "scheme": spec.scheme}
    if spec.group_size is not None:
        made["groupSize"] = spec.group_size
    if spec.calibration is not None:
        made |= {
            "calibrationDigest": calibration_digest,
            "samples": spec.calibration.samples,
            "sequenceLength": spec.calibration.sequence_length,
        }
    return made


def prepared(model: Path, spec: Quantization, samples: Sequence[Sample]) -> list[Row]:
    """The samples in tokens. Reads config and tokenizer only, and refuses here what would fail after hours.

    Raises PermanentError if the samples are of no use to the model, or the method does not know its architecture.
    """
    _set_up()
    recipe(spec, model_class(model).__name__)
    if spec.calibration is None:
        return []
    from transformers import AutoTokenizer

    return tokenized(AutoTokenizer.from_pretrained(model), samples, spec.calibration.sequence_length)


def quantize(
    load: Callable[[], Any],
    files: Path,
    out: Path,
    spec: Quantization,
    rows: Sequence[Row],
    progress: Progress,
    inputs_on_host: bool = False,
) -> None:
    """Writes the quantized checkpoint to `out`, in compressed-tensors as vLLM reads it.

    `load` gives the model; `files` holds its config, its tokenizer and what else lies beside weights. With
    `inputs_on_host` the device holds less at once, and is slower.
    """
    _set_up()
    import torch
    from llmcompressor import oneshot
    from llmcompressor.core import create_session
    from transformers import AutoTokenizer

    torch.manual_seed(0)
    model = load()
    modifiers = recipe(spec, type(model).__name__, inputs_on_host)
    tokenizer = AutoTokenizer.from_pretrained(files)
    with create_session() as session, _layers_counted(session, model, modifiers, progress):
        oneshot(model=model, tokenizer=tokenizer, recipe=modifiers, **_calibration(spec, rows))
        progress.stage("save", unit="items")
        model.save_pretrained(out, save_compressed=True, max_shard_size=SHARD)
    tokenizer.save_pretrained(out)
    _finish(files, out)


def device_memory() -> int | None:
    """Bytes that are free on the device that layers are worked on, or None if that is this process's memory."""
    import torch

    return int(torch.accelerator.get_memory_info()[0]) if torch.accelerator.is_available() else None


def _calibration(spec: Quantization, rows: Sequence[Row]) -> dict[str, Any]:
    if spec.calibration is None:
        return {}
    from datasets import Dataset

    return {
        "dataset": Dataset.from_list(list(rows)),
        "num_calibration_samples": len(rows),
        "max_seq_length": spec.calibration.sequence_length,
        "shuffle_calibration_samples": False,
        "batch_size": 1,
    }


@contextmanager
def _layers_counted(session: Any, model: Any, modifiers: Sequence[Any], progress: Progress) -> Iterator[None]:
    """Progress by layers: every pass over the data ends layer by layer, and the session tells its modifiers so."""
    from llmcompressor.core import EventType

    layer_of = _layers(model)
    count = len(set(layer_of.values()))
    passes = sum(m.requires_calibration_data for m in modifiers)
    total = count * max(passes, 1)
    progress.stage("quantize", total, "layers")
    tell, done, seen = session.event, 0, set[str]()

    def told(event_type: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal done
        answer = tell(event_type, *arguments, **named)
        if event_type is EventType.CALIBRATION_START:
            seen.clear()
        elif event_type is EventType.SEQUENTIAL_EPOCH_END:
            new = {layer_of[id(m)] for m in named["modules"] if id(m) in layer_of} - seen
            seen.update(new)
            step = min(len(new), total - done)  # a last pass over all layers at once, without data, is no work
            done += step
            if step:
                progress.advance(step)
        return answer

    session.event = told
    try:
        yield
    finally:
        del session.event


def _layers(model: Any) -> dict[int, str]:
    """Layer by module, for the modules of the layers that are quantized; names change when experts are taken apart."""
    import torch

    found: dict[int, str] = {}
    for name, module in model.named_modules():
        layer = _LAYER.match(name)
        if layer and isinstance(module, torch.nn.Linear) and not is_left_alone(name):
            found[id(module)] = layer[0]
    return found


def _set_up() -> None:
    """llm-compressor, as a job wants it: offline, and silent on stdout, which is the command's result."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with redirect_stdout(sys.stderr):  # what it says while it is imported goes where its logger then points to
        import llmcompressor  # noqa: F401
    _without_device_do_not_pin_memory()
    _hear_warnings()


def _without_device_do_not_pin_memory() -> None:
    """llm-compressor 0.14 pins memory whether there is a device or not, and torch then raises."""
    import torch
    from llmcompressor.pipelines.cache import IntermediatesCache

    if not torch.accelerator.is_available():
        IntermediatesCache.pin_memory = lambda self, *args, **kwargs: None


def _hear_warnings() -> None:
    """It says most things once for each module; once is enough."""
    from loguru import logger

    said = set[str]()

    def hear(message: Any) -> None:
        text = message.record["message"]
        if text not in said:
            said.add(text)
            log.warning("llm-compressor: %s", text)

    logger.remove()
    logger.add(hear, level="WARNING", format="{message}", filter=lambda record: record["level"].name != "METRIC")


def _finish(files: Path, out: Path) -> None:
    """Adds what neither model nor tokenizer saved, and makes everything readable and durable."""
    copy_other_files(files, out)
    for path in out.iterdir():
        path.chmod(0o644)  # safetensors writes 0600; vLLM runs as another user
        sync(path)
    sync(out)


def copy_other_files(files: Path, out: Path) -> None:
    """What lies beside weights and is not there yet. What an artifact says of itself is not true of another one."""
    of_artifact = {DOCUMENT, CARD} if (files / DOCUMENT).exists() else set()
    for path in files.iterdir():
        target = out / path.name
        if is_other_file(path) and path.name not in of_artifact and not target.exists():
            shutil.copyfile(path, target)
