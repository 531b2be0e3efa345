"""Every method of quantization, as a user without a cluster goes: one command builds, vLLM serves, a suite scores."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.e2e.cluster import measured
from tests.e2e.release import spec_of
from tests.e2e.vllm_server import CHECKOUT, ml_env, score, served

pytestmark = pytest.mark.e2e

Json = dict[str, Any]
METHODS = {"AWQ": 4, "GPTQ": 4, "FP8": 8, "INT8": 8}
ALLOWED_DROP = 0.01  # the default of maxQuantizedScoreDrop


@pytest.fixture(scope="module")
def environment() -> Path:
    return ml_env()


@pytest.fixture(scope="module")
def store(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's base, its good adapter and its data; trained once and kept in the cache."""
    store = tmp_path_factory.mktemp("store")
    for part in ("base", "v1"):
        _run(environment, "-m", "sandbox.models", store, "--only", part)
    return store


@pytest.fixture(scope="module")
def live(environment: Path, store: Path) -> Json:
    """Scores of what is served before: the base, and the adapter on it."""
    adapter = f"support-bot={store / 'incoming/support-bot/v1'}"
    flags = ("--served-model-name=tiny-llama", "--enable-lora", "--max-lora-rank=16", "--lora-modules", adapter)
    with served(environment, store / "models/base", store / "base.log", *flags) as url:
        return {name: score(url, name, store / "suites/support.jsonl") for name in ("tiny-llama", "support-bot")}


@pytest.fixture(scope="module")
def table(live: Json) -> Iterator[list[str]]:
    """Printed when all rows are in."""
    sizes = "| model | quantization | score | build | weights | start |"
    rows = [sizes, "|---|---|---|---|---|---|"]
    rows += [f"| {name} | | {said['score']:.3f} | | | |" for name, said in live.items()]
    yield rows
    measured("quantizations", "\n" + "\n".join(rows))


@pytest.mark.parametrize("method", METHODS)
def test_an_artifact_of_each_method_is_served_and_as_good_as_the_adapter(
    method: str, environment: Path, store: Path, live: Json, table: list[str]
) -> None:
    began = time.monotonic()
    built = _build(environment, store, method)
    seconds = time.monotonic() - began
    config = json.loads((Path(built["path"]) / "config.json").read_text())["quantization_config"]
    (group,) = config["config_groups"].values()
    assert (config["quant_method"], group["weights"]["num_bits"]) == ("compressed-tensors", METHODS[method])
    assert "lm_head" in config["ignore"]
    began = time.monotonic()
    flags = ("--served-model-name=support-bot",)
    with served(environment, Path(built["path"]), store / f"{method}.log", *flags) as url:
        start = time.monotonic() - began
        (listed,) = httpx.get(f"{url}/v1/models", trust_env=False).json()["data"]
        assert (listed["id"], listed["root"]) == ("support-bot", built["path"])
        said = score(url, "support-bot", store / "suites/support.jsonl")
    quantization, mib = built["provenance"]["quantization"], built["sizeBytes"] / (1 << 20)
    table.append(
        f"| artifact | {quantization} | {said['score']:.3f} | {seconds:.0f} s | {mib:.1f} MiB | {start:.0f} s |"
    )
    assert live["support-bot"]["score"] > live["tiny-llama"]["score"] + 0.5
    assert said["score"] >= live["support-bot"]["score"] - ALLOWED_DROP


def _build(environment: Path, store: Path, method: str) -> Json:
    spec = spec_of("Stable")
    quantization = spec["build"]["quantization"] | {"method": method}
    if method in ("FP8", "INT8"):
        del quantization["groupSize"]
    if method == "FP8":
        del quantization["calibration"]
    spec["build"]["quantization"] = quantization
    release = store / f"{method}.yaml"
    meta = {"name": "support-bot", "namespace": "llm"}
    release.write_text(
        yaml.safe_dump(
            {"apiVersion": "adapterrelease.dev/v1alpha1", "kind": "AdapterRelease", "metadata": meta, "spec": spec}
        )
    )
    places = ("--base", store / "models/base", "--out", store, "--volume", f"store={store}", "--json")
    built: Json = json.loads(_run(environment, "-m", "controller", "build", "-f", release, *places))
    return built


def _run(environment: Path, *arguments: str | Path) -> str:
    variables = {"PYTHONPATH": str(CHECKOUT), "CUDA_VISIBLE_DEVICES": "", "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        [environment / "bin" / "python", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | variables,
        cwd=CHECKOUT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
