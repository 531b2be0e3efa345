"""An error at every line of the plugin that a client's request goes through: the client gets vLLM's answer.

`sys.settrace` raises once, just before a line runs. Lines that only hand on to the server (`await self._app(...)`,
`await self._send(...)`), or have nothing that can raise in them, are left out.
"""

from __future__ import annotations

import ast
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import controller.engine.plugin as package
from tests.engine.plugin.fake_vllm import RESPONSES
from tests.engine.plugin.test_drain import begun
from tests.engine.plugin.world import JSON, NEW, OLD, V1, World

pytestmark = pytest.mark.slow

DIRECTORY = Path(package.__file__).parent
FILES = {str(path): path.name for path in DIRECTORY.glob("*.py")}
Place = tuple[str, int]


class InjectedError(Exception):
    """What no code expects."""


class Tracer:
    """Notes the plugin's lines that run; at the one that is chosen, raises."""

    def __init__(self, at: Place | None = None, after: int = 0) -> None:
        self.at, self.left = at, after
        self.lines: dict[Place, int] = {}

    def __enter__(self) -> Tracer:
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._line if frame.f_code.co_filename in FILES else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            place = FILES[frame.f_code.co_filename], frame.f_lineno
            if place in MAY_RAISE:
                self.lines[place] = self.lines.get(place, 0) + 1
                if place == self.at:
                    self.left -= 1
                    if self.left < 0:
                        self.at = None
                        raise InjectedError
        return self._line


def may_raise() -> set[Place]:
    """Lines that begin a statement with anything in it that can raise, and that is the plugin's own."""
    found = set()
    for path in DIRECTORY.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.stmt) and any(_can_raise(part) for part in _of_the_line(node)):
                found.add((path.name, node.lineno))
    return found


