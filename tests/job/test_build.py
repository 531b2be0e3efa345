"""Build without quantization: ids, publication, and what a killed job leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from controller.errors import PermanentError
from controller.job import merge, preflight
from controller.job.base import read_base
from controller.job.build import run_build
from controller.job.contract import AdapterInput, BaseReference, BuildContract, MergeSpec, Quantization, Release
from controller.job.findings import RejectedError
from controller.job.progress import Progress
from controller.job.provenance import read_artifact
from controller.job.store import Store, digest_of, directory_digests
from controller.job.summary import BuildResult
from tests.job import tiny_models
from tests.job.waiting import result_after

NOW = "2026-01-02T03:04:05Z"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_models.base(tmp_path / "base", shards=3)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return tiny_models.adapter(tmp_path / "adapter")


def contract(tmp_path: Path, **changes: Any) -> BuildContract:
    path = tmp_path / "adapter"
    one = AdapterInput(
        name="finetune",
        version="v1",
        digest=digest_of(directory_digests(path)),
        path=str(path),
        training_run="mlflow:/runs/1",
        weight=changes.pop("weight", 1.0),
    )
    return BuildContract(
        release=Release(namespace="llm", name="bot"),
        store=str(tmp_path / "store"),
        base=BaseReference(model=str(tmp_path / "base"), name="tiny-llama", revision=changes.pop("revision", "r1")),
        adapters=(one,),
        **changes,
    )


def built(tmp_path: Path, **changes: Any) -> BuildResult:
    (tmp_path / "store").mkdir(exist_ok=True)
    return run_build(contract(tmp_path, **changes), Progress(), lambda: NOW)


def in_store(tmp_path: Path) -> set[str]:
    root = tmp_path / "store"
    return {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and p.suffix != ".lock"}


def test_a_build_tells_the_controller_what_it_published(base: Path, adapter: Path, tmp_path: Path) -> None:
    result = built(tmp_path)
    path = tmp_path / "store" / "artifacts" / result.artifact_id.removeprefix("sha256:")
    said = read_artifact(path)
    assert result.path == str(path)
    assert result.name == said.name == "merged-tiny-llama-r1-adapter-finetune-v1"
    assert (result.artifact_id, result.digest, result.size_bytes) == (said.id, said.digest, said.size_bytes)
    assert said.inputs["tools"] == {"merge": merge.VERSION}
    assert {"preflight", "digest", "merge", "publish"} <= set(result.seconds)
    assert result.provenance.base_digest.startswith("sha256:")


def test_nobody_may_change_a_published_artifact(base: Path, adapter: Path, tmp_path: Path) -> None:
    path = Path(built(tmp_path).path)
    assert path.stat().st_mode & 0o777 == 0o555
    assert {p.stat().st_mode & 0o777 for p in path.iterdir()} == {0o444}


def test_a_place_for_evaluations_is_there_for_new_and_for_reused_artifacts(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    result = built(tmp_path)
    place = Path(result.path).with_name(f"{Path(result.path).name}.evaluations")
    assert place == Store(tmp_path / "store").evaluations(result.artifact_id)
    assert place.stat().st_mode & 0o777 == 0o755
    place.rmdir()
    assert built(tmp_path).reused
    assert place.is_dir()


def test_the_same_inputs_are_never_built_twice(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = built(tmp_path)

    def never(*_: Any) -> None:
        raise AssertionError("merged again")

    monkeypatch.setattr(merge, "merge", never)
    assert built(tmp_path) == first.model_copy(update={"reused": True})


def test_only_what_changes_a_weight_changes_the_id(base: Path, adapter: Path, tmp_path: Path) -> None:
    first = built(tmp_path).artifact_id
    assert built(tmp_path, revision="r2").artifact_id == first
    others = [
        built(tmp_path, weight=0.5).artifact_id,
        built(tmp_path, merge=MergeSpec(dtype="float16")).artifact_id,
    ]
    (base / "tokenizer.json").write_text('{"other": 1}')
    others.append(built(tmp_path).artifact_id)
    assert len({first, *others}) == 4


def test_a_damaged_artifact_is_not_reused(base: Path, adapter: Path, tmp_path: Path) -> None:
    path = Path(built(tmp_path).path)
    path.chmod(0o755)
    (path / "config.json").unlink()
    with pytest.raises(PermanentError, match="somebody changed it") as e:
        built(tmp_path)
    assert e.value.reason == "ArtifactCorrupted"


def test_another_job_with_the_same_inputs_waits_its_turn_and_finds_the_artifact(
    base: Path, adapter: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = Store(tmp_path / "store").working(built(tmp_path).artifact_id)
    assert result_after(other, lambda: built(tmp_path), caplog).reused


def test_what_nobody_will_go_on_with_is_swept_away_and_what_a_job_works_in_is_not(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.working("running") as running:
        with store.working("abandoned") as abandoned:
            (abandoned / "part").write_text("x")
        store.sweep(before=time.time() + 1)
        assert running.is_dir() and not abandoned.exists()
    with store.working("fresh") as fresh:
        pass
    store.sweep(before=0)
    assert fresh.is_dir()


def test_an_adapter_that_changed_since_its_import_is_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    old = contract(tmp_path)
    (adapter / "README.md").write_text("new")
    with pytest.raises(PermanentError, match="import the adapter again") as e:
        run_build(old, Progress())
    assert e.value.reason == "DigestMismatch"


def test_a_bad_adapter_is_refused_before_any_weight_is_written(base: Path, tmp_path: Path) -> None:
    tiny_models.adapter(tmp_path / "adapter", tiny_models.lora_tensors(layers=3))
    with pytest.raises(RejectedError, match=r"^finetune: layer 2") as refused:
        built(tmp_path)
    assert refused.value.reason == "BaseMismatch"
    assert in_store(tmp_path) == set()


def calibrated(tmp_path: Path, lines: int = 8, group_size: int = 32) -> Quantization:
    path = tmp_path / "calibration.jsonl"
    path.write_text('{"text": "hello"}\n' * lines)
    return Quantization.model_validate(
        {
            "groupSize": group_size,
            "calibration": {"path": str(path), "root": str(tmp_path), "samples": 8, "sequenceLength": 64},
        }
    )


def test_a_group_size_that_does_not_divide_is_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r"group size 64 does not divide .*model.layers.0") as e:
        built(tmp_path, quantization=calibrated(tmp_path, group_size=64))
    assert e.value.reason == "InvalidGroupSize"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 samples, at least 8"),
        ('{"text": "x"}\n' * 7, "7 samples, at least 8"),
        ('{"text": "x"}\n' * 8 + "{", None),
        ("{\n", "line 1 is not JSON"),
        ('{"text": " "}\n', "line 1 has neither"),
        ('{"messages": []}\n', "line 1 has neither"),
        ('{"messages": [{"role": "user"}]}\n', "line 1 has neither"),
    ],
)
def test_bad_calibration_data_is_refused_before_anything_is_loaded(
    text: str, message: str | None, base: Path, adapter: Path, tmp_path: Path
) -> None:
    quantization = calibrated(tmp_path)
    (tmp_path / "calibration.jsonl").write_text(text)
    with pytest.raises(PermanentError) as e:
        built(tmp_path, quantization=quantization)
    # Good data gets as far as asking for torch, which this environment may lack.
    assert (message or "") in str(e.value)
    assert e.value.reason == ("InvalidCalibration" if message else "ToolMissing")


def test_a_quantized_base_is_refused(adapter: Path, tmp_path: Path) -> None:
    tiny_models.base(tmp_path / "base", config={"quantization_config": {"quant_method": "awq"}})
    with pytest.raises(PermanentError, match="is quantized") as e:
        built(tmp_path)
    assert e.value.reason == "InvalidBase"


def test_too_little_memory_is_said_before_it_is_needed(base: Path, adapter: Path, tmp_path: Path) -> None:
    wanted = contract(tmp_path)
    (tmp_path / "store").mkdir()
    with pytest.raises(PermanentError, match="raise the memory limit") as e:
        preflight.there_is_room(read_base(base), wanted, tmp_path / "work", 1 << 30, available=1 << 20)
    assert e.value.reason == "InsufficientMemory"
    preflight.there_is_room(read_base(base), wanted, tmp_path / "work", 1 << 30, available=1 << 30)


def test_too_small_a_gpu_is_said_before_it_is_needed() -> None:
    with pytest.raises(PermanentError, match=r"1.00 GiB are free on the GPU, the build needs 2.00 GiB there") as e:
        preflight.device_has_room(2 << 30, 1 << 30)
    assert e.value.reason == "InsufficientMemory"
    preflight.device_has_room(2 << 30, 2 << 30)
    preflight.device_has_room(0, None)


def test_what_was_used_is_told_beside_what_was_predicted() -> None:
    used = {"predicted": 2 << 30, "peak": 1 << 30, "devicePredicted": 0, "devicePeak": 0}
    assert preflight.memory_used(used) == "1.00 GiB of memory at the peak, 2.00 GiB were predicted"
    told = preflight.memory_used(used | {"devicePredicted": 4 << 30, "devicePeak": 3 << 30})
    assert told.endswith("2.00 GiB were predicted; 3.00 GiB on the device, 4.00 GiB were predicted")


def test_the_containers_own_limit_counts(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable:    2048 kB\n")
    cgroup = tmp_path / "cgroup"
    assert preflight.memory_available(tmp_path / "meminfo", cgroup) == 2 << 20
    cgroup.mkdir()
    (cgroup / "memory.current").write_text("900000\n")
    (cgroup / "memory.stat").write_text("anon 1\ninactive_file 500000\n")
    (cgroup / "memory.max").write_text("max\n")
    assert preflight.memory_available(tmp_path / "meminfo", cgroup) == 2 << 20
    (cgroup / "memory.max").write_text("1000000\n")
    assert preflight.memory_available(tmp_path / "meminfo", cgroup) == 600_000


def test_work_that_nobody_will_finish_is_swept(base: Path, adapter: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for name in ("abandoned", "locked", "recent"):
        with store.working(name) as work:
            (work / "merged.partial").mkdir()
            if name != "recent":
                os.utime(work, (1, 1))
    with store.working("locked"):
        os.utime(store.work("locked"), (1, 1))
        built(tmp_path)
    assert [store.work(n).exists() for n in ("abandoned", "locked", "recent")] == [False, True, True]


def test_a_merge_that_fails_for_good_leaves_no_weights(base: Path, tmp_path: Path) -> None:
    tiny_models.adapter(tmp_path / "adapter", config=tiny_models.lora_config(lora_alpha=1e9))
    with pytest.raises(PermanentError, match="not finite"):
        built(tmp_path, merge=MergeSpec(dtype="float16"))
    assert in_store(tmp_path) == set()


# Jobs in processes of their own, of which the n-th kills itself before the n-th call that changes the disk for good.
# They are forked from one that has imported everything, which waits for a line before each but the first.
KILLED = """
import itertools, os, pathlib, signal, sys
from controller.job import build, contract, progress

