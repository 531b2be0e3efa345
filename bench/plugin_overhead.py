"""What the engine plugin costs: throughput and time to first token with it and without it, at once, on one vLLM.

    .venv/bin/python -m bench.plugin_overhead [--rounds 24] [--first-rounds 150] [--concurrency 1 8 32]
                                              [--guidellm PROGRAM]

One server, one engine, three ports: bare, bare once more, and with the plugin (bench/overhead/ports.py). A round is a
batch of requests that go to the three in turns, in a shuffled order. Through the plugin clients say the alias, past it
the engine's own name of the same adapter. The time to the first token is read in rounds of its own, whose answers are
short: so there are many of them. Then each port is asked alone, in turns, and the server's processor time is read.
Prints a table with 95 % intervals, and writes it between its marks in docs/no-request-lost.md (--out); `bare over
itself` is the noise. Asks with the openai client, or with guidellm where a program of that name is given: it asks one
port after another. Asserts nothing.
"""

from __future__ import annotations

import argparse
import datetime
import os
import random
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import fmean

import httpx

from bench import between
from bench.overhead.ask import Ask, Batch, Port, asking_by_openai
from bench.overhead.guidellm import asking_by_guidellm
from bench.overhead.processor import Processes
from bench.overhead.statistics import Round, Spent, Work, cost, table
from tests.e2e.sandbox import fill
from tests.e2e.vllm_server import ml_env, served

CHECKOUT = Path(__file__).resolve().parents[1]
PLUGIN = CHECKOUT / "controller" / "engine" / "plugin"
PAGE = CHECKOUT / "docs" / "no-request-lost.md"
ALIAS, TARGET, TOKEN = "support-bot", "support-bot@bench", "bench"
PORTS_VARIABLE = "OVERHEAD_PORTS"
ANSWER, SHORT_ANSWER = 32, 2  # tokens
_LORA = ("--enable-lora", "--max-loras=4", "--max-cpu-loras=8", "--max-lora-rank=8", "--block-size=32")


def main() -> None:
    options = _options()
    environment = ml_env()
    with tempfile.TemporaryDirectory(prefix="overhead-") as directory:
        store = Path(directory) / "store"
        fill(store)
        if options.guidellm:
            asking = nullcontext(asking_by_guidellm(options.guidellm, store / "models" / "base"))
        else:
            asking = asking_by_openai(environment, without=frozenset({PORTS_VARIABLE}))
        with three_ports(environment, Path(directory), store, options.plugin) as ports, asking as ask:
            server = Processes(PORTS_VARIABLE, os.environ[PORTS_VARIABLE])
            costs = {}
            for concurrency in options.concurrency:
                ask(Batch(ports, concurrency, max(concurrency, 4), ANSWER, -1))  # what is slow only once is slow now
                firsts = measured(ask, ports, concurrency, options, options.first_rounds, SHORT_ANSWER)
                rounds = measured(ask, ports, concurrency, options, options.rounds, ANSWER)
                works = worked(ask, ports, concurrency, options, server)
                costs[concurrency] = cost(rounds, works, firsts=firsts)
                print(table(costs), file=sys.stderr, flush=True)
    text = f"{_made(options)}\n\n{table(costs)}"
    print(text)
    if str(options.out) != "-":
        command = f"bench.plugin_overhead{' --guidellm' if options.guidellm else ''}"
        between.write(options.out, between.begin_of(command), text)


def _made(options: argparse.Namespace) -> str:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    by = "guidellm" if options.guidellm else "the openai client"
    return f"Made {now} with {by}; load of the machine at the end {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores."


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=24, help=f"for throughput, answers of {ANSWER} tokens")
    parser.add_argument(
        "--first-rounds",
        type=int,
        default=150,
        help=f"for the time to the first token, answers of {SHORT_ANSWER} tokens; 0: it is read in the others",
    )
    parser.add_argument("--work-rounds", type=int, default=16, help="in which processor time is read; 0: none")
    parser.add_argument("--requests", type=int, default=16, help="to each port in a round; at least as many at a time")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--plugin", type=Path, default=PLUGIN, help="directory of its files")
    parser.add_argument("--guidellm", metavar="PROGRAM", help="ask with this instead of the openai client")
    parser.add_argument("--out", type=Path, default=PAGE, help="'-' writes no table")
    return parser.parse_args()


def measured(
    ask: Ask, ports: Mapping[str, Port], concurrency: int, options: argparse.Namespace, rounds: int, tokens: int
) -> list[Round]:
    requests = max(options.requests, concurrency)
    found = []
    for number in range(rounds):
        found.append(Round(**ask(Batch(ports, concurrency, requests, tokens, number))))
        print(
            f"{concurrency} at a time, answers of {tokens}, round {number + 1} of {rounds}: throughput, plugin over "
            f"bare, {fmean(r.plugin.throughput / r.bare_throughput for r in found):.4f}, first token later by "
            f"{fmean(r.plugin.first_token - r.bare_first_token for r in found) * 1000:.2f} ms",
            file=sys.stderr,
            flush=True,
        )
    return found


def worked(
    ask: Ask, ports: Mapping[str, Port], concurrency: int, options: argparse.Namespace, server: Processes
) -> list[Work]:
    """Port by port."""
    requests, order, found = 3 * max(options.requests, concurrency), list(ports), []
    for number in range(options.work_rounds):
        random.Random(number).shuffle(order)
        spent = {}
        for name in order:
            before = server.seconds()
            (block,) = ask(Batch({name: ports[name]}, concurrency, requests, ANSWER, number)).values()
            spent[name] = Spent(
                *((now - then) / block.tokens for now, then in zip(server.seconds(), before, strict=True))
            )
        found.append(Work(**spent))
        print(f"{concurrency} at a time, processor time, round {number + 1} of {options.work_rounds}", file=sys.stderr)
    return found


@contextmanager
def three_ports(environment: Path, directory: Path, store: Path, plugin: Path) -> Iterator[dict[str, Port]]:
    """`bare`, `again` and `plugin`, when all know the adapter."""
    package = directory / "mount" / "adapterrelease_engine"
    shutil.copytree(plugin, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "token").write_text(TOKEN)
    ports = [_free_port() for _ in range(3)]
    os.environ |= {
        "OVERHEAD_MOUNT": str(package.parent),
        PORTS_VARIABLE: " ".join(map(str, ports)),
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    }
    os.chdir(CHECKOUT)  # where vLLM finds bench.overhead.ports
    flags = ("--served-model-name=tiny-llama", *_LORA, "--middleware=bench.overhead.ports.Ports")
    with served(environment, store / "models" / "base", directory / "vllm.log", *flags):
        urls = dict(zip(("bare", "again", "plugin"), (f"http://127.0.0.1:{p}" for p in ports), strict=True))
        _declare(urls, str(store / "incoming" / "support-bot" / "v1"))
        yield {name: Port(url, ALIAS if name == "plugin" else TARGET) for name, url in urls.items()}


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


if __name__ == "__main__":
    main()
