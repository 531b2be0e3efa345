"""What of the files beside the weights a quantized model takes along. Needs no torch."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.job.quantize import copy_other_files

OTHERS = ("config.json", "generation_config.json", "chat_template.jinja")
WEIGHTS = ("model.safetensors", "pytorch_model-00001-of-00002.bin", "consolidated.00.pth", "model-q4.gguf")
NOT_TAKEN = (*WEIGHTS, "model.safetensors.index.json", "pytorch_model.bin.index.json", ".gitattributes")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    for name in (*OTHERS, *NOT_TAKEN, "README.md"):
        (path / name).write_text("of the model")
    (path / "original").mkdir()
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.mkdir()
    (path / "config.json").write_text("quantized")
    return path


def test_weights_in_other_formats_and_hidden_files_are_left_behind(model: Path, out: Path) -> None:
    copy_other_files(model, out)
    assert {p.name for p in out.iterdir()} == {*OTHERS, "README.md"}
    assert (out / "config.json").read_text() == "quantized"


def test_what_an_artifact_says_of_itself_is_left_behind(model: Path, out: Path) -> None:
    (model / "artifact.json").write_text("{}")
    copy_other_files(model, out)
    assert {p.name for p in out.iterdir()} == set(OTHERS)
