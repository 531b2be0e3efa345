"""After a container's restart: what the annotations say is loaded before anybody is let in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.engine.plugin.restore import declarations
from controller.engine.plugin.state import Declaration, Model, declaration
from tests.engine.plugin.world import JSON, NEW, OLD, V1, V2, World, declared, patient, scope_of


def quoted(text: str) -> str:
    """As Go's %q: the kubelet writes `key="value"` so."""
    out = []
    for letter in text:
        if letter in '"\\':
            out.append("\\" + letter)
        elif letter.isprintable():
            out.append(letter)
        elif letter in "\a\b\f\n\r\t\v":
            out.append("\\" + "abfnrtv"["\a\b\f\n\r\t\v".index(letter)])
        else:
            code = ord(letter)
            out.append(f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return '"' + "".join(out) + '"'


def annotate(world: World, *documents: Any, more: str = "") -> None:
    lines = [f"engine.adapterrelease.dev/{number}={quoted(json.dumps(it))}\n" for number, it in enumerate(documents)]
    (world.directory / "annotations").write_text(more + "".join(lines))


def wanted(name: str, target: str | None, path: str | None, version: str = "v1") -> dict[str, Any]:
    return {"name": name, **declared(name, target, path, version)}


@asynccontextmanager
async def started(world: World) -> AsyncIterator[list[str]]:
    """The server, as uvicorn starts and stops it; the list is what it said about its start."""
    cycle = world.cycle()
    cycle.messages.get_nowait()
    cycle.messages.put_nowait({"type": "lifespan.startup"})
    scope = {"type": "lifespan", "app": world.vllm, "state": {}}
    life = asyncio.create_task(world.middleware(scope, cycle.receive, cycle.send))
    await cycle.until(1)
    yield [message["type"] for message in cycle.sent]
    cycle.messages.put_nowait({"type": "lifespan.shutdown"})
    await asyncio.wait_for(life, 10)
    assert cycle.sent[-1]["type"] == "lifespan.shutdown.complete"


async def test_what_the_annotations_name_is_served_from_the_first_request_on(world: World) -> None:
    annotate(world, wanted("bot", OLD, V1), wanted("org/bot", NEW, V2, "v2"), wanted("tiny", None, None, "m1"))
    async with started(world) as said:
        assert said == ["lifespan.startup.complete"]
        assert world.vllm.adapters == {OLD: V1, NEW: V2}
        assert (await world.complete("org/bot")).json["choices"][0]["text"].startswith(V2)
        assert (await world.complete("bot")).header(b"x-adapterrelease-version") == b"v1"
        assert (await world.complete("tiny")).header(b"x-adapterrelease-version") == b"m1"
        assert (await world.state())["restore"] == {}


async def test_what_is_loaded_already_is_not_loaded_again(world: World) -> None:
    world.vllm.adapters[OLD] = V1
    annotate(world, wanted("bot", OLD, V1))
    async with started(world):
        assert [path for path, _ in world.vllm.seen] == []
        assert (await world.complete()).status == 200


async def test_one_that_fails_blocks_neither_the_others_nor_the_start_and_clients_are_told_to_come_back(
    world: World,
) -> None:
    world.with_restore(pause=asyncio.Event().wait)
    annotate(world, wanted("broken", "broken@cccccccccccc", "/gone"), wanted("bot", OLD, V1))
    async with started(world):
        assert (await world.complete()).status == 200
        said = await world.complete("broken")
        assert (said.status, said.header(b"retry-after"), said.header(b"connection")) == (503, b"1", b"close")
        assert "`broken`" in said.json["error"]["message"] and "/gone" not in said.body.decode()
        state = await world.state()
        assert list(state["models"]) == ["bot"] and "No adapter found for /gone" in state["restore"]["broken"]
        assert world.samples()["requests_total"]["broken", "v1", "adapter", "503"] == 1


class Pauses:
    """The pause between two tries, as long as the test wants it."""

    def __init__(self) -> None:
        self.waits, self.over = asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def __call__(self) -> None:
        self.waits.release()
        await self.over.acquire()

    async def end(self) -> None:
        """This one; returns when the next has begun."""
        self.over.release()
        await asyncio.wait_for(self.waits.acquire(), 10)


async def test_it_is_tried_again_until_it_works(world: World) -> None:
    pauses = Pauses()
    world.with_restore(pause=pauses)
    annotate(world, wanted("bot", OLD, "/late"), wanted("broken", "broken@cccccccccccc", "/gone"))
    async with started(world):
        await pauses.waits.acquire()
        await pauses.end()
        assert (await world.complete()).status == 503
        world.vllm.loadable.add("/late")
        await pauses.end()
        assert (await world.complete()).json["choices"][0]["text"].startswith("/late")
        assert list((await world.state())["restore"]) == ["broken"]


async def test_after_an_error_of_the_plugin_itself_it_is_tried_again_too(world: World) -> None:
    pauses, declare, errors = Pauses(), world.plugin.declare, [OSError("again"), OSError("first")]

    def failing(declared: Declaration) -> Model:
        if errors:
            raise errors.pop()
        return declare(declared)

    world.with_restore(pause=pauses)
    world.plugin.declare = failing  # type: ignore[method-assign]
    annotate(world, wanted("bot", OLD, V1), wanted("broken", "broken@cccccccccccc", "/gone"))
    async with started(world) as said:
        assert said == ["lifespan.startup.complete"]
        await asyncio.wait_for(pauses.waits.acquire(), 10)
        for why in ("first", "again"):
            assert (await world.state())["restore"]["bot"] == f"OSError: {why}"
            assert (await world.complete()).status == 503
            await pauses.end()
        assert (await world.complete()).json["choices"][0]["text"].startswith(V1)
        assert list((await world.state())["restore"]) == ["broken"]
    assert world.samples()["plugin_errors_total"]["-", "-", "-", "restore"] == 2


@pytest.mark.parametrize("deed", ["DELETE", "PUT"])
async def test_what_the_controller_says_meanwhile_counts(world: World, deed: str) -> None:
    pauses = Pauses()
    world.with_restore(pause=pauses)
    annotate(world, wanted("bot", OLD, "/late"), wanted("broken", "broken@cccccccccccc", "/gone"))
    async with started(world):
        await pauses.waits.acquire()
        if deed == "PUT":
            await world.declare("bot", NEW, V2)
        else:
            await world.admin("DELETE", "models/bot")
        world.vllm.loadable.add("/late")
        await pauses.end()
        assert (await world.complete()).status == (200 if deed == "PUT" else 404)
        assert OLD not in world.vllm.adapters and "bot" not in (await world.state())["restore"]


async def test_a_declaration_that_comes_while_one_is_being_loaded_stays(world: World) -> None:
    pauses = Pauses()
    world.with_restore(pause=pauses)
    world.plugin.miss(declaration("bot", declared("bot", OLD, V1)), "not yet")
    world.vllm.loading.clear()
    again = asyncio.create_task(world.middleware.restore.until_done())
    pauses.over.release()
    assert await asyncio.wait_for(world.vllm.arrived.get(), 10) == "/v1/load_lora_adapter"
    await world.declare("bot", NEW, V2)
    world.vllm.loading.set()
    await asyncio.wait_for(again, 10)
    assert world.vllm.adapters == {OLD: V1, NEW: V2}
    assert (await world.complete()).json["choices"][0]["text"].startswith(V2)


async def test_one_that_takes_too_long_does_not_block_the_start(world: World) -> None:
    world.with_restore(patience=0.05, pause=asyncio.Event().wait)
    world.vllm.loading.clear()
    annotate(world, wanted("bot", OLD, V1), wanted("tiny", None, None))
    async with started(world) as said:
        assert said == ["lifespan.startup.complete"]
        assert (await world.state())["restore"] == {"bot": "loading took over 0.05 s"}


async def test_a_path_that_vllm_has_other_weights_from_is_not_declared(world: World) -> None:
    world.with_restore(pause=asyncio.Event().wait)
    world.vllm.adapters[OLD] = V2
    annotate(world, wanted("bot", OLD, V1))
    async with started(world):
        assert (await world.state())["restore"] == {"bot": f"vLLM has {OLD} from {V2}, not from {V1}"}


async def test_vllms_api_key_is_used(world: World) -> None:
    world.vllm.state.args.api_key = ["secret"]
    annotate(world, wanted("bot", OLD, V1))
    async with started(world):
        headers = (*JSON, (b"authorization", b"Bearer secret"))
        said = await world.ask("POST", "/v1/completions", b'{"model":"bot"}', headers)
        assert said.json["model"] == "bot"


@pytest.mark.parametrize("text", [None, "", "a=b\n", "no equals sign\n", "engine.adapterrelease.dev/x=\n"])
async def test_a_pod_without_annotations_of_ours_starts(world: World, text: str | None) -> None:
    if text is not None:
        (world.directory / "annotations").write_text(text)
    async with started(world) as said:
        assert said == ["lifespan.startup.complete"]


async def test_an_annotation_that_is_no_declaration_is_left_out(world: World) -> None:
    annotate(world, {"name": 1}, [], "x", {"target": OLD}, {**wanted("bad", OLD, None)}, wanted("bot", OLD, V1))
    async with started(world):
        assert list((await world.state())["models"]) == ["bot"]


async def test_an_unreadable_file_does_not_keep_the_server_from_starting(world: World) -> None:
    (world.directory / "annotations").mkdir()
    async with started(world) as said:
        assert said == ["lifespan.startup.complete"]
    assert world.samples()["plugin_errors_total"]["-", "-", "-", "restore"] == 1


async def test_other_lifespans_end_as_without_the_plugin(world: World) -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.failed", "message": "no"})

    world.middleware._app = failing
    cycle = world.cycle()
    await world.middleware(scope_of(world.vllm, "", "/", (), "lifespan"), cycle.receive, cycle.send)
    assert [message["type"] for message in cycle.sent] == ["lifespan.startup.failed"]


@patient
@given(st.text().filter(lambda name: name and not any(0xD800 <= ord(letter) < 0xE000 for letter in name)))
def test_any_name_is_read_as_the_kubelet_wrote_it(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    path: Path = tmp_path_factory.mktemp("a") / "annotations"
    document = {"name": name, "target": None, "release": "r", "version": "v", "backend": "b"}
    line = "engine.adapterrelease.dev/x=" + quoted(json.dumps(document, ensure_ascii=False))
    path.write_text(f'a="engine.adapterrelease.dev/y={{}}"\n{line}\n', encoding="utf-8")
    assert [declared.name for declared in declarations(path)] == [name]
