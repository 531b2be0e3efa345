"""One vLLM on this machine, without a cluster: on loopback, stopped whatever happens."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

CHECKOUT = Path(__file__).resolve().parents[2]
SCORE = CHECKOUT / "sandbox" / "demo" / "client" / "score.py"
START_SECONDS = 600  # half a minute on a machine that does nothing else
FLAGS = (
    "--max-model-len=256",
    "--max-num-seqs=16",
    "--enforce-eager",
    "--kv-cache-memory-bytes=67108864",
    "--shutdown-timeout=5",
)


def ml_env() -> Path:
    """The environment with vLLM and llm-compressor; made on first use."""
    made = subprocess.run([CHECKOUT / "sandbox" / "ml-env.sh"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return Path(made.stdout.splitlines()[-1])


@contextmanager
def served(environment: Path, model: Path, log: Path, *flags: str) -> Iterator[str]:
    """The URL of a server of `model`, when it answers; it ends with the block, and its engine's processes with it."""
    port = _free_port()
    command = [environment / "bin" / "python", "-m", "vllm.entrypoints.openai.api_server", "--model", model]
    with log.open("w") as out:
        process = subprocess.Popen(
            [*map(str, command), "--host=127.0.0.1", f"--port={port}", *FLAGS, *flags],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | _variables(environment),
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(process, url, log)
        yield url
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with suppress(ProcessLookupError):  # the engine runs in processes of its own
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def score(url: str, model: str, suite: Path) -> dict[str, Any]:
    """Share of right answers on a held-out suite, as the demo counts it."""
    command = [sys.executable, SCORE, url, model, suite]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def _variables(environment: Path) -> dict[str, str]:
    """As sandbox/node/images.py sets them for the server in a pod."""
    return {
        "PYTHONPATH": str(CHECKOUT / "sandbox" / "vllm"),
        "VLLM_CACHE_ROOT": str(environment / "vllm-cache"),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    with httpx.Client(trust_env=False, timeout=5) as client:
        while time.monotonic() < deadline:
            try:
                if client.get(f"{url}/health").status_code == 200:
                    return
            except httpx.TransportError:
                pass  # it does not listen yet
            try:
                process.wait(0.3)
            except subprocess.TimeoutExpired:
                continue
            break
    raise AssertionError(f"vLLM did not start:\n{log.read_text()[-4000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
