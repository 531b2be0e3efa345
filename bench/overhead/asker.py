"""Runs with the Python of vLLM's environment: asks in batches, as it is told on its input, with the openai client.

A line in, {"ports": {NAME: {"url", "model"}}, "concurrency", "requests", "tokens", "seed"}, is a batch: `requests` to
each port, by `concurrency` workers, for answers of `tokens`. One request to each port in an order drawn from the seed,
then the next one to each: what the machine does meanwhile hits all ports alike. A line out says of each port
{"seconds", "tokens", "first"}: how long workers were busy with it, the tokens that came, and each request's seconds to
its first token. A failure ends it.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from contextlib import AsyncExitStack
from typing import Any

import openai

PROMPT = "Hello, the invoice for the router shows the wrong amount. We can not work until this is solved. Regards, Ada"


async def batch(told: dict[str, Any]) -> dict[str, Any]:
    """A closed loop over kept connections."""
    ports = told["ports"]
    order = in_turns(list(ports), told["requests"], random.Random(told["seed"]))
    found: dict[str, Any] = {name: {"seconds": 0.0, "tokens": 0, "first": []} for name in ports}
    deck = iter(order)
    async with AsyncExitStack() as stack:
        clients = {
            name: await stack.enter_async_context(
                openai.AsyncOpenAI(base_url=f"{port['url']}/v1", api_key="none", max_retries=0, timeout=120)
            )
            for name, port in ports.items()
        }

        async def work() -> None:
            for name, number in deck:
                began = time.perf_counter()
                first = await first_token(clients[name], ports[name]["model"], number, told["tokens"])
                found[name]["seconds"] += time.perf_counter() - began
                found[name]["first"].append(first - began)
                found[name]["tokens"] += told["tokens"]

        await asyncio.gather(*(work() for _ in range(told["concurrency"])))
    return found


def in_turns(names: list[str], requests: int, choice: random.Random) -> list[tuple[str, int]]:
    """Ports and numbers of requests."""
    return [(name, number) for number in range(requests) for name in choice.sample(names, len(names))]


async def first_token(client: openai.AsyncOpenAI, model: str, number: int, tokens: int) -> float:
    """When the first token came, once the whole answer is there."""
    first = 0.0
    stream = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": f"{number}. {PROMPT}"}],
        max_tokens=tokens,
        temperature=0,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    async for event in stream:
        if not first and event.choices and event.choices[0].delta.content:
            first = time.perf_counter()
    return first


for line in sys.stdin:
    print(json.dumps(asyncio.run(batch(json.loads(line)))), flush=True)
