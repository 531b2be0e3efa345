"""How bad adapters are made, each beside the base that it is checked against."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from controller.cli.main import app
from controller.job.reasons import Reason
from controller.job.safetensors_header import encode_header
from tests.job import odd_models, tiny_models
from tests.job.odd_models import (
    Q0,
    H,
    Shapes,
    V,
    lora_on,
    tensor,
)
from tests.job.tiny_models import Tensors, lora_config, lora_tensors

FIRST = "base_model.model.model.layers.0.self_attn.q_proj"
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
Change = Callable[[Path], Any]


@dataclass(frozen=True)
class Bad:
    """`make` writes `base` and `adapter` into a directory."""

    what: str
    reason: Reason
    make: Callable[[Path], Any]
    arguments: tuple[str, ...] = ("--max-lora-rank", "16")


def check(directory: Path, bad: Bad, *more: str) -> Result:
    """The real command on what `bad` made in `directory`."""
    arguments = ["check", str(directory / "adapter"), "--base", str(directory / "base"), *bad.arguments, *more]
    return CliRunner().invoke(app, arguments)


def plain(tensors: Tensors | None = None, config: dict[str, Any] | None = None, change: Change | None = None) -> Change:
    """An adapter for the usual tiny base; `change` then spoils a file of the directory that holds both."""

    def make(directory: Path) -> None:
        tiny_models.base(directory / "base")
        tiny_models.adapter(directory / "adapter", tensors, config)
        if change is not None:
            change(directory)

    return make


def on(
    shapes: Shapes, tensors: Tensors, base: dict[str, Any] | None = None, dtype: str = "BF16", **config: Any
) -> Change:
    """An adapter for another base. Its targets are the leaves of its modules, unless `config` says others."""

    def make(directory: Path) -> None:
        odd_models.base_of(directory / "base", shapes, dtype, base)
        leaves = {
            n.split(".lora_")[0].rpartition(".")[2] for n in tensors if ".lora_A" in n or ".lora_embedding_A" in n
        }
        document = lora_config(**{"target_modules": sorted(leaves), **config})
        tiny_models.adapter(directory / "adapter", tensors, document)

    return make


def setting(**changes: Any) -> Change:
    return plain(config=lora_config() | changes)


def file(name: str, content: str | bytes) -> Change:
    data = content.encode() if isinstance(content, str) else content
    return plain(change=lambda d: (d / "adapter" / name).write_bytes(data))


def header(document: Any, data: bytes = b"") -> Change:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return file(WEIGHTS, struct.pack("<Q", len(text)) + text + data)


def without(part: str) -> Tensors:
    return {k: v for k, v in lora_tensors().items() if part not in k}


def with_value(value: float, dtype: str) -> Tensors:
    tensors = lora_tensors(dtype=dtype)
    tensors[f"{FIRST}.lora_B.weight"][1][3, 1] = value
    return tensors


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def integers(directory: Path) -> None:
    content = encode_header([(f"{FIRST}.lora_A.weight", "I8", (4, 32)), (f"{FIRST}.lora_B.weight", "I8", (32, 4))], {})
    (directory / "adapter" / WEIGHTS).write_bytes(content + bytes(256))
    (directory / "adapter" / CONFIG).write_text(json.dumps(lora_config(target_modules=[FIRST[17:]])))


def link_out(directory: Path) -> None:
    (directory / "adapter" / WEIGHTS).rename(directory / "elsewhere")
    (directory / "adapter" / WEIGHTS).symlink_to("../elsewhere")


def loop(directory: Path) -> None:
    (directory / "adapter" / "README.md").symlink_to("README.md")


def many(directory: Path) -> None:
    for n in range(1001):
        (directory / "adapter" / f"checkpoint-{n}").touch()


def cut(directory: Path) -> None:
    path = directory / "adapter" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1])


def tokenizer(adapter: Any, base: Any) -> Change:
    def change(directory: Path) -> None:
        for name, tokens in (("adapter", adapter), ("base", base)):
            document = {"model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(tokens)}}}
            (directory / name / "tokenizer.json").write_text(json.dumps(document))

    return plain(change=change)


LORA_Q = lora_on({Q0: (H, H)})
EMBED = tensor("model.embed_tokens.lora_embedding_A", 4, V) | tensor("model.embed_tokens.lora_embedding_B", H, 4)
STABLE = ("--stage", "Stable")
