"""The commands that need no cluster, as a user calls them."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from controller.cli.main import app
from controller.job.base import read_base
from controller.job.check import check_adapter
from controller.job.merge import Weighted, merge
from controller.job.progress import Progress
from controller.job.store import directory_digests
from tests.job import tiny_models
from tests.job.serving import FakeModel, serve
from tests.job.tiny_models import lora_config, lora_tensors

pytestmark = pytest.mark.slow


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_models.base(tmp_path / "base")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return tiny_models.adapter(tmp_path / "adapter")


def test_check_says_that_an_adapter_is_good(base: Path, adapter: Path) -> None:
    done = call("check", adapter, "--base", base)
    assert (done.exit_code, done.stdout) == (0, "good: rank 4, 8 modules\n")


def test_check_tells_every_reason_and_exits_with_2(base: Path, tmp_path: Path) -> None:
    bad = tiny_models.adapter(tmp_path / "bad", lora_tensors(rank=32, layers=3), lora_config(32))
    done = call("check", bad, "--base", base, "--max-lora-rank", 16)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "BaseMismatch: " in done.stderr and "RankTooHigh: " in done.stderr
    done = call("check", bad, "--base", base, "--max-lora-rank", 16, "--json")
    assert done.exit_code == 2
    said = json.loads(done.stdout)
    assert (said["ok"], [f["reason"] for f in said["findings"]]) == (False, ["BaseMismatch", "RankTooHigh"])


def test_check_against_something_that_is_no_model(adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = call("check", adapter, "--base", tmp_path / "empty", "--json")
    assert done.exit_code == 2
    assert json.loads(done.stdout)["findings"][0]["reason"] == "InvalidBase"


def test_merge_writes_what_the_job_would(base: Path, adapter: Path, tmp_path: Path) -> None:
    done = call("merge", "--base", base, "--adapter", f"{adapter}=0.5", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    found, _ = check_adapter(adapter, read_base(base))
    assert found is not None
    merge(read_base(base), [Weighted(found, 0.5)], tmp_path / "expected", "bfloat16", Progress())
    assert directory_digests(tmp_path / "out") == directory_digests(tmp_path / "expected")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--combine", "ties"], "--combine ties"),
        (["--dtype", "int4"], "--dtype int4"),
        (["--out", "EXISTING"], "exists already"),
        (["--adapter", "ADAPTER=heavy"], "not a weight"),
        (["--adapter", "ADAPTER=nan"], "not a weight"),
        (["--adapter", "ADAPTER=inf"], "not a weight"),
    ],
)
def test_merge_refuses_what_it_cannot_do(
    arguments: list[str], message: str, base: Path, adapter: Path, tmp_path: Path
) -> None:
    more = [a.replace("EXISTING", str(base)).replace("ADAPTER", str(adapter)) for a in arguments]
    given = ["--base", base, "--adapter", adapter, "--out", tmp_path / "out", *more]
    done = call("merge", *given)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def merged(base: Path, adapter: Path, weight: float, out: Path) -> dict[str, str]:
    found, _ = check_adapter(adapter, read_base(base))
    assert found is not None
    merge(read_base(base), [Weighted(found, weight)], out, "bfloat16", Progress())
    return directory_digests(out)


def test_a_directory_with_a_number_in_its_name_is_no_weight(base: Path, tmp_path: Path) -> None:
    adapter = tiny_models.adapter(tmp_path / "ckpt-lr=0.0002")
    done = call("merge", "--base", base, "--adapter", adapter, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert directory_digests(tmp_path / "out") == merged(base, adapter, 1.0, tmp_path / "expected")
    weighted = call("merge", "--base", base, "--adapter", f"{adapter}=0.5", "--out", tmp_path / "half")
    assert weighted.exit_code == 0, weighted.output
    assert directory_digests(tmp_path / "half") == merged(base, adapter, 0.5, tmp_path / "expected-half")


@pytest.fixture
def killed(adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a merge leaves whose disk fails when the second of three shards is to get its name: the first one."""
    tiny_models.base(tmp_path / "sharded", shards=3)
    count, rename = iter(range(1, 1 << 30)), os.rename

    def fail(*arguments: Any, **more: Any) -> None:
        if next(count) > 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(*arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        done = call("merge", "--base", tmp_path / "sharded", "--adapter", adapter, "--out", tmp_path / "out")
    assert done.exit_code == 1, done.output
    (shard,) = (tmp_path / "out.partial").glob("*.safetensors")
    return shard


def test_a_merge_that_was_killed_goes_on(adapter: Path, killed: Path, tmp_path: Path) -> None:
    before = killed.stat()
    base, out = tmp_path / "sharded", tmp_path / "out"
    done = call("merge", "--base", base, "--adapter", adapter, "--out", out)
    assert done.exit_code == 0, done.output
    after = (out / killed.name).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert directory_digests(out) == merged(base, adapter, 1.0, tmp_path / "expected")
    assert not list(tmp_path.glob("out.*"))


@pytest.mark.parametrize("changed", ["weight", "base", "adapter"])
def test_a_merge_of_something_else_begins_anew(changed: str, adapter: Path, killed: Path, tmp_path: Path) -> None:
    base, weight = tmp_path / "sharded", 1.0
    if changed == "weight":
        weight = 0.5
    elif changed == "base":
        content = bytearray((base / killed.name).read_bytes())
        content[-4:] = b"\0\0\0\0"
        (base / killed.name).write_bytes(content)
    else:
        shutil.rmtree(adapter)
        tensors = {name: (dtype, value * 2) for name, (dtype, value) in lora_tensors().items()}
        tiny_models.adapter(adapter, tensors)
    done = call("merge", "--base", base, "--adapter", f"{adapter}={weight}", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert directory_digests(tmp_path / "out") == merged(base, adapter, weight, tmp_path / "expected")


@pytest.mark.parametrize("command", ["merge", "quantize"])
def test_two_runs_do_not_write_one_directory(command: str, base: Path, adapter: Path, tmp_path: Path) -> None:
    inputs = {"merge": ("--base", base, "--adapter", adapter), "quantize": ("--model", base, "--method", "FP8")}
    with (tmp_path / "out.partial.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = call(command, *inputs[command], "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "another run is writing" in done.stderr
    assert not (tmp_path / "out.partial").exists()


def test_all_that_a_merge_writes_is_on_the_disk_before_it_has_its_name(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, fsync = list[str](), os.fsync

    def told(fd: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", told)
    done = call("merge", "--base", base, "--adapter", adapter, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    for path in (tmp_path / "out").iterdir():
        assert str(tmp_path / "out.partial" / path.name) in synced
    assert synced[-1] == str(tmp_path)
    assert "stage merge" in done.stderr and done.stdout == f"{tmp_path / 'out'}\n"


DATA = ["--calibration", "DATA"]


@pytest.mark.parametrize(
    ("arguments", "reason", "message"),
    [
        (["--group-size", 32, *DATA], "InvalidCalibration", "line 1 has neither messages nor a text"),
        (
            ["--group-size", 64, *DATA],
            "InvalidGroupSize",
            "group size 64 does not divide the input size of model.layers.0",
        ),
        (["--group-size", 48, *DATA], "InvalidArgument", "--group-size: Input should be 32"),
        (["--method", "GGUF"], "InvalidArgument", "--method: "),
        (["--method", "None", "--samples", 16], "InvalidArgument", "--samples needs a --method"),
        (["--method", "None"], "InvalidArgument", "nothing to do"),
        (["--method", "GPTQ"], "InvalidArgument", "GPTQ needs calibration data"),
        (["--method", "INT8", "--scheme", "W4A16", *DATA], "InvalidArgument", "scheme W4A16 is not one of INT8: W8A8"),
        (["--method", "FP8", *DATA], "InvalidArgument", "FP8 looks at no calibration data"),
        (["--method", "FP8", "--group-size", 32], "InvalidArgument", "FP8 has no groups"),
        (["--method", "FP8", "--out", "EXISTING"], "InvalidArgument", "exists already"),
    ],
)
def test_quantize_refuses_what_it_cannot_do_before_it_loads_anything(
    arguments: list[Any], reason: str, message: str, base: Path, tmp_path: Path
) -> None:
    (tmp_path / "c.jsonl").write_text("{}\n")
    names = {"DATA": tmp_path / "c.jsonl", "EXISTING": base}
    done = call("quantize", "--model", base, "--out", tmp_path / "o", *[names.get(a, a) for a in arguments])
    assert done.exit_code == 2
    assert f"{reason}: " in done.stderr and message in done.stderr
    assert not (tmp_path / "o.partial").exists()


def suite(tmp_path: Path) -> Path:
    path = tmp_path / "s.jsonl"
    rows = [{"messages": [{"role": "user", "content": f"t{i}"}], "expected": f"t{i}"} for i in range(10)]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


@pytest.mark.parametrize(
    ("answers", "code", "verdict"),
    [
        (lambda q: q, 0, "Pass"),
        (lambda q: q if q != "t3" else "?", 1, "Fail"),
        (lambda q: q if q != "t3" else 500, 3, "Inconclusive"),
    ],
)
def test_evaluate_exits_by_its_verdict(answers: Any, code: int, verdict: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        a = stack.enter_context(serve(FakeModel("one", lambda q: q)))
        b = stack.enter_context(serve(FakeModel("two", answers)))
        given = ["evaluate", "--suite", suite(tmp_path), "--requests", 8]
        given += ["--reference", f"http://127.0.0.1:{a}#one", "--candidate", f"http://127.0.0.1:{b}#two"]
        done = call(*given, "--json")
        people = call(*given)
    assert (done.exit_code, people.exit_code) == (code, code), done.output
    said = json.loads(done.stdout)
    assert said["verdict"] == verdict
    assert said["suites"][0]["samples"] == 10
    assert f"verdict: {verdict}" in people.stdout


@pytest.mark.parametrize(
    ("least", "code", "says"),
    [
        (("--min-score", "0.9"), 0, "verdict: Pass"),
        (("--min-score", "0.95"), 1, "below minScore 0.95"),
        ((), 2, "--min-score: there is no live adapter to compare with"),
        (("--min-score", "0"), 2, "--min-score: there is no live adapter to compare with"),
        (("--min-score", "much"), 2, "InvalidArgument: --min-score much: give a share from 0 to 1"),
        (("--min-score", "0.9", "--max-score-drop", "2"), 2, "InvalidArgument: --max-score-drop 2: give a share"),
    ],
)
def test_evaluate_judges_a_candidate_alone_by_the_lowest_score(
    least: tuple[str, ...], code: int, says: str, tmp_path: Path
) -> None:
    with serve(FakeModel("one", lambda q: q if q != "t3" else "?")) as port:
        given = ["evaluate", "--suite", suite(tmp_path), "--requests", 8, "--candidate", f"http://127.0.0.1:{port}#one"]
        done = call(*given, *least)
    assert done.exit_code == code, done.output
    assert says in done.stdout + done.stderr


def test_evaluate_keeps_its_scores_beside_the_artifact(base: Path, adapter: Path, tmp_path: Path) -> None:
    made = call("build", "--adapter", adapter, "--base", base, "--out", tmp_path / "store", "--json")
    built = json.loads(made.stdout)
    with serve(FakeModel("one", lambda q: q)) as port:
        given = ["evaluate", "--suite", suite(tmp_path), "--requests", 8]
        given += [x for side in ("reference", "candidate") for x in (f"--{side}", f"http://127.0.0.1:{port}#one")]
        for artifact in (base, tmp_path):
            refused = call(*given, "--artifact", artifact)
            assert refused.exit_code == 2 and "no artifact is in" in refused.stderr
        moved = tmp_path / "moved"
        shutil.copytree(built["path"], moved)
        assert "STORE/artifacts/HEX" in call(*given, "--artifact", moved).stderr
        done = call(*given, "--artifact", built["path"], "--json")
        again = call(*given, "--artifact", built["path"])
        with (tmp_path / "s.jsonl").open("a") as more:
            more.write('{"messages": [{"role": "user", "content": "t"}], "expected": "t"}\n')
        other = call(*given, "--artifact", built["path"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["verdict"] == "Pass"
    first, second, third = (Path(c.stderr.strip().removeprefix("scores: ")) for c in (done, again, other))
    assert first == second != third
    said = json.loads(first.read_text())["predicate"]
    assert (said["artifact"]["id"], said["adapter"], said["suites"][0]["samples"]) == (built["artifactId"], None, 10)
    assert json.loads(third.read_text())["predicate"]["suites"][0]["samples"] == 11


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--reference", "http://x"], "--reference 'http://x': give URL#MODEL"),
        (["--candidate", "ftp://x#m"], "--candidate 'ftp://x#m': give URL#MODEL"),
        (["--candidate", "http://x y#m"], "--candidate 'http://x y#m': give URL#MODEL"),
        (["--candidate", "http://h:port#m"], "http://h:port is no address"),
        (["--candidate", "http://h:99999#m"], "http://h:99999 is no address"),
        (["--concurrency", 0], "--concurrency: "),
        (["--requests", 0], "--requests: "),
        (["--max-tokens", 0], "--max-tokens: "),
    ],
)
def test_evaluate_refuses_what_cannot_be_asked(more: list[Any], message: str, tmp_path: Path) -> None:
    done = call("evaluate", "--suite", suite(tmp_path), "--min-score", "0.9", "--candidate", "http://y#m", *more)
    assert done.exit_code == 2, done.output
    assert f"InvalidArgument: {message}" in done.stderr


def test_an_endpoint_that_cannot_be_asked_is_no_verdict(tmp_path: Path) -> None:
    with serve(FakeModel("one", lambda q: q)) as port:
        given = ["--suite", suite(tmp_path), "--min-score", "0.9", "--candidate", f"http://127.0.0.1:{port}#another"]
        done = call("evaluate", *given)
    assert done.exit_code == 3, done.output
    assert "ModelNotServed: " in done.stderr


@pytest.mark.parametrize("module", ["numpy", "torch", "kubernetes"])
def test_help_is_there_without_the_heavy_modules(module: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; from controller.cli.main import app; app(['--help'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in (
        "operator",
        "crd",
        "job",
        "check",
        "merge",
        "quantize",
        "evaluate",
        "build",
        "verify",
        "card",
        "sign",
    ):
        assert command in done.stdout


def test_check_needs_neither_torch_nor_the_kubernetes_client(base: Path, adapter: Path) -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'kubernetes', 'safetensors', 'transformers']));"
        f"from controller.cli.main import app; app(['check', {str(adapter)!r}, '--base', {str(base)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
