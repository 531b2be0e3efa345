"""What is refused before a weight is read, and how changes are planned. What they give is compared in test_ml.py."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.job.adapter import Adapter, make_adapter
from controller.job.adapter_config import parse_config
from controller.job.base import read_base
from controller.job.changes import Changes, Weighted
from controller.job.findings import RejectedError
from controller.job.fit import changes_of
from controller.job.merge import merge
from controller.job.progress import Progress
from controller.job.safetensors_header import encode_header, read_header, size_of
from tests.job import tiny_models
from tests.job.tiny_models import HIDDEN, VOCAB, Tensors, lora_config, lora_tensors

UP = "base_model.model.model.layers.0.mlp.up_proj"
EMBED, HEAD = "base_model.model.model.embed_tokens", "base_model.model.lm_head"


def zeros(*shape: int) -> tuple[str, np.ndarray]:
    return "F32", np.zeros(shape)


def read(path: Path) -> Adapter:
    config, problems = parse_config(json.loads((path / "adapter_config.json").read_text()))
    assert config is not None, problems
    return make_adapter(path, config, read_header(path / "adapter_model.safetensors"))


def adapter(path: Path, extra: Tensors | None = None, **config: Any) -> Adapter:
    return read(tiny_models.adapter(path, lora_tensors() | (extra or {}), lora_config(**config)))


def plan(tmp_path: Path, *adapters: Weighted, **base: Any) -> Changes:
    return changes_of(read_base(tiny_models.base(tmp_path / "base", **base)), adapters)


def refused(tmp_path: Path, *adapters: Weighted, **base: Any) -> RejectedError:
    with pytest.raises(RejectedError) as e:
        plan(tmp_path, *adapters, **base)
    return e.value


@pytest.mark.parametrize(
    ("extra", "config", "reason", "message"),
    [
        ({f"{HEAD}.bias": zeros(VOCAB)}, {}, "BaseMismatch", "no tensor lm_head.bias"),
        ({f"{HEAD}.weight": zeros(VOCAB, 7)}, {}, "BaseMismatch", r"lm_head.weight: saved as \[48, 7\]"),
        ({f"{UP}.lora_B.bias": zeros(64)}, {}, "BaseMismatch", "lora_bias .* needs a bias in the base, which has none"),
        ({f"{UP}.lora_magnitude_vector": zeros(3)}, {}, "BaseMismatch", "lora_magnitude_vector .* does not fit"),
        ({}, {"use_dora": True}, "IncompleteTensors", "lora_magnitude_vector is missing for"),
        ({f"{EMBED}.lora_embedding_A": zeros(4, VOCAB)}, {}, "IncompleteTensors", "missing for model.embed_tokens"),
        ({f"{EMBED}.weight": zeros(VOCAB + 2, HIDDEN)}, {}, "IncompleteTensors", "has 50 rows and lm_head.weight 48"),
        ({f"{UP}.lora_magnitude": zeros(3)}, {}, "UnsupportedFormat", "unknown tensors"),
        ({"lm_head.weight": zeros(VOCAB, HIDDEN)}, {}, "UnsupportedFormat", "unknown tensors: lm_head.weight"),
        (
            {f"{EMBED}.token_adapter.trainable_tokens_delta": zeros(2, HIDDEN)},
            {"trainable_token_indices": [1, 48]},
            "BaseMismatch",
            "a token twice, or one that the base has not",
        ),
        (
            {f"{EMBED}.token_adapter.trainable_tokens_delta": zeros(2, HIDDEN)},
            {"trainable_token_indices": [1, 2, 3]},
            "BaseMismatch",
            "do not fit trainable_token_indices",
        ),
    ],
)
def test_what_does_not_fit_the_base_is_refused(
    extra: Tensors, config: dict[str, Any], reason: str, message: str, tmp_path: Path
) -> None:
    error = refused(tmp_path, Weighted(adapter(tmp_path / "a", extra, **config)))
    assert error.reason == reason
    assert any(re.search(message, f.message) for f in error.findings)


@pytest.mark.parametrize(
    "extra",
    [
        {f"{UP}.lora_magnitude_vector": zeros(64)},
        {f"{HEAD}.weight": zeros(VOCAB, HIDDEN)},
        {f"{EMBED}.token_adapter.trainable_tokens_delta": zeros(1, HIDDEN)},
    ],
)
def test_what_replaces_something_is_merged_alone_and_in_full(extra: Tensors, tmp_path: Path) -> None:
    one = adapter(tmp_path / "one", extra, trainable_token_indices=[1])
    plain = adapter(tmp_path / "plain")
    for number, several in enumerate(([Weighted(one), Weighted(plain)], [Weighted(one, 0.5)])):
        error = refused(tmp_path / str(number), *several)
        assert error.reason == "UnsupportedCombination" and "adapter 1 (one)" in error.message


def test_a_base_of_8_bit_floats_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    base = tiny_models.base(tmp_path / "base")
    small = [(t.name, "F8_E4M3", t.shape) for t in read_base(base).tensors()]
    data = bytes(sum(size_of(dtype, shape) for _, dtype, shape in small))
    (base / "model.safetensors").write_bytes(encode_header(small, {}) + data)
    with pytest.raises(RejectedError, match="8 bits or fewer; merge into the unquantized model") as e:
        merge(read_base(base), [Weighted(adapter(tmp_path / "a"))], tmp_path / "out", "auto", Progress())
    assert e.value.reason == "InvalidBase"
    assert not (tmp_path / "out").exists()


def test_tied_embeddings_that_vllm_cannot_untie_are_refused(tmp_path: Path) -> None:
    saved = adapter(tmp_path / "a", {f"{HEAD}.weight": ("F32", np.ones((VOCAB, HIDDEN)))})
    config = {"model_type": "gemma2", "tie_word_embeddings": True}
    error = refused(tmp_path, Weighted(saved), config=config)
    assert "gemma2 with tied embeddings only" in error.message and "ensure_weight_tying" in error.message


def test_what_a_tensor_was_before_the_training_is_not_merged(tmp_path: Path) -> None:
    tensors = {
        f"{HEAD}.original_module.weight": zeros(VOCAB, HIDDEN),
        f"{HEAD}.modules_to_save.weight": zeros(VOCAB, HIDDEN),
        f"{HEAD}.weight": ("F32", np.ones((VOCAB, HIDDEN))),
    }
    found = adapter(tmp_path / "a", tensors)
    assert {n: t.name for n, t in found.saved.items()} == {"lm_head.weight": f"{HEAD}.weight"}
    assert found.unknown == ()


def test_names_of_every_wrapper_of_peft_are_understood(tmp_path: Path) -> None:
    tensors = {
        f"{EMBED}.token_adapter.base_layer.weight": zeros(VOCAB, HIDDEN),
        f"{HEAD}.base_layer.weight": zeros(VOCAB, HIDDEN),
        f"{UP}.base_layer.bias": zeros(64),
        f"{UP}.lora_magnitude_vector.weight": zeros(64),
    }
    found = adapter(tmp_path / "a", tensors)
    names = {"model.embed_tokens.weight", "lm_head.weight", "model.layers.0.mlp.up_proj.bias"}
    assert found.saved.keys() == names
    assert found.magnitudes.keys() == {"model.layers.0.mlp.up_proj"}
    assert found.strays == tuple(sorted(tensors))