left = 0
def deadly(function):
    def call(*arguments, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return call
os.fsync = deadly(os.fsync)
pathlib.Path.rename = deadly(pathlib.Path.rename)
pathlib.Path.unlink = deadly(pathlib.Path.unlink)
pathlib.Path.chmod = deadly(pathlib.Path.chmod)
told = contract.parse_contract(pathlib.Path(sys.argv[1]).read_bytes())
for left in itertools.count(1):
    child = os.fork()
    if child == 0:
        try:
            build.run_build(told, progress.Progress(), lambda: "2026-01-02T03:04:05Z")
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, flush=True)
    if code == 0 or not sys.stdin.readline():
        break
"""


def test_killed_at_any_step_a_job_leaves_no_half_artifact_and_goes_on(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    reference = directory_digests(Path(built(tmp_path).path))
    (tmp_path / "store").rename(tmp_path / "expected")
    (tmp_path / "store").mkdir()
    document = tmp_path / "contract.json"
    document.write_text(contract(tmp_path).to_json())
    command = [sys.executable, "-c", KILLED, str(document)]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    steps = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as jobs:
        assert jobs.stdin is not None and jobs.stdout is not None
        for code in jobs.stdout:
            steps += 1
            _no_half_artifact(tmp_path / "store", set(reference))
            if int(code) == 0:
                break
            assert int(code) == -signal.SIGKILL
            jobs.stdin.write("\n")
            jobs.stdin.flush()
    assert steps > 5
    path = Path(built(tmp_path).path)
    after = directory_digests(path)
    assert {n: d for n, d in after.items() if n != "artifact.json"} == {
        n: d for n, d in reference.items() if n != "artifact.json"
    }
    assert path.stat().st_mode & 0o777 == 0o555
    assert all(name.startswith("artifacts/") for name in in_store(tmp_path))


def _no_half_artifact(store: Path, files: set[str]) -> None:
    for artifact in (store / "artifacts").glob("[0-9a-f]" * 64):
        assert {p.name for p in artifact.iterdir()} == files
        assert read_artifact(artifact).predicate.run_details.metadata.finished_on == NOW
