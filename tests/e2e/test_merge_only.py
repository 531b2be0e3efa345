"""An adapter that vLLM cannot serve: refused while it is Experimental, merged and proven when it is Stable."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from controller.job.floats import decode
from controller.job.safetensors_header import read_header
from tests.e2e.cluster import Cluster, measured
from tests.e2e.release import ANSWER, Release, cheaply, spec_of

pytestmark = pytest.mark.e2e


@pytest.fixture
def with_saved_head(cluster: Cluster) -> str:
    """v1 with a copy of the base's output layer, as modules_to_save leaves it: the same answers."""
    v1, name = cluster.store / "incoming" / "support-bot" / "v1", "saved-head"
    made = cluster.store / "incoming" / name
    shutil.copytree(v1, made, dirs_exist_ok=True)
    weights, described = made / "adapter_model.safetensors", made / "adapter_config.json"
    head = float32(cluster.store / "models" / "base" / "model.safetensors", "lm_head.weight")
    tensors = load_file(weights) | {"base_model.model.lm_head.weight": head}
    config = json.loads(described.read_text()) | {"modules_to_save": ["lm_head"]}
    weights.unlink()
    save_file(tensors, weights, metadata={"format": "pt"})
    weights.chmod(0o644)
    described.write_text(json.dumps(config))
    return name


def float32(path: Path, name: str) -> np.ndarray:
    info = read_header(path).tensors[name]
    stored = np.fromfile(path, np.uint8)[info.start : info.end]
    return decode(stored, info.dtype).reshape(info.shape).astype(np.float32)


@pytest.fixture
def release(cluster: Cluster) -> Iterator[Release]:
    new = Release(cluster, "merge-only")
    yield new
    new.delete()


def test_an_adapter_that_vllm_cannot_serve_goes_straight_to_stable(release: Release, with_saved_head: str) -> None:
    release.set_spec(cheaply(spec_of(source=with_saved_head)))
    refused = release.until("AdapterLoaded", "False", "NotServableDynamically")
    measured("an adapter with a saved module is refused with", refused["message"][:200])
    assert release.serving == {}

    release.patch({"spec": {"stage": "Stable"}})
    release.until("Promoted", "True", seconds=600)
    release.until("AdapterLoaded", "False", "MergedOnly")
    assert release.serving["kind"] == "Artifact"
    assert ANSWER in release.ask()
    (scored,) = release.status["artifact"]["scores"]
    assert not scored.get("adapter")
    assert float(scored["artifact"]) > 0.95
    for pod in release.cluster.base_pods():
        assert not [name for name in release.cluster.models_in(pod) if "merge-only" in name]
