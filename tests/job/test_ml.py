"""Against the real tools: PEFT's merges, llm-compressor's AWQ. Needs the ML environment."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from controller.job.adapter import Adapter, make_adapter
from controller.job.adapter_config import parse_config
from controller.job.base import read_base, read_raw
from controller.job.check import check_adapter
from controller.job.contract import AdapterInput, BaseReference, BuildContract, Quantization, Release
from controller.job.floats import Float64, decode
from controller.job.merge import Weighted, merge
from controller.job.progress import Progress
from controller.job.safetensors_header import TensorInfo, read_header
from controller.job.store import digest_of, directory_digests
from controller.job.summary import BuildResult, parse_summary
from tests.job.conftest import Ml
from tests.job.ml_models import KINDS, SERVABLE

ROUNDING = 1e-6  # PEFT computes in float32, whose last bit is 6e-8; lengths of rows are sums of 128 squares
pytestmark = [pytest.mark.ml, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def models(ml: Ml, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    ml("-m", "tests.job.ml_models", "make", directory)
    return directory


def adapter_of(kind: str, models: Path) -> Adapter:
    config, problems = parse_config(json.loads((models / kind / "adapter_config.json").read_text()))
    assert config is not None, problems
    return make_adapter(models / kind, config, read_header(models / kind / "adapter_model.safetensors"))


@pytest.fixture(scope="module")
def merged(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind, merged in float32."""
    directory = tmp_path_factory.mktemp("merged")
    for kind, about in KINDS.items():
        weighted = [Weighted(adapter_of(kind, models))]
        merge(read_base(models / about.base), weighted, directory / kind, "float32", Progress())
    return directory


def values(path: Path, info: TensorInfo) -> Float64:
    return decode(read_raw(path, info), info.dtype).reshape(info.shape)


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_merged_as_peft_merges_it(kind: str, models: Path, merged: Path) -> None:
    reference, ours = models / f"{kind}.peft.safetensors", read_base(merged / kind)
    head = "lm_head.weight"
    embedding = next(n for n in ours.location if n.endswith(("embed_tokens.weight", "wte.weight")))
    tied = head not in ours.location
    expected = read_header(reference).tensors
    assert expected.keys() - ours.location.keys() == ({head} if tied else set())
    worst = 0.0
    for name, info in expected.items():
        mine = ours.tensor(embedding if tied and name == head else name)
        assert mine is not None and (mine.dtype, mine.shape) == ("F32", info.shape)
        wanted, got = values(reference, info), values(ours.path / ours.location[mine.name], mine)
        worst = max(worst, float(np.abs(got - wanted).max() / np.abs(wanted).max()))
    print(f"measured: {kind}: {worst:.1e} of the largest weight of its tensor is the largest difference to PEFT")
    assert worst < ROUNDING


def test_the_merged_model_answers_as_the_live_adapter(ml: Ml, models: Path, merged: Path) -> None:
    far = json.loads(ml("-m", "tests.job.ml_models", "answers", models, merged).stdout.splitlines()[-1])
    print("measured: largest difference of a logit to the live adapter's, of the largest logit:")
    print("\n".join(f"measured: {kind}: {share:.1e}" for kind, share in far.items()))
    assert far.keys() == KINDS.keys()
    assert max(far.values()) < 1e-5


@pytest.mark.parametrize("kind", SERVABLE)
def test_what_peft_saves_is_accepted_and_merged(kind: str, models: Path, merged: Path) -> None:
    base, result = read_base(models / "base"), read_base(merged / kind)
    adapter, findings = check_adapter(models / kind, base, 16)
    assert adapter is not None and findings == ()
    changed = 0
    for old, new in zip(base.tensors(), result.tensors(), strict=True):
        assert old.name == new.name
        before, after = (values(m.path / m.location[old.name], t) for m, t in ((base, old), (result, new)))
        changed += not np.array_equal(before, after)
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