def _of_the_line(node: ast.stmt) -> Iterator[ast.AST]:
    """What a statement computes by itself, without the statements in it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.stmt | ast.ExceptHandler) and child is not getattr(node, "annotation", None):
            yield from ast.walk(child)


THE_SERVERS = {"_app", "_send", "_receive", "app", "send", "receive"}


def _can_raise(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return name not in THE_SERVERS
    return isinstance(node, ast.Subscript | ast.BinOp | ast.For)


MAY_RAISE = may_raise()
# Cannot raise for what they are used on; guarding them would take a guard for the guard.
TRUSTED = {
    ("middleware.py", 'kind = scope["type"]'),
    ("middleware.py", "below = doors.without_token(scope)"),
    ("middleware.py", 'if kind in ("http", "websocket") and doors.is_door(scope):'),
    ("middleware.py", 'elif scope["method"] == "GET" and scope["path"].endswith("/v1/models"):'),
    ("middleware.py", "await self._client(below, receive, send)"),
    ("middleware.py", "await self._models(scope, below, receive, send)"),
    ("middleware.py", "await self._app(below, receive, Listing(self.plugin, scope, send).send)"),
    ("middleware.py", "exchange = Exchange(self.plugin, scope, receive, send)"),
    ("middleware.py", "await exchange.prepare()"),
    ("middleware.py", "exchange.end()"),
    ("exchange.py", "self._taken: deque[Message] = deque()  # read already, not yet given to vLLM"),
    ("exchange.py", "message = self._taken.popleft() if self._taken else await self._receive()"),
    ("exchange.py", 'if not self._whole and message["type"] == "http.disconnect":'),
    ("exchange.py", "for each in out:"),
    ("exchange.py", "self._end(ending)"),
    ("exchange.py", "for _ in range(2):"),
    ("listing.py", "self._held.append(message)"),
    ("listing.py", "for each in out:"),
}


def trusted(place: Place) -> bool:
    line = (DIRECTORY / place[0]).read_text().splitlines()[place[1] - 1].strip()
    return (place[0], line) in TRUSTED


Deed = Callable[[World], Awaitable[bytes]]


async def whole(world: World) -> bytes:
    return (await world.complete()).body


async def stream(world: World) -> bytes:
    return (await world.complete(stream=True)).body


async def response(world: World) -> bytes:
    return (await world.ask("POST", RESPONSES, b'{"model":"bot"}')).body


async def response_stream(world: World) -> bytes:
    return (await world.ask("POST", RESPONSES, b'{"model":"bot","stream":true}')).body


async def in_pieces(world: World) -> bytes:
    body = '{"ä":1,"model":"bot","stream":true}'.encode()
    return (await world.ask("POST", "/v1/completions", [body[:9], body[9:20], body[20:]])).body


async def base(world: World) -> bytes:
    return (await world.complete("tiny")).body


async def malformed(world: World) -> bytes:
    return (await world.ask("POST", "/v1/completions", [b'{"model":', b"}"])).body


async def unknown(world: World) -> bytes:
    return (await world.complete("unknown")).body


async def text(world: World) -> bytes:
    return (await world.ask("POST", "/v1/completions", b"hello", ((b"content-type", b"text/plain"),))).body


async def departed(world: World) -> bytes:
    return (await world.complete()).body


async def departing(world: World) -> bytes:
    cycle, task = await begun(world)
    model = world.plugin.state.models["bot"]
    world.plugin.state.models = {"bot": replace(model, departed_at=world.now)}
    world.vllm.gate.set()
    await task
    return cycle.answer.body


async def aborted(world: World) -> bytes:
    cycle, task = await begun(world)
    cycle.leave()
    await task
    return cycle.answer.body


async def listing(world: World) -> bytes:
    return (await world.ask("GET", "/v1/models", headers=())).body


async def health(world: World) -> bytes:
    return (await world.ask("GET", "/health", headers=())).body


async def with_a_key(world: World) -> bytes:
    headers = (*JSON, (b"authorization", b"Bearer k"))
    return (await world.ask("POST", "/v1/completions", b'{"model":"bot"}', headers)).body


DEEDS: dict[str, Deed] = {
    deed.__name__: deed
    for deed in (
        whole,
        stream,
        response,
        response_stream,
        in_pieces,
        base,
        malformed,
        unknown,
        text,
        departed,
        departing,
        aborted,
        listing,
        health,
        with_a_key,
    )
}


def done(deed: Deed, directory: Path, tracer: Tracer) -> tuple[bytes, World, dict[str, Any]]:
    """The answer, in a world of its own; and the state when it is over."""

    async def go() -> tuple[bytes, World, dict[str, Any]]:
        directory.mkdir(exist_ok=True)
        world = World(directory)
        await world.declare()
        world.vllm.adapters["bot@cccccccccccc"] = "/other"
        if deed is departed:
            world.plugin.state.route("bot", False)
        if deed is with_a_key:
            world.vllm.state.args.api_key = ["k"]
            world.plugin.inside.learn({"app": world.vllm})
        async with asyncio.timeout(10):
            with tracer:
                body = await deed(world)
        world.vllm.state.args.api_key = None
        return body, world, await world.state()

    return asyncio.run(go())


def in_the_engines_words(body: bytes) -> bytes:
    return body.replace(b'"model":"bot"', b'"model":"%s"' % OLD.encode())


@pytest.mark.parametrize("name", DEEDS)
def test_the_client_is_answered_whatever_line_fails(name: str, tmp_path: Path) -> None:
    calm = Tracer()
    wanted, world, _ = done(DEEDS[name], tmp_path / "calm", calm)
    lines = sorted(place for place in calm.lines if not trusted(place))
    assert len(lines) > (5 if name == "health" else 10)
    for place in lines:
        for again in {0, calm.lines[place] - 1} if name in ("stream", "in_pieces") else {0}:
            tracer = Tracer(place, again)
            body, world, state = done(DEEDS[name], tmp_path / "w", tracer)
            assert tracer.at is None, f"{place} was not reached"
            if name == "listing":
                said, expected = ids(body), {"tiny", "bot", OLD, "bot@cccccccccccc"}
                assert said <= expected, place
            else:
                assert in_the_engines_words(body) == in_the_engines_words(wanted), place
            assert state["inFlight"] == {} and state["models"]["bot"]["inFlight"] == 0, place
            assert not any(world.samples()["requests_in_flight"].values()), place


def ids(body: bytes) -> set[str]:
    return {entry["id"] for entry in json.loads(body)["data"]}


def test_an_error_is_counted_and_logged_once_a_kind(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def go() -> None:
        await world.declare()
        world.plugin.state.models = {"bot": None}  # type: ignore[dict-item]
        world.plugin.state.missing = None  # type: ignore[assignment]
        for _ in range(3):
            assert (await world.complete("tiny")).status == 200

    asyncio.run(go())
    assert world.samples()["plugin_errors_total"]["-", "-", "-", "request"] >= 3
    assert len([record for record in caplog.records if "the plugin failed (request)" in record.message]) == 1


def test_what_is_trusted_is_there() -> None:
    """A line that has changed is no longer trusted."""
    for name, line in TRUSTED:
        lines = [it.strip() for it in (DIRECTORY / name).read_text().splitlines()]
        assert line in lines, (name, line)


def test_a_plugin_that_cannot_start_lets_the_server_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> str:
        raise OSError("no files")

    monkeypatch.setattr("controller.engine.plugin.plugin.plugin_version", broken)
    world = World(tmp_path)

    async def go() -> None:
        await world.declare("bot", NEW, V1)
        assert (await world.complete()).json["model"] == "bot"

    asyncio.run(go())
    assert world.samples()["plugin_errors_total"]["-", "-", "-", "start"] == 1
