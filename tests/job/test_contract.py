"""The documents between controller and job."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.job import contract
from controller.job.summary import (
    BuildResult,
    EvaluateResult,
    Failure,
    FailureKind,
    ImportResult,
    Provenance,
    SuiteResult,
    Summary,
    parse_summary,
    termination_message,
)

RELEASE = {"namespace": "llm", "name": "support-bot", "uid": "u"}
DIGEST = "sha256:" + "a" * 64
IMPORT: dict[str, Any] = {
    "apiVersion": "job.adapterrelease.dev/v1alpha1",
    "kind": "Import",
    "release": RELEASE,
    "store": "/store",
    "adapter": {"name": "finetune", "version": "v3", "source": {"path": "/in/a", "root": "/in"}},
    "base": {"model": "/store/models/base", "name": "tiny"},
    "maxLoraRank": 16,
}
BUILD: dict[str, Any] = {
    "kind": "Build",
    "release": RELEASE,
    "store": "/store",
    "base": {"model": "/m", "name": "tiny"},
    "adapters": [{"name": "finetune", "version": "v3", "digest": DIGEST, "path": "/store/adapters/finetune/a"}],
    "merge": {"dtype": "bfloat16", "device": "auto"},
    "quantization": {
        "method": "AWQ",
        "scheme": "W4A16_ASYM",
        "groupSize": 128,
        "calibration": {"url": "https://x/y.jsonl", "samples": 8, "sequenceLength": 256},
    },
}
EVALUATE: dict[str, Any] = {
    "kind": "Evaluate",
    "release": RELEASE,
    "store": "/store",
    "artifact": {"id": DIGEST, "digest": DIGEST, "adapterDigest": DIGEST, "inputs": "e" * 64},
    "reference": {"url": "http://a.llm.svc:8000", "model": "support-bot", "root": "/store/adapters/a"},
    "candidate": {"url": "http://b.llm.svc:8000", "model": "support-bot"},
    "suites": [{"name": "s", "source": {"path": "/s/a", "root": "/s"}, "scorer": "ExactMatch", "maxTokens": 24}],
    "benchmark": {"concurrency": 4, "requests": 16},
    "examples": "None",
}


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    copy = json.loads(json.dumps(document))
    *parents, last = path.split(".")
    place = copy
    for p in parents:
        place = place[int(p)] if p.isdigit() else place[p]
    place[last] = value
    return copy


@pytest.mark.parametrize("document", [IMPORT, BUILD, EVALUATE])
def test_a_contract_survives_the_way_to_the_job(document: dict[str, Any]) -> None:
    parsed = contract.parse_contract(json.dumps(document))
    assert parsed.kind == document["kind"]
    assert contract.parse_contract(parsed.to_json()) == parsed


@pytest.mark.parametrize(
    ("document", "path", "value", "message"),
    [
        (IMPORT, "kind", "Delete", "tag"),
        (IMPORT, "apiVersion", "job.adapterrelease.dev/v2", "apiVersion"),
        (IMPORT, "adapter.name", "../../etc", "adapter.name"),
        (IMPORT, "adapter.name", ".hidden", "adapter.name"),
        (IMPORT, "adapter.source", {"path": "/in/a"}, "root"),
        (IMPORT, "adapter.source", {"path": "/a", "root": "/", "url": "https://x/"}, "either path or url"),
        (IMPORT, "adapter.source", {"url": "http://x/a"}, "url"),
        (IMPORT, "adapter.digest", "sha256:zz", "digest"),
        (IMPORT, "surprise", 1, "surprise"),
        (BUILD, "adapters", [], "adapters"),
        (BUILD, "adapters.0.weight", float("nan"), "weight"),
        (BUILD, "merge.dtype", "int8", "dtype"),
        (BUILD, "quantization.calibration", None, "AWQ needs calibration"),
        (BUILD, "quantization.method", "GGUF", "quantization.method"),
        (BUILD, "quantization.method", "INT8", "scheme W4A16_ASYM is not one of INT8: W8A8"),
        (BUILD, "quantization.method", None, "scheme W4A16_ASYM is not one of no quantization: there is none"),
        (BUILD, "quantization.groupSize", 100, "groupSize"),
        (BUILD, "quantization", {"method": "FP8", "groupSize": 128}, "FP8 has no groups"),
        (
            BUILD,
            "quantization",
            {"method": "FP8", "calibration": {"url": "https://x/y"}},
            "FP8 looks at no calibration",
        ),
        (BUILD, "quantization", {"method": None, "calibration": {"url": "https://x/y"}}, "looks at no calibration"),
        (EVALUATE, "suites", [], "suites"),
        (EVALUATE, "suites.0.maxTokens", 0, "maxTokens"),
        (EVALUATE, "reference.url", "ftp://x", "url"),
        (EVALUATE, "store", None, "give the store"),
        (EVALUATE, "artifact.id", "sha256:../../etc", "artifact.id"),
        (EVALUATE, "artifact.id", "../" + "a" * 61, "artifact.id"),
        (EVALUATE, "artifact.digest", "", "artifact.digest"),
        (EVALUATE, "artifact.inputs", "../../x", "artifact.inputs"),
        (EVALUATE, "artifact.inputs", "a" * 64 + "/x", "artifact.inputs"),
    ],
)
def test_a_wrong_contract_is_refused_by_field(document: dict[str, Any], path: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        contract.parse_contract(json.dumps(changed(document, path, value)))


@pytest.mark.parametrize(
    ("method", "said"),
    [("AWQ", "AWQ W4A16_ASYM g128"), ("GPTQ", "GPTQ W4A16 g128"), ("INT8", "INT8 W8A8"), ("FP8", "FP8 FP8_DYNAMIC")],
)
def test_what_is_not_said_is_the_methods_own(method: str, said: str) -> None:
    data = {} if method == "FP8" else {"calibration": {"url": "https://x/y"}}
    quantization = contract.Quantization.model_validate({"method": method, **data})
    assert str(quantization) == said
    assert contract.Quantization.model_validate_json(quantization.to_json()) == quantization


def test_no_quantization_says_so() -> None:
    assert str(contract.Quantization.model_validate({"method": None})) == "none"


def test_the_controller_needs_no_more_than_pydantic_for_it() -> None:
    code = (
        "import sys; import controller.job.contract, controller.job.summary;"
        "print([m for m in ('numpy', 'torch', 'httpx', 'transformers') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@settings(deadline=None)  # the machine may be busy
@given(st.text(max_size=9000), st.lists(st.text(max_size=40), max_size=40))
def test_a_failure_fits_into_the_termination_message(message: str, reasons: list[str]) -> None:
    failure = Failure(kind=FailureKind.PERMANENT, reason="BaseMismatch", message=message, reasons=tuple(reasons))
    text = termination_message(Summary(kind="Import", failure=failure))
    assert len(text.encode()) <= 4096
    said = parse_summary(text).failure
    assert said is not None
    assert (said.kind, said.reason) == (failure.kind, failure.reason)
    assert said.message == message or said.message.endswith(" ...")


def test_a_cut_message_keeps_as_much_as_fits() -> None:
    failure = Failure(kind=FailureKind.TRANSIENT, reason="X", message='"\n' * 4000)
    assert 4000 < len(termination_message(Summary(kind="Build", failure=failure)).encode()) <= 4096


def test_long_results_lose_what_the_store_has_anyway() -> None:
    built = BuildResult(
        artifact_id="sha256:" + "0" * 64,
        path="/store/artifacts/0",
        name="merged",
        digest=DIGEST,
        size_bytes=1,
        reused=False,
        seconds={"merge": 1.0},
        provenance=Provenance(
            base_name="b", base_digest=DIGEST, adapters=(), dtype="auto", tools={f"t{i}": "1" * 40 for i in range(100)}
        ),
    )
    short = parse_summary(termination_message(Summary(kind="Build", result=built))).result
    assert isinstance(short, BuildResult)
    assert (short.artifact_id, short.provenance.tools) == (built.artifact_id, {})
    imported = ImportResult(digest=DIGEST, rank=8, path="/p", size_bytes=1, files=("f" * 50,) * 100)
    assert parse_summary(termination_message(Summary(kind="Import", result=imported))).failure is None


def test_sixteen_suites_fit() -> None:
    suites = tuple(
        SuiteResult(name="n" * 63, samples=10**6, reference=1 / 3, candidate=1 / 7, agreement=1 / 9, errors=0)
        for _ in range(16)
    )
    text = termination_message(Summary(kind="Evaluate", result=EvaluateResult(suites=suites)))
    assert parse_summary(text).failure is None


@pytest.mark.parametrize("text", ["", "{", "Killed", '{"kind":"Import"}'])
def test_what_a_killed_pod_leaves_is_no_summary(text: str) -> None:
    with pytest.raises(ValueError, match="Summary"):
        parse_summary(text)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -0.1, 1.1])
def test_a_score_that_is_no_share_cannot_be_said(score: float) -> None:
    with pytest.raises(ValueError, match="reference"):
        SuiteResult(name="s", samples=1, reference=score, candidate=0, agreement=0, errors=0)
