"""A middleware for a real vLLM: one port with the plugin, a second one of the same server without it.

Runs in vLLM's environment (`--middleware=tests.engine.plugin.two_ports.TwoPorts`). The plugin is imported as in a pod:
as the package `adapterrelease_engine` below $PLUGIN_MOUNT. What is asked at $BARE_PORT passes it by.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import uvicorn

sys.path.insert(0, os.environ["PLUGIN_MOUNT"])
from adapterrelease_engine import Middleware

BARE_PORT = int(os.environ["BARE_PORT"])


class TwoPorts:
    def __init__(self, app: Any) -> None:
        self._app, self._plugin = app, Middleware(app)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["server"][1] == BARE_PORT:
            await self._app(scope, receive, send)
        else:
            await self._plugin(scope, receive, send)

    async def _lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        config = uvicorn.Config(scope["app"], host="127.0.0.1", port=BARE_PORT, log_level="info", lifespan="off")
        second = _Server(config)

        async def sending(message: Any) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._task = asyncio.create_task(second.serve())
            await send(message)

        try:
            await self._plugin(scope, receive, sending)
        finally:
            second.should_exit = True


class _Server(uvicorn.Server):
    """Signals are the first server's."""

    def capture_signals(self) -> Any:
        from contextlib import nullcontext

        return nullcontext()
