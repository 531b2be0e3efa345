"""A job from the outside: exit codes, the termination message, progress, and being asked to stop."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from controller.errors import PermanentError, TransientError
from controller.job.failures import failure_of
from controller.job.progress import Progress, ProgressServer
from controller.job.reasons import Reason
from controller.job.run import main as run_job
from controller.job.store import Store
from controller.job.summary import ImportResult, Summary, parse_summary, termination_message
from tests.job import tiny_models
from tests.job.serving import Answer, FakeModel, serve

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).resolve().parents[2]


def start(contract: Path, end: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "controller", "job", "--contract", str(contract), "--termination-log", str(end)]
    return subprocess.Popen(
        [*command, "--progress-port", "0"], cwd=CHECKOUT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run(tmp_path: Path, document: object) -> tuple[int, Summary]:
    (tmp_path / "contract.json").write_text(json.dumps(document))
    process = start(tmp_path / "contract.json", tmp_path / "end")
    out, _ = process.communicate(timeout=60)
    assert out.strip() == (tmp_path / "end").read_text()
    return process.returncode, parse_summary(out)


def import_contract(tmp_path: Path) -> dict[str, object]:
    return {
        "kind": "Import",
        "release": {"namespace": "llm", "name": "bot"},
        "store": str(tmp_path / "store"),
        "adapter": {"name": "a", "version": "1", "source": {"path": str(tmp_path / "in"), "root": str(tmp_path)}},
        "base": {"model": str(tmp_path / "base"), "name": "tiny"},
        "maxLoraRank": 16,
    }


def test_a_job_that_is_done_exits_with_0(tmp_path: Path) -> None:
    tiny_models.base(tmp_path / "base")
    tiny_models.adapter(tmp_path / "in")
    code, summary = run(tmp_path, import_contract(tmp_path))
    assert code == 0
    assert isinstance(summary.result, ImportResult)
    assert Path(summary.result.path).is_dir()


def test_rejected_input_exits_with_2_and_all_reasons(tmp_path: Path) -> None:
    tiny_models.base(tmp_path / "base")
    tiny_models.adapter(tmp_path / "in", tiny_models.lora_tensors(rank=32, layers=3), tiny_models.lora_config(32))
    code, summary = run(tmp_path, import_contract(tmp_path))
    assert code == 2
    assert summary.failure is not None
    assert (str(summary.failure.kind), summary.failure.reasons) == ("Permanent", ("BaseMismatch", "RankTooHigh"))


@pytest.mark.parametrize("document", [{}, [], {"kind": "Import"}, "x"])
def test_a_contract_that_cannot_be_read_exits_with_2(document: object, tmp_path: Path) -> None:
    code, summary = run(tmp_path, document)
    assert code == 2
    assert summary.failure is not None and summary.failure.reason == "InvalidContract"


def test_sigterm_ends_a_job_as_transient(tmp_path: Path) -> None:
    asked, release = threading.Event(), threading.Event()

    def slow(question: str) -> str:
        asked.set()
        release.wait(30)
        return question

    model = FakeModel("bot", slow)

    def answer(request: BaseHTTPRequestHandler, body: bytes) -> Answer:
        return model(request, body)

    (tmp_path / "s.jsonl").write_text('{"messages": [{"role": "user", "content": "x"}], "expected": "x"}\n' * 50)
    with serve(answer) as port:
        endpoint = {"url": f"http://127.0.0.1:{port}", "model": "bot"}
        document = {
            "kind": "Evaluate",
            "release": {"namespace": "llm", "name": "bot"},
            "reference": endpoint,
            "candidate": endpoint,
            "suites": [{"name": "s", "source": {"path": str(tmp_path / "s.jsonl"), "root": str(tmp_path)}}],
        }
        (tmp_path / "contract.json").write_text(json.dumps(document))
        process = start(tmp_path / "contract.json", tmp_path / "end")
        assert asked.wait(60)
        process.send_signal(signal.SIGTERM)
        # The answers come only after the job has said how it ended.
        assert process.stdout is not None
        line = process.stdout.readline()
        release.set()
        process.communicate(timeout=60)
    assert process.returncode == 1
    failure = parse_summary(line).failure
    assert failure is not None and (str(failure.kind), failure.reason) == ("Transient", "Terminated")
    assert (tmp_path / "end").read_text() == line.strip()


class Stopped(type(Path())):  # type: ignore[misc]
    """A termination log in whose writing SIGTERM comes."""

    def write_text(self, *arguments: Any, **named: Any) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return super().write_text(*arguments, **named)


def test_sigterm_after_the_end_does_not_lose_the_result(tmp_path: Path) -> None:
    tiny_models.base(tmp_path / "base")
    tiny_models.adapter(tmp_path / "in")
    (tmp_path / "contract.json").write_text(json.dumps(import_contract(tmp_path)))
    stopped: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    try:
        code = run_job(tmp_path / "contract.json", Stopped(tmp_path / "end"), None)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (code, stopped) == (0, [])
    assert isinstance(parse_summary((tmp_path / "end").read_text()).result, ImportResult)


def test_sigterm_ends_a_job_that_waits_for_another_one(tmp_path: Path) -> None:
    (tmp_path / "contract.json").write_text(json.dumps(import_contract(tmp_path)))
    with Store(tmp_path / "store").working("import-a-1-llm-bot"):
        process = start(tmp_path / "contract.json", tmp_path / "end")
        assert process.stderr is not None
        assert any("another job is working in" in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    failure = parse_summary(out).failure
    assert failure is not None and (str(failure.kind), failure.reason) == ("Transient", "Terminated")


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (PermanentError("x", reason="InvalidBase"), "Permanent", "InvalidBase"),
        (TransientError("x", reason="SourceUnavailable"), "Transient", "SourceUnavailable"),
        (OSError(errno.ENOSPC, "full"), "Transient", "DiskFull"),
        (OSError(errno.EIO, "io"), "Transient", "StorageError"),
        (MemoryError(), "Transient", "OutOfMemory"),
        (ZeroDivisionError("surprise"), "Transient", "InternalError"),
    ],
)
def test_the_type_of_an_error_decides_about_a_retry(error: Exception, kind: str, reason: str) -> None:
    failure = failure_of(error)
    assert (str(failure.kind), failure.reason, failure.reasons) == (kind, reason, (reason,))


@pytest.mark.parametrize("error", [PermanentError, TransientError, ZeroDivisionError])
def test_what_is_no_character_does_not_keep_a_job_from_saying_how_it_ended(
    error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # pytest-xdist cannot carry what is logged
    failure = failure_of(error("a\ud800b"))
    said = parse_summary(termination_message(Summary(kind="Import", failure=failure))).failure
    assert said is not None and said.message.endswith("a\\ud800b")


def test_every_reason_is_a_camel_case_word_that_is_said_somewhere() -> None:
    said = "".join(p.read_text() for p in (CHECKOUT / "controller").glob("*/*.py") if p.name != "reasons.py")
    for reason in Reason:
        assert re.fullmatch(r"([A-Z][a-z]+)+", reason)
        assert f"Reason.{reason.name}" in said


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return str(answer.read().decode())


def test_progress_is_served_for_the_controller_and_for_prometheus() -> None:
    now = [100.0]
    progress = Progress(clock=lambda: now[0])
    progress.stage("merge", 4000)
    progress.skip(500)  # an earlier try has done these
    progress.advance(500)
    now[0] = 102.0
    with ProgressServer(progress, 0, "127.0.0.1") as server:
        assert json.loads(get(server.port, "/progress")) == {
            "stage": "merge",
            "done": 1000,
            "total": 4000,
            "bytes": 500,
            "unit": "bytes",
            "startedAt": 100.0,
            "bytesPerSecond": 250.0,
            "secondsLeft": 12.0,
        }
        metrics = get(server.port, "/metrics")
        assert 'adapterrelease_job_stage_done{stage="merge",unit="bytes"} 1000.0' in metrics
        assert 'adapterrelease_job_stage_expected{stage="merge",unit="bytes"} 4000.0' in metrics
        with pytest.raises(urllib.error.HTTPError):
            get(server.port, "/else")
    now[0] = 107.5
    progress.stage("quantize", 8, "samples")
    now[0] = 108.0
    assert progress.finish() == {"merge": 7.5, "quantize": 0.5}


def test_a_job_that_cannot_serve_its_progress_still_works(tmp_path: Path) -> None:
    """The port may be taken with hostNetwork; progress is a comfort, the job is the work."""
    taken = ProgressServer(Progress(), 0)
    tiny_models.base(tmp_path / "base")
    tiny_models.adapter(tmp_path / "in")
    (tmp_path / "contract.json").write_text(json.dumps(import_contract(tmp_path)))
    with taken:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "controller", "job", "--contract", tmp_path / "contract.json"),
                *("--termination-log", tmp_path / "end", "--progress-port", str(taken.port)),
            ],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            env=os.environ,
        )
    assert done.returncode == 0, done.stderr
