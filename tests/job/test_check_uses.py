"""Who may use what vLLM cannot serve: `check` for Stable, `merge` and `build`, which serve nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.cli.test_offline import call
from tests.job import odd_models, tiny_models
from tests.job.odd_models import LLAMA, Q0, SEES, VISION, H, lora_on, tensor
from tests.job.tiny_models import lora_config


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return odd_models.base_of(tmp_path / "base", LLAMA)


@pytest.fixture
def dora(tmp_path: Path) -> Path:
    tensors = lora_on({Q0: (H, H)}) | tensor(f"{Q0}.lora_magnitude_vector", H)
    config = lora_config(target_modules=["q_proj"], use_dora=True)
    return tiny_models.adapter(tmp_path / "incoming" / "dora", tensors, config)


def test_check_and_merge_take_it_for_stable(base: Path, dora: Path, tmp_path: Path) -> None:
    assert call("check", dora, "--base", base).exit_code == 2
    done = call("check", dora, "--base", base, "--stage", "Stable", "--json")
    assert (done.exit_code, json.loads(done.stdout)["ok"]) == (0, True)
    done = call("merge", "--base", base, "--adapter", dora, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output


def test_what_sees_is_merged_and_not_served(tmp_path: Path) -> None:
    """A target is called the same in the tower; vLLM leaves that part of the adapter out."""
    base = odd_models.base_of(tmp_path / "base", VISION)
    tensors = lora_on({f"language_model.{Q0}": (H, H), SEES: (H, H)})
    adapter = tiny_models.adapter(tmp_path / "adapter", tensors, lora_config(target_modules=["q_proj"]))
    done = call("check", adapter, "--base", base)
    assert done.exit_code == 2 and f"a LoRA on what sees or hears ({SEES})" in done.stderr
    assert call("check", adapter, "--base", base, "--stage", "Stable").exit_code == 0
    done = call("merge", "--base", base, "--adapter", adapter, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output


def test_build_takes_it(base: Path, dora: Path, tmp_path: Path) -> None:
    release = {
        "apiVersion": "adapterrelease.dev/v1alpha1",
        "kind": "AdapterRelease",
        "metadata": {"name": "bot", "namespace": "llm"},
        "spec": {
            "stage": "Stable",
            "baseRef": {"name": "tiny"},
            "adapters": [{"name": "finetune", "version": "v1", "source": {"uri": "pvc://incoming/dora"}}],
            "build": {"quantization": {"method": "None"}},
        },
    }
    (tmp_path / "release.yaml").write_text(yaml.safe_dump(release))
    arguments = ["-f", tmp_path / "release.yaml", "--base", base, "--out", tmp_path / "store"]
    done = call("build", *arguments, "--volume", f"incoming={tmp_path / 'incoming'}")
    assert done.exit_code == 0, done.output
