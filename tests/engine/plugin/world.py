"""A server made of the plugin and the fake vLLM, and clients that speak ASGI to it as uvicorn does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from hypothesis import HealthCheck, settings
from prometheus_client import CollectorRegistry

from controller.engine.plugin import Middleware
from controller.engine.plugin.restore import Restore
from tests.engine.plugin.fake_vllm import FakeVllm

TOKEN = "the-token"
OLD, NEW = "bot@aaaaaaaaaaaa", "bot@bbbbbbbbbbbb"
V1, V2 = "/store/adapters/bot/1", "/store/adapters/bot/2"
Headers = Sequence[tuple[bytes, bytes]]
JSON: Headers = ((b"content-type", b"application/json"),)
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
AS_CONTROLLER: Headers = ((b"x-adapterrelease-token", TOKEN.encode()), *JSON)


class Transport:
    """The connection, its socket, and uvicorn's protocol on it. `said`: what the plugin does to it."""

    def __init__(self) -> None:
        self.said: list[object] = []
        self.pipeline: list[object] = []  # requests that were sent behind this one
        self.closing = False
        self.is_plain = True

    def get_extra_info(self, name: str) -> Transport:
        assert name == "socket"
        return self

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.said.append((level, option, value))

    def can_write_eof(self) -> bool:
        return self.is_plain

    def get_protocol(self) -> Transport:
        return self

    def write_eof(self) -> None:
        if self.closing:
            raise RuntimeError("the handler is closed")
        self.said.append("eof")

    def is_closing(self) -> bool:
        return self.closing


class Cycle:
    """One request on its connection, as uvicorn gives it to an application."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self.transport = Transport()
        self.lost_at_the_end = False  # the connection, with the last message
        self.said_before_the_end: list[object] = []  # to the transport, when the last message was sent
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        parts = list(parts) or [b""]
        for number, part in enumerate(parts):
            self.put(part, number < len(parts) - 1)
        self.sent: list[dict[str, Any]] = []
        self.arrived = asyncio.Condition()

    def put(self, body: bytes, more: bool) -> None:
        self.messages.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def leave(self) -> None:
        self.messages.put_nowait({"type": "http.disconnect"})

    async def receive(self) -> dict[str, Any]:
        return await self.messages.get()

    async def send(self, message: Any) -> None:
        async with self.arrived:
            self.sent.append(dict(message))
            self.said_before_the_end = list(self.transport.said)
            if self.lost_at_the_end and not message.get("more_body", True):
                self.transport.closing = True
            self.arrived.notify_all()

    async def until(self, count: int) -> None:
        """So many messages were sent."""
        async with asyncio.timeout(10), self.arrived:
            await self.arrived.wait_for(lambda: len(self.sent) >= count)

    @property
    def answer(self) -> Answer:
        start, *parts = self.sent
        body = b"".join(part.get("body", b"") for part in parts)
        return Answer(start["status"], list(start["headers"]), body)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        return dict(self.headers).get(name)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def scope_of(app: Any, method: str, path: str, headers: Headers, kind: str = "http", root_path: str = "") -> Any:
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "path": unquote(path.partition("?")[0]),
        "raw_path": path.partition("?")[0].encode(),
        "query_string": path.partition("?")[2].encode(),
        "root_path": root_path,
        "headers": list(headers),
        "state": {},
        "app": app,
    }


@dataclass
class World:
    directory: Path
    vllm: FakeVllm = field(default_factory=lambda: FakeVllm(loadable=(V1, V2)))
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        (self.directory / "token").write_text(TOKEN + "\n")
        self.middleware = Middleware(self.vllm, directory=self.directory, registry=self.registry)
        self.now = 100.0
        self.plugin = self.middleware.plugin
        self.plugin.clock = self.plugin.state.clock = lambda: self.now

    def with_restore(self, **arguments: Any) -> World:
        self.middleware.restore = Restore(self.plugin, **arguments)
        return self

    async def ask(
        self, method: str, path: str, body: bytes | Sequence[bytes] = b"", headers: Headers = JSON, app: Any = None
    ) -> Answer:
        cycle = self.cycle(body)
        async with asyncio.timeout(10):
            await self.call(cycle, method, path, headers, app)
        return cycle.answer

    def cycle(self, body: bytes | Sequence[bytes] = b"") -> Cycle:
        return Cycle([body] if isinstance(body, bytes) else body)

    async def call(self, cycle: Cycle, method: str, path: str, headers: Headers = JSON, app: Any = None) -> None:
        length = sum(len(message.get("body", b"")) for message in cycle.messages._queue)  # type: ignore[attr-defined]
        said = [*headers, (b"content-length", str(length).encode())] if length else list(headers)
        scope = scope_of(self.vllm, method, path, said)
        await (app or self.middleware)(scope, cycle.receive, cycle.send)

    async def bare(
        self, method: str, path: str, body: bytes | Sequence[bytes] = b"", headers: Headers = JSON
    ) -> Answer:
        """What vLLM answers without the plugin."""
        return await self.ask(method, path, body, headers, app=self.vllm)

    async def complete(self, model: str = "bot", **more: Any) -> Answer:
        return await self.ask("POST", "/v1/completions", json.dumps({"model": model, "prompt": "x", **more}).encode())

    async def admin(self, method: str, path: str, document: object = None, token: str = TOKEN) -> Answer:
        body = b"" if document is None else json.dumps(document).encode()
        headers = ((b"x-adapterrelease-token", token.encode()), *JSON)
        return await self.ask(method, "/adapterrelease/v1/" + path, body, headers)

    async def state(self) -> Any:
        return (await self.admin("GET", "state")).json

    async def declare(
        self, name: str = "bot", target: str | None = OLD, path: str | None = V1, version: str = "v1"
    ) -> Answer:
        """Loads it first, if it is a target."""
        if target is not None and path is not None:
            self.vllm.adapters[target] = path
        return await self.admin("PUT", f"models/{quote(name, safe='')}", declared(name, target, path, version))

    def samples(self) -> dict[str, dict[tuple[str, ...], float]]:
        """Values by sample's name and (release, version, backend, ...others)."""
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for family in self.registry.collect():
            for sample in family.samples:
                if sample.name.endswith(("_created", "_bucket")):
                    continue
                first = tuple(sample.labels.get(key, "-") for key in ("release", "version", "backend"))
                rest = tuple(
                    value for key, value in sample.labels.items() if key not in ("release", "version", "backend")
                )
                found.setdefault(sample.name.removeprefix("adapterrelease_"), {})[(*first, *rest)] = sample.value
        return found


def declared(name: str, target: str | None, path: str | None, version: str = "v1") -> dict[str, Any]:
    release = name.rpartition("/")[2].encode("ascii", "ignore").decode()
    return {"target": target, "path": path, "release": release, "version": version, "backend": "adapter"}
