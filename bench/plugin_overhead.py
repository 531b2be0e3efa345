"""What the engine plugin costs: throughput and time to first token with it and without it, in turns, on one vLLM.

    .venv/bin/python -m bench.plugin_overhead [--rounds 12] [--requests 96] [--concurrency 1 8 32] [--guidellm PROGRAM]

One server, one engine, three ports: bare, bare once more, and with the plugin (bench/overhead/ports.py). A round asks
each in a block of its own, in an order that changes from round to round. Through the plugin clients say the alias,
past it the engine's own name of the same adapter. Prints a table with 95 % intervals; `bare over itself` is the noise.
Asks with the openai client, or with guidellm where a program of that name is given. Asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from bench.overhead.guidellm import guidellm_block
from bench.overhead.statistics import Block, Round, cost, table
from tests.e2e.sandbox import fill
from tests.e2e.vllm_server import ml_env, served

CHECKOUT = Path(__file__).resolve().parents[1]
PLUGIN = CHECKOUT / "controller" / "engine" / "plugin"
ALIAS, TARGET, TOKEN = "support-bot", "support-bot@bench", "bench"
_LORA = ("--enable-lora", "--max-loras=4", "--max-cpu-loras=8", "--max-lora-rank=8", "--block-size=32")

Ask = Callable[[str, str, int, int], Block]
"""(url, model, concurrency, requests)"""


def main() -> None:
    options = _options()
    environment = ml_env()
    with tempfile.TemporaryDirectory(prefix="overhead-") as directory:
        store = Path(directory) / "store"
        fill(store)
        with (
            three_ports(environment, Path(directory), store, options.plugin) as urls,
            asking(environment, store, options) as ask,
        ):
            rounds = {c: measured(ask, urls, c, options) for c in options.concurrency}
    print(table({concurrency: cost(found) for concurrency, found in rounds.items()}))
    print(f"\nload of the machine at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--requests", type=int, default=96, help="of a block; with less than 8 at a time, a quarter")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--plugin", type=Path, default=PLUGIN, help="directory of its files")
    parser.add_argument("--guidellm", metavar="PROGRAM", help="ask with this instead of the openai client")
    return parser.parse_args()


def measured(ask: Ask, urls: dict[str, str], concurrency: int, options: argparse.Namespace) -> list[Round]:
    requests = options.requests if concurrency >= 8 else max(options.requests // 4, 8)
    order, found = list(urls), []
    for name in order:  # what is slow only once is slow now
        ask(urls[name], _model(name), concurrency, max(concurrency, 4))
    for number in range(options.rounds):
        random.Random(number).shuffle(order)
        blocks = {name: ask(urls[name], _model(name), concurrency, requests) for name in order}
        found.append(Round(**blocks))
        said = ", ".join(f"{name} {block.throughput:.0f}" for name, block in sorted(blocks.items()))
        print(f"{concurrency} at a time, round {number + 1}, tokens/s: {said}", file=sys.stderr, flush=True)
    return found


def _model(name: str) -> str:
    return ALIAS if name == "plugin" else TARGET


@contextmanager
def three_ports(environment: Path, directory: Path, store: Path, plugin: Path) -> Iterator[dict[str, str]]:
    """URLs of `bare`, `again` and `plugin`, when all know the adapter."""
    package = directory / "mount" / "adapterrelease_engine"
    shutil.copytree(plugin, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "token").write_text(TOKEN)
    ports = [_free_port() for _ in range(3)]
    os.environ |= {
        "OVERHEAD_MOUNT": str(package.parent),
        "OVERHEAD_PORTS": " ".join(map(str, ports)),
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    }
    os.chdir(CHECKOUT)  # where vLLM finds bench.overhead.ports
    flags = ("--served-model-name=tiny-llama", *_LORA, "--middleware=bench.overhead.ports.Ports")
    with served(environment, store / "models" / "base", directory / "vllm.log", *flags):
        urls = dict(zip(("bare", "again", "plugin"), (f"http://127.0.0.1:{p}" for p in ports), strict=True))
        _declare(urls, str(store / "incoming" / "support-bot" / "v1"))
        yield urls


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _declare(urls: dict[str, str], path: str) -> None:
    told = {"target": TARGET, "path": path, "release": "bench/bot", "version": "v1", "backend": "bench"}
    with httpx.Client(trust_env=False, timeout=60, headers={"X-Adapterrelease-Token": TOKEN}) as http:
        adapter = {"lora_name": TARGET, "lora_path": path}
        http.post(f"{urls['bare']}/v1/load_lora_adapter", json=adapter).raise_for_status()
        http.put(f"{urls['plugin']}/adapterrelease/v1/models/{ALIAS}", json=told).raise_for_status()


@contextmanager
def asking(environment: Path, store: Path, options: argparse.Namespace) -> Iterator[Ask]:
    if options.guidellm:
        yield guidellm_block(options.guidellm, store / "models" / "base")
        return
    command = [environment / "bin" / "python", CHECKOUT / "bench" / "overhead" / "asker.py"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as asker:
        assert asker.stdin is not None and asker.stdout is not None
        into, out = asker.stdin, asker.stdout

        def ask(url: str, model: str, concurrency: int, requests: int) -> Block:
            told = {"url": url, "model": model, "concurrency": concurrency, "requests": requests}
            into.write(json.dumps(told) + "\n")
            into.flush()
            said = json.loads(out.readline() or "null")
            if said is None:
                raise RuntimeError(f"the client ended in a block of {told}; what it said is above")
            return Block(said["seconds"], said["tokens"], tuple(said["first"]))

        yield ask
        into.close()


if __name__ == "__main__":
    main()
