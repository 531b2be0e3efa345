"""Asking vLLM from inside its process: through the app below the plugin, without HTTP and without the doors.

Must not know: what is asked for.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from .asgi import App, Header, Message, Scope


class UnlistableError(RuntimeError):
    """vLLM does not say which models it has."""


class Inside:
    def __init__(self, app: App) -> None:
        self._app = app
        self._owner: Any = None  # the Starlette application: routes and handlers need it in the scope

        self.keys: tuple[str, ...] = ()  # vLLM's own API keys

    def learn(self, scope: Scope) -> None:
        """The owner stands in every scope that comes from outside."""
        self._owner = scope.get("app", self._owner)
        self.keys = api_keys(self._arguments())

    def processes(self) -> int:
        """How many API servers share the port; each has a plugin of its own."""
        return getattr(self._arguments(), "api_server_count", None) or 1

    def _arguments(self) -> Any:
        """vLLM's command line as it parsed it, or None."""
        return getattr(getattr(self._owner, "state", None), "args", None)

    async def ask(self, method: str, path: str, document: object = None) -> tuple[int, bytes]:
        """Status and body of vLLM's answer."""
        body = b"" if document is None else json.dumps(document).encode()
        parts: list[bytes] = []
        status = 0
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            if whole:
                return whole.pop()
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]  # nobody leaves

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))

        await self._app(self._scope(method, path, len(body)), receive, send)
        return status, b"".join(parts)

    async def roots(self) -> dict[str, str]:
        """Root by id, of every model that vLLM lists. Raises UnlistableError."""
        status, body = await self.ask("GET", "/v1/models")
        try:
            return {entry["id"]: entry["root"] for entry in json.loads(body)["data"]}
        except (ValueError, KeyError, TypeError) as error:
            raise UnlistableError(f"vLLM's /v1/models answered {status}: {shown(body)}") from error

    def _scope(self, method: str, path: str, length: int) -> Scope:
        headers: list[Header] = [(b"host", b"localhost"), (b"content-length", str(length).encode())]
        if length:
            headers.append((b"content-type", b"application/json"))
        if self.keys:
            headers.append((b"authorization", b"Bearer " + self.keys[0].encode()))
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 0),
            "server": ("127.0.0.1", 0),
            "state": {},
            "app": self._owner,
        }


def api_keys(parsed: Any, arguments: Sequence[str] | None = None) -> tuple[str, ...]:
    """As vLLM parsed them, or from the command line, or from the environment."""
    keys = getattr(parsed, "api_key", None)
    if keys:
        return (keys,) if isinstance(keys, str) else tuple(keys)
    arguments = sys.argv if arguments is None else arguments
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        if argument == "--api-key" and following:
            return (following,)
        if argument.startswith("--api-key="):
            return (argument.partition("=")[2],)
    key = os.environ.get("VLLM_API_KEY")
    return (key,) if key else ()


def shown(body: bytes) -> str:
    """vLLM's own words, short enough for a message."""
    try:
        said = json.loads(body)
        text = str(said.get("error", {}).get("message") or said)
    except (ValueError, AttributeError):
        text = body.decode("utf-8", "replace")
    return text[:600]
