"""Every method on real tiny models of three families: llm-compressor's result against the merged model. Needs torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from controller.job.base import read_base, read_raw
from controller.job.safetensors_header import TensorInfo
from controller.job.verify import Wanted, verify
from tests.job.conftest import Ml

pytestmark = [pytest.mark.ml, pytest.mark.timeout(900)]

EIGHT = ["FP8", "INT8"]
SPECS = {
    "llama": [*EIGHT, "AWQ W4A16_ASYM 32", "AWQ W4A16 64", "GPTQ W4A16 128", "GPTQ W4A16_ASYM 32"],
    "qwen3_moe": [*EIGHT, "AWQ W4A16_ASYM 32", "GPTQ W4A16 64"],
    "mixtral": ["FP8", "AWQ W4A16 32", "GPTQ W4A16 32"],
}
CASES = [(family, spec) for family, specs in SPECS.items() for spec in specs]
LEAST_COSINE = {"FP8": 0.99, "INT8": 0.99, "AWQ": 0.97, "GPTQ": 0.95}  # random weights have no structure to exploit
Json = dict[str, Any]


@pytest.fixture(scope="module")
def models(ml: Ml, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    ml("-m", "tests.job.quantizing", "make", directory)
    return directory


@pytest.fixture(scope="module")
def built(ml: Ml, models: Path) -> dict[str, Json]:
    """Each family in one process: torch takes seconds to import."""
    said = {}
    for family, specs in SPECS.items():
        out = ml("-m", "tests.job.quantizing", "build", models, family, *specs).stdout
        said[family] = json.loads(out)  # all of stdout: nothing else may be on it
    return said


def stored(directory: str) -> dict[str, tuple[TensorInfo, bytes]]:
    model = read_base(Path(directory))
    return {t.name: (t, read_raw(model.path / model.location[t.name], t).tobytes()) for t in model.tensors()}


@pytest.mark.parametrize(("family", "spec"), CASES)
def test_a_quantized_model_is_still_the_model(family: str, spec: str, built: dict[str, Json]) -> None:
    assert LEAST_COSINE[spec.split()[0]] < built[family][spec]["cosine"] < 0.99999


@pytest.mark.parametrize(("family", "spec"), CASES)
def test_its_config_says_what_was_asked_for(family: str, spec: str, built: dict[str, Json]) -> None:
    said = json.loads((Path(built[family][spec]["path"]) / "config.json").read_text())["quantization_config"]
    (group,) = said["config_groups"].values()
    weights, method = group["weights"], spec.split()[0]
    assert (said["quant_method"], group["targets"]) == ("compressed-tensors", ["Linear"])
    if method in EIGHT:
        kind = "float" if method == "FP8" else "int"
        assert (weights["num_bits"], weights["type"], weights["strategy"]) == (8, kind, "channel")
        activations = group["input_activations"]
        assert (activations["num_bits"], activations["type"]) == (8, kind)
        assert (activations["dynamic"], activations["strategy"]) == (True, "token")
    else:
        _, scheme, size = spec.split()
        assert (weights["num_bits"], weights["type"], weights["group_size"]) == (4, "int", int(size))
        assert weights["symmetric"] == (scheme == "W4A16")
        assert not group["input_activations"]


@pytest.mark.parametrize(("family", "spec"), CASES)
def test_head_embeddings_norms_and_routers_are_not_quantized(family: str, spec: str, built: dict[str, Json]) -> None:
    merged, quantized = stored(built[family]["None"]["path"]), stored(built[family][spec]["path"])
    kept = {name for name in merged if name in quantized and quantized[name][0].dtype == "BF16"}
    routers = {name for name in merged if name.endswith(".gate.weight")}
    assert kept == {n for n in merged if "norm" in n} | routers | {"lm_head.weight", "model.embed_tokens.weight"}
    assert len(routers) == (0 if family == "llama" else 2)
    # AWQ and SmoothQuant move scales out of norms into what reads them: a router gets its share, and stays exact.
    moves = spec.split()[0] in ("AWQ", "INT8")
    same = {n for n in kept if merged[n][1] == quantized[n][1]}
    assert {"lm_head.weight", "model.embed_tokens.weight"} <= same
    assert moves or same == kept
    said = json.loads((Path(built[family][spec]["path"]) / "config.json").read_text())["quantization_config"]
    assert {"lm_head", *(r.removesuffix(".weight") for r in routers)} <= set(said["ignore"])


@pytest.mark.parametrize(("family", "spec"), CASES)
def test_progress_goes_layer_by_layer(family: str, spec: str, built: dict[str, Json]) -> None:
    passes = 2 if spec == "INT8" else 1  # SmoothQuant looks at all layers before GPTQ
    said = [(done, total) for _, done, total, _ in built[family][spec]["layers"]]
    assert said == ([(2, 2)] if spec == "FP8" else [(n, 2 * passes) for n in range(1, 2 * passes + 1)])
    assert {unit for *_, unit in built[family][spec]["layers"]} == {"layers"}


@pytest.mark.parametrize("method", ["FP8", "AWQ"])
def test_what_is_merged_into_memory_is_what_would_lie_on_the_disk(
    method: str, ml: Ml, models: Path, built: dict[str, Json], tmp_path: Path
) -> None:
    spec = {"FP8": "FP8", "AWQ": "AWQ W4A16_ASYM 32"}[method]
    merged = built["llama"]["None"]["path"]
    given = ["--calibration", models / "llama" / "calibration.jsonl", "--group-size", "32"] if method == "AWQ" else []
    more = ["--samples", "16", "--sequence-length", "64"] if method == "AWQ" else []
    done = ml(
        "-m", "controller", "quantize", "--model", merged, "--out", tmp_path / "out", "--method", method, *given, *more
    )
    assert done.stdout == f"{tmp_path / 'out'}\n"
    once, again = stored(built["llama"][spec]["path"]), stored(str(tmp_path / "out"))
    assert {n: data for n, (_, data) in once.items()} == {n: data for n, (_, data) in again.items()}
    configs = [
        json.loads((Path(d) / "config.json").read_text()) for d in (built["llama"][spec]["path"], tmp_path / "out")
    ]
    assert configs[0] == configs[1]


@pytest.mark.parametrize("method", ["AWQ", "INT8"])
def test_a_vision_tower_stays_though_its_layers_are_called_the_same(
    method: str, ml: Ml, models: Path, tmp_path: Path
) -> None:
    data = tmp_path / "calibration.jsonl"
    data.write_text("".join(json.dumps({"text": f"ticket {n} " * 8}) + "\n" for n in range(16)))
    given = ["--calibration", data, "--sequence-length", "64"] + (["--group-size", "32"] if method == "AWQ" else [])
    ml(
        "-m",
        "controller",
        "quantize",
        "--model",
        models / "gemma3",
        "--out",
        tmp_path / "out",
        "--method",
        method,
        *given,
    )
    before, after = stored(str(models / "gemma3")), stored(str(tmp_path / "out"))
    seeing = {name for name in before if "vision_tower" in name or "projector" in name}
    assert len(seeing) > 20
    assert all(after[name][1] == before[name][1] for name in seeing)
    quantized = {n for n in before if ".language_model." in f".{n}" and n.endswith("_proj.weight")}
    assert len(quantized) == 14
    assert all(n not in after or after[n][0].dtype == "I8" for n in quantized)


def last_line(said: str) -> str:
    """llm-compressor logs to stdout before."""
    return said.splitlines()[-1]


def test_what_a_device_has_no_room_for_stays_on_the_host(ml: Ml) -> None:
    program = """
