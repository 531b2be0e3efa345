"""Runs in vLLM (`--middleware=bench.overhead.ports.Ports`): the same server at three ports, one with the plugin.

The plugin is imported as in a pod: as the package `adapterrelease_engine` below $OVERHEAD_MOUNT. $OVERHEAD_PORTS are
three: two are bare, two names for the same thing, so that what differs between them is the noise; the third has the
plugin. All are in one process and before one engine, and served alike; vLLM's own port takes no part.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import nullcontext
from typing import Any

import uvicorn

sys.path.insert(0, os.environ["OVERHEAD_MOUNT"])
from adapterrelease_engine import Middleware

BARE, BARE_AGAIN, PLUGIN = map(int, os.environ["OVERHEAD_PORTS"].split())


class Ports:
    def __init__(self, app: Any) -> None:
        self._app, self._plugin = app, Middleware(app)
        self._servers: list[_Server] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["server"][1] == PLUGIN:
            await self._plugin(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._serve(scope["app"])
            await send(message)

        try:
            await self._plugin(scope, receive, sending)
        finally:
            for server in self._servers:
                server.should_exit = True

    def _serve(self, app: Any) -> None:
        for port in (BARE, BARE_AGAIN, PLUGIN):
            config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", lifespan="off")
            self._servers.append(_Server(config))
            self._tasks.append(asyncio.create_task(self._servers[-1].serve()))


class _Server(uvicorn.Server):
    """Signals are for vLLM's own."""

    def capture_signals(self) -> Any:
        return nullcontext()
