"""The ASGI middleware: what comes in, and who is to deal with it. Must not know: how."""

from __future__ import annotations

import time
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry

from . import admin, doors
from .asgi import App, Receive, Scope, Send, answer, error
from .exchange import Exchange
from .listing import Listing
from .plugin import Plugin
from .restore import Restore


class Middleware:
    """vLLM makes it with the app alone."""

    def __init__(self, app: App, *, directory: Path | None = None, registry: CollectorRegistry = REGISTRY) -> None:
        self._app = app
        self.plugin = Plugin(app, directory or Path(__file__).parent, time.monotonic, registry)
        self.restore = Restore(self.plugin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await self.restore.lifespan(self._app, scope, receive, send)
            return
        below = doors.without_token(scope)
        if kind in ("http", "websocket") and doors.is_door(scope):
            await self._door(scope, receive, send)
        elif kind != "http":
            await self._app(below, receive, send)
        elif scope["method"] == "GET" and scope["path"].endswith("/v1/models"):
            await self._models(scope, below, receive, send)
        else:
            await self._client(below, receive, send)

    async def _models(self, scope: Scope, below: Scope, receive: Receive, send: Send) -> None:
        """A token that is not this server's must not look like one to which versions are hidden."""
        refused = None
        try:
            if doors.shows_a_token(scope):
                refused = doors.refusal(scope, self.plugin.directory)
        except Exception as failure:
            self.plugin.failures.report("models", failure)
        if refused is None:
            await self._app(below, receive, Listing(self.plugin, scope, send).send)
        else:
            await _refuse(scope, receive, send, *refused)

    async def _client(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(self.plugin, scope, receive, send)
        await exchange.prepare()
        try:
            if exchange.unavailable is not None:
                await _unavailable(exchange)
            else:
                await self._app(exchange.scope, exchange.receive, exchange.send)
        finally:
            exchange.end()

    async def _door(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            refused = doors.refusal(scope, self.plugin.directory)
        except Exception as failure:
            self.plugin.failures.report("door", failure)
            refused = 403, "closed: the door itself failed, see the server's log"
        if refused is not None:
            await _refuse(scope, receive, send, *refused)
        elif scope["type"] == "http" and admin.is_admin(scope):
            await admin.serve(self.plugin, scope, receive, send)
        else:
            await (self._client if scope["type"] == "http" else self._app)(doors.without_token(scope), receive, send)


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, why: str) -> None:
    if scope["type"] == "http":
        await answer(send, status, error(why))
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": "closed"})  # before it is accepted: HTTP 403


async def _unavailable(exchange: Exchange) -> None:
    headers = [(b"retry-after", b"1"), (b"connection", b"close")]
    said = {
        "error": {
            "message": f"The model `{exchange.unavailable}` is being loaded again after a restart. Please try again.",
            "type": "ServiceUnavailableError",
            "param": "model",
            "code": 503,
        }
    }
    await answer(exchange.send, 503, said, headers)
