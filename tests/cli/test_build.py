"""`adapterrelease build`, as a data scientist calls it: from an adapter to a verified artifact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from controller.cli.main import app
from controller.job.provenance import read_artifact
from tests.job import tiny_models
from tests.job.tiny_models import lora_tensors

RELEASE = """
apiVersion: adapterrelease.dev/v1alpha1
kind: AdapterRelease
metadata: {name: support-bot, namespace: llm}
spec:
  stage: Stable
  baseRef: {name: tiny-llama}
  adapters:
  - {name: finetune, version: v3, source: {uri: "pvc://incoming/adapter"}}
  build: {quantization: {method: "None"}}
"""


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(app, ["build", *(str(a) for a in arguments)])


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_models.base(tmp_path / "Tiny Llama_3")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return tiny_models.adapter(tmp_path / "adapter")


def test_one_command_makes_a_verified_artifact_of_an_adapter(base: Path, adapter: Path, tmp_path: Path) -> None:
    done = call("--base", base, "--adapter", adapter, "--out", tmp_path / "store")
    assert done.exit_code == 0, done.output
    said = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if not line.startswith(("serve", "check")))
    made = read_artifact(Path(said["where"]))
    assert said["artifact"].startswith("merged-tiny-llama-3-") and "-adapter-adapter-" in said["artifact"]
    assert (said["id"], said["digest"]) == (made.id, made.digest)
    assert "% of the base's" in said["size"] and "merge " in said["took"]
    assert f"vllm serve {said['where']} --served-model-name {made.name}" in done.stdout
    assert f"adapterrelease verify {said['where']}" in done.stdout
    assert "verified" in said and "stage merge" in done.stderr


def test_the_same_again_is_said_to_be_there_already(base: Path, adapter: Path, tmp_path: Path) -> None:
    given = ("--base", base, "--adapter", adapter, "--out", tmp_path / "store")
    first, second = call(*given, "--json"), call(*given, "--json")
    assert json.loads(second.stdout) == json.loads(first.stdout) | {"reused": True}
    assert "had been built before" in call(*given).stdout


def test_an_adapter_is_called_what_the_user_says(base: Path, adapter: Path, tmp_path: Path) -> None:
    done = call(
        *("--base", base, "--adapter", adapter, "--out", tmp_path / "store", "--json"),
        *("--name", "support", "--version", "v7", "--training-run", "mlflow:/runs/1", "--dtype", "float32"),
    )
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["name"].endswith("-adapter-support-v7")
    (made_of,) = result["provenance"]["adapters"]
    assert (made_of["trainingRun"], result["provenance"]["dtype"]) == ("mlflow:/runs/1", "float32")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--dtype", "int3"], "dtype"),
        (["--method", "GGUF", "--calibration", "CALIBRATION"], "method"),
        (["--method", "AWQ"], "calibration"),
        (["--calibration", "CALIBRATION"], "--calibration needs a --method"),
        (["--scheme", "W4A16", "--group-size", "64"], "--scheme, --group-size needs a --method"),
        (["--samples", "16"], "--samples needs a --method"),
        (["--method", "FP8", "--sequence-length", "64"], "--sequence-length needs --calibration"),
        (["--volume", "incoming=x"], "--volume goes with -f only"),
        (["--name", "../x"], "name"),
        (["-f", "CALIBRATION"], "either -f RELEASE or --adapter DIR"),
    ],
)
def test_arguments_that_say_nothing_that_can_be_built_are_refused(
    more: list[str], message: str, base: Path, adapter: Path, tmp_path: Path
) -> None:
    data = tmp_path / "calibration.jsonl"
    data.write_text("{}\n")
    given = [str(data) if a == "CALIBRATION" else a for a in more]
    done = call("--base", base, "--adapter", adapter, "--out", tmp_path / "store", *given)
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("adapterrelease: InvalidArgument: ") and message in done.stderr
    assert not (tmp_path / "store" / "artifacts").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--method", "None"], "--method goes with --adapter only"),
        (["--dtype", "float32", "--name", "x"], "--name, --dtype goes with --adapter only"),
    ],
)
def test_options_of_an_adapter_are_not_ignored_beside_a_release(
    more: list[str], message: str, base: Path, tmp_path: Path
) -> None:
    (tmp_path / "release.yaml").write_text(RELEASE)
    done = call("-f", tmp_path / "release.yaml", "--base", base, "--out", tmp_path / "store", *more)
    assert done.exit_code == 2
    assert f"InvalidArgument: {message}" in done.stderr


def test_a_source_whose_address_is_none_is_refused(base: Path, tmp_path: Path) -> None:
    (tmp_path / "release.yaml").write_text(RELEASE.replace("pvc://incoming/adapter", "https://h:99999/x"))
    done = call("-f", tmp_path / "release.yaml", "--base", base, "--out", tmp_path / "store")
    assert done.exit_code == 2
    assert "SourceInvalid: https://h:99999/x is no address" in done.stderr


def test_calibration_data_reach_the_build(base: Path, adapter: Path, tmp_path: Path) -> None:
    data = tmp_path / "calibration.jsonl"
    data.write_text("{}\n")
    done = call(
        *("--base", base, "--adapter", adapter, "--out", tmp_path / "store"),
        *("--method", "AWQ", "--group-size", 32, "--calibration", data),
    )
    assert (done.exit_code, "InvalidCalibration" in done.stderr) == (2, True), done.output


def test_a_bad_adapter_is_refused_with_every_reason_on_a_line(base: Path, tmp_path: Path) -> None:
    tensors = lora_tensors(layers=3)
    del tensors["base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"]
    bad = tiny_models.adapter(tmp_path / "bad", tensors)
    given = ("--base", base, "--adapter", bad, "--out", tmp_path / "store")
    done = call(*given)
    assert (done.exit_code, done.stdout) == (2, "")
    reasons = [x.split(": ")[1] for x in done.stderr.splitlines() if x.startswith("adapterrelease: ")]
    assert reasons == ["IncompleteTensors", "BaseMismatch"]
    said = json.loads(call(*given, "--json").stdout)
    assert (said["ok"], [f["reason"] for f in said["findings"]]) == (False, reasons)


def test_an_artifact_that_is_changed_is_not_called_built(base: Path, adapter: Path, tmp_path: Path) -> None:
    given = ("--base", base, "--adapter", adapter, "--out", tmp_path / "store", "--json")
    weights = Path(json.loads(call(*given).stdout)["path"]) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(content)
    weights.chmod(0o444)
    done = call(*given)
    assert done.exit_code == 2
    assert [f["reason"] for f in json.loads(done.stdout)["findings"]] == ["ArtifactCorrupted"]


def test_a_release_is_built_from_its_file(base: Path, adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "release.yaml").write_text(RELEASE)
    given = ["-f", tmp_path / "release.yaml", "--base", base, "--out", tmp_path / "store", "--json"]
    done = call(*given)
    assert done.exit_code == 2 and "--volume incoming=DIR" in done.stdout
    done = call(*given, "--volume", f"incoming={tmp_path}")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["name"].startswith("merged-tiny-llama-") and result["name"].endswith("-adapter-finetune-v3")
    assert (Path(result["path"]) / "artifact.json").is_file()
    assert [p.name for p in (tmp_path / "store" / "adapters" / "finetune").iterdir()] == [
        result["provenance"]["adapters"][0]["digest"].removeprefix("sha256:")
    ]


def test_what_is_wrong_with_a_release_is_said(base: Path, tmp_path: Path) -> None:
    (tmp_path / "release.yaml").write_text("metadata: {name: x}\nspec: {stage: Stable}\n")
    done = call("-f", tmp_path / "release.yaml", "--base", base, "--out", tmp_path / "store")
    assert done.exit_code == 2
    assert "InvalidRelease" in done.stderr and "baseRef" in done.stderr
