"""What a batch of requests is, and how bench/overhead/asker.py is told to ask one."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.overhead.statistics import Block

ASKER = Path(__file__).with_name("asker.py")


@dataclass(frozen=True)
class Port:
    """The same server, and how clients call the adapter there."""

    url: str
    model: str


@dataclass(frozen=True)
class Batch:
    """`requests` to each port, `concurrency` at a time over all of them, for answers of `tokens`."""

    ports: Mapping[str, Port]
    concurrency: int
    requests: int
    tokens: int
    seed: int


Ask = Callable[[Batch], dict[str, Block]]
"""To a block for each port."""


@contextmanager
def asking_by_openai(environment: Path, without: frozenset[str]) -> Iterator[Ask]:
    """The openai client, in a process of its own with vLLM's Python; it does not see the variables `without`."""
    env = {name: value for name, value in os.environ.items() if name not in without}
    command = [environment / "bin" / "python", ASKER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as asker:
        assert asker.stdin is not None and asker.stdout is not None
        into, out = asker.stdin, asker.stdout

        def ask(batch: Batch) -> dict[str, Block]:
            into.write(json.dumps(asdict(batch)) + "\n")
            into.flush()
            said = json.loads(out.readline() or "null")
            if said is None:
                raise RuntimeError(f"the client ended in {batch}; what it said is above")
            return {
                name: Block(told["seconds"] / batch.concurrency, told["tokens"], tuple(told["first"]))
                for name, told in said.items()
            }

        yield ask
        into.close()
