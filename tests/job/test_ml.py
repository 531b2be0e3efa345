"""Against the real tools: PEFT's merges, llm-compressor's AWQ. Needs the ML environment."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from controller.job.base import read_base, read_raw
from controller.job.check import check_adapter
from controller.job.contract import AdapterInput, BaseReference, BuildContract, Quantization, Release
from controller.job.floats import decode
from controller.job.merge import Weighted, merge
from controller.job.progress import Progress
from controller.job.safetensors_header import read_header
from controller.job.store import digest_of, directory_digests
from controller.job.summary import BuildResult, parse_summary
from tests.job.conftest import Ml
from tests.job.ml_models import KINDS

pytestmark = [pytest.mark.ml, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def models(ml: Ml, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    ml("-m", "tests.job.ml_models", "make", directory)
    return directory


@pytest.mark.parametrize("kind", KINDS)
def test_what_peft_saves_is_accepted_and_merged_as_peft_merges_it(kind: str, models: Path, tmp_path: Path) -> None:
    base = read_base(models / "base")
    adapter, findings = check_adapter(models / kind, base, 16)
    assert adapter is not None and findings == ()
    merge(base, [Weighted(adapter)], tmp_path / "out", "float32", Progress())
    merged = read_base(tmp_path / "out")
    reference = models / f"{kind}.peft.safetensors"
    changed = 0
    for name, info in read_header(reference).tensors.items():
        expected = decode(read_raw(reference, info), info.dtype)
        ours = merged.tensor(name)
        assert ours is not None and ours.dtype == "F32"
        got = decode(read_raw(merged.path / merged.location[name], ours), "F32")
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)
        old = base.tensor(name)
        assert old is not None
        changed += not np.array_equal(got, decode(read_raw(base.path / base.location[name], old), old.dtype))
    assert changed == len(adapter.modules)


def contract(models: Path, store: Path) -> BuildContract:
    calibration = store.parent / "calibration.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": f"ticket {i} about the bill"}], "expected": "billing"}
        for i in range(16)
    ]
    calibration.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return BuildContract(
        release=Release(namespace="llm", name="bot"),
        store=str(store),
        base=BaseReference(model=str(models / "base"), name="tiny"),
        adapters=(
            AdapterInput(
                name="finetune",
                version="v1",
                digest=digest_of(directory_digests(models / "plain")),
                path=str(models / "plain"),
            ),
        ),
        quantization=Quantization.model_validate(
            {
                "groupSize": 32,
                "calibration": {
                    "path": str(calibration),
                    "root": str(calibration.parent),
                    "samples": 16,
                    "sequenceLength": 64,
                },
            }
        ),
    )


def test_an_awq_artifact_is_built_once_and_is_still_the_model(ml: Ml, models: Path, tmp_path: Path) -> None:
    store, document = tmp_path / "store", tmp_path / "contract.json"
    store.mkdir()
    document.write_text(contract(models, store).to_json())
    job = ("-m", "controller", "job", "--contract", document, "--termination-log", tmp_path / "end")
    ml(*job)
    first = parse_summary((tmp_path / "end").read_text()).result
    assert isinstance(first, BuildResult) and not first.reused
    path = Path(first.path)
    quantization = json.loads((path / "config.json").read_text())["quantization_config"]
    weights = quantization["config_groups"]["group_0"]["weights"]
    assert (weights["num_bits"], weights["group_size"], weights["symmetric"]) == (4, 32, False)
    assert {"llmcompressor", "torch", "transformers", "compressed-tensors"} <= set(first.provenance.tools)
    assert {p.stat().st_mode & 0o777 for p in path.iterdir()} == {0o444}
    assert (path / "tokenizer.json").is_file() and (path / "chat_template.jinja").is_file()
    assert [p for p in (store / ".work").iterdir() if p.suffix != ".lock"] == []

    ml(*job)
    second = parse_summary((tmp_path / "end").read_text()).result
    assert second == first.model_copy(update={"reused": True})

    adapter, _ = check_adapter(models / "plain", read_base(models / "base"))
    assert adapter is not None
    merge(read_base(models / "base"), [Weighted(adapter)], tmp_path / "merged", "auto", Progress())
    said = ml("-m", "tests.job.ml_models", "compare", tmp_path / "merged", path).stdout
    assert json.loads(said.splitlines()[-1])["cosine"] > 0.97