import json
from controller.job.contract import Quantization
from controller.job.recipes import recipe
spec = Quantization.model_validate({"method": "AWQ", "calibration": {"path": "/c", "root": "/"}})
print(json.dumps([str(recipe(spec, "LlamaForCausalLM", on_host)[0].offload_device) for on_host in (False, True)]))
"""
    default, on_host = json.loads(last_line(ml("-c", program).stdout))
    assert on_host == "cpu" != default


def test_a_large_model_is_several_files(ml: Ml, models: Path, tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from controller.job import quantize
from tests.job.quantizing import finished
quantize.SHARD = "100KB"
finished(*map(Path, sys.argv[1:]))
"""
    result = json.loads(ml("-c", program, models, tmp_path / "store").stdout)
    names = {p.name for p in Path(result["path"]).iterdir()}
    assert len([n for n in names if n.endswith(".safetensors")]) > 2
    assert "model.safetensors.index.json" in names
    _, findings = verify(Path(result["path"]), Wanted(result["artifactId"]), lambda _: None, lambda _: None)
    assert findings == []


def test_of_what_attention_returns_only_its_output_is_kept(ml: Ml) -> None:
    program = """
import json, weakref
from types import SimpleNamespace
from controller.job.contract import Quantization
from controller.job.recipes import recipe
class Weights: pass
alive, counts = weakref.WeakSet(), []
def attention(n):
    weights = Weights()
    alive.add(weights)
    counts.append(len(alive))
    return n, weights
spec = Quantization.model_validate({"method": "AWQ", "calibration": {"path": "/c", "root": "/"}})
awq = type(recipe(spec, "LlamaForCausalLM")[0])
samples = SimpleNamespace(_parent_args_cache={attention: [{"n": n} for n in range(8)], abs: []})
print(json.dumps([awq._run_samples(samples, attention), max(counts)]))
"""
    outputs, most = json.loads(last_line(ml("-c", program).stdout))
    assert outputs == list(range(8))
    assert most <= 2


def test_a_store_holds_no_second_copy_and_nothing_half(models: Path, built: dict[str, Json]) -> None:
    for family in SPECS:
        assert [p for p in (models / family / "store" / ".work").iterdir() if p.suffix != ".lock"] == []


def test_a_quantization_that_was_killed_merges_again(ml: Ml, models: Path, tmp_path: Path) -> None:
    """Killed while it saves: what it left is not taken for finished."""
    done = ml("-m", "tests.job.quantizing", "killed", models, tmp_path / "store", check=False)
    assert done.returncode == -9, done.stderr
    (partial,) = (tmp_path / "store" / ".work").glob("*/quantized.partial")
    assert list(partial.iterdir()) != []
    assert not (tmp_path / "store" / "artifacts").exists()
    again = json.loads(ml("-m", "tests.job.quantizing", "finished", models, tmp_path / "store").stdout)
    assert (Path(again["path"]) / "artifact.json").is_file()
    assert "merge" in again["seconds"] and not again["reused"]


@pytest.mark.parametrize(
    ("what", "reason", "message"),
    [
        ("a missing tensor", "InvalidBase", "no weights, or none that fit, for model.layers.1.mlp.up_proj.weight"),
        ("an unknown architecture", "UnsupportedQuantization", "transformers 5"),
        ("an architecture that AWQ does not know", "UnsupportedQuantization", "AWQ does not know PhiForCausalLM"),
        ("short calibration data", "InvalidCalibration", "have less than 8 tokens"),
        ("no chat template", "InvalidCalibration", "no chat template"),
    ],
)
def test_what_cannot_be_quantized_is_refused(what: str, reason: str, message: str, ml: Ml, models: Path) -> None:
    said = json.loads(ml("-m", "tests.job.quantizing", "refused", models, what).stdout)
    assert said["reason"] == reason
    assert message in said["message"]
    assert said["stages"] == ([] if what == "a missing tensor" else ["calibration"])
