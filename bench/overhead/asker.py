"""Runs with the Python of vLLM's environment: asks in blocks, as it is told on its input, with the openai client.

A line in, {"url", "model", "concurrency", "requests"}, is a block; a line out says {"seconds", "tokens", "first"}:
how long it took, the tokens that came, and each request's seconds to its first token. A failure ends it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import openai

PROMPT = "Hello, the invoice for the router shows the wrong amount. We can not work until this is solved. Regards, Ada"
TOKENS = 32


async def block(told: dict[str, Any]) -> dict[str, Any]:
    """A closed loop of `concurrency` workers over their own kept connections."""
    first: list[float] = []
    tokens = 0
    numbers = iter(range(told["requests"]))
    async with openai.AsyncOpenAI(base_url=f"{told['url']}/v1", api_key="none", max_retries=0, timeout=120) as client:

        async def work() -> None:
            nonlocal tokens
            for number in numbers:
                began, waits = time.perf_counter(), True
                stream = await client.chat.completions.create(
                    model=told["model"],
                    messages=[{"role": "user", "content": f"{number}. {PROMPT}"}],
                    max_tokens=TOKENS,
                    temperature=0,
                    stream=True,
                    extra_body={"ignore_eos": True},
                )
                async for event in stream:
                    if waits and event.choices and event.choices[0].delta.content:
                        first.append(time.perf_counter() - began)
                        waits = False
                tokens += TOKENS

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(told["concurrency"])))
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "tokens": tokens, "first": first}


for line in sys.stdin:
    print(json.dumps(asyncio.run(block(json.loads(line)))), flush=True)
