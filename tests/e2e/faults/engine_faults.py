"""Runs inside vLLM, brought in by `--middleware`: an engine that fails or is slow when `fault.json` beside it says so.

Only servers of an artifact are ill. The fault lies where an engine's lies, behind vLLM's own handlers and timers: what
vLLM answers (500), counts (`http_requests_total`) and measures (`vllm:e2e_request_latency_seconds`) is its own doing.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from vllm.v1.engine.async_llm import AsyncLLM

FAULT = Path(__file__).with_name("fault.json")  # {"fails": true} or {"delaySeconds": 3}; not there: no fault
_add_request = AsyncLLM._add_request


async def _add_to_an_ill_engine(self: AsyncLLM, *args: Any, **kwargs: Any) -> None:
    fault = _fault() if self.model_config.model.startswith("/store/artifacts/") else {}
    if fault.get("fails"):
        raise RuntimeError("the engine is ill")
    await asyncio.sleep(fault.get("delaySeconds", 0))
    await _add_request(self, *args, **kwargs)


def _fault() -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(FAULT.read_text())
    except FileNotFoundError:
        return {}
    return found


AsyncLLM._add_request = _add_to_an_ill_engine


class Nothing:
    """The middleware itself."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)
