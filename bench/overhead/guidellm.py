"""Batches asked by guidellm, a load generator that other people wrote: a run of the program for each port, in turns.

It is no dependency: of its 120 packages most are vLLM's as well, so it fits into an environment beside that one (see
docs/no-request-lost.md). Its start takes ten times as long as a block, of which nothing is counted.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from bench.overhead.ask import Ask, Batch, Port
from bench.overhead.statistics import Block

# One worker beside a server on few cores; it imports torch in each.
_SETTINGS = {"GUIDELLM__MAX_WORKER_PROCESSES": "1", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}


def asking_by_guidellm(program: str, tokenizer: Path) -> Ask:
    """It knows one server in a run; the ports' turns change from batch to batch."""

    def block(port: Port, batch: Batch) -> Block:
        with tempfile.TemporaryDirectory() as directory:
            out = Path(directory) / "report.json"
            command = _command(program, tokenizer, port, batch, out)
            done = subprocess.run(command, env=os.environ | _SETTINGS, capture_output=True, text=True, check=False)
            if done.returncode or not out.exists():
                raise RuntimeError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-3000:]}")
            return block_in(json.loads(out.read_text()))

    def ask(batch: Batch) -> dict[str, Block]:
        order = list(batch.ports.items())
        random.Random(batch.seed).shuffle(order)
        return {name: block(port, batch) for name, port in order}

    return ask


def _command(program: str, tokenizer: Path, port: Port, batch: Batch, out: Path) -> list[str]:
    extras = {"body": {"ignore_eos": True, "temperature": 0}}
    backend = {"kind": "openai_http", "target": port.url, "model": port.model, "request_format": "/v1/chat/completions"}
    return [
        program,
        "run",
        *("--backend", json.dumps({**backend, "extras": extras})),
        *("--profile", f"kind=concurrent,streams={batch.concurrency}"),
        *("--constraint", f"kind=max_requests,count={batch.requests}"),
        *("--tokenizer", f"kind=huggingface_auto,model={tokenizer}"),
        *("--data", f"kind=synthetic_text,prompt_tokens=48,output_tokens={batch.tokens}"),
        *("--output", f"kind=json,path={out}"),
        "--disable-console",
    ]


def block_in(report: dict[str, Any]) -> Block:
    """Of the one benchmark in guidellm's report; a request that failed fails the block."""
    (benchmark,) = report["benchmarks"]
    requests = benchmark["requests"]
    if requests.get("errored") or not requests.get("successful"):
        raise RuntimeError(
            f"{len(requests.get('errored') or ())} requests failed, see {requests.get('errored')!r:.500}"
        )
    told = requests["successful"]
    began, ended = min(r["request_start_time"] for r in told), max(r["request_end_time"] for r in told)
    first = tuple(r["time_to_first_token_ms"] / 1000 for r in told)
    return Block(ended - began, sum(r["output_tokens"] for r in told), first)
