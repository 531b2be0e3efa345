"""The controller's API: declare, route, forget, look."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from controller.engine.plugin import plugin_version
from tests.engine.plugin.test_drain import begun
from tests.engine.plugin.world import AS_CONTROLLER, JSON, NEW, OLD, V1, V2, World, declared


async def test_a_declaration_is_answered_with_what_it_made(world: World) -> None:
    said = await world.declare()
    wanted = {**declared("bot", OLD, V1), "routed": True, "departedSeconds": None, "inFlight": 0}
    assert (said.status, said.json) == (200, wanted)
    state = await world.state()
    assert state == {"version": world.plugin.version, "models": {"bot": wanted}, "inFlight": {}, "restore": {}}


@pytest.mark.parametrize("name", ["bot", "org/team.bot_v-1", "a/routed", "b@t", "bot 2", "böt"])
async def test_a_name_may_have_any_letters(world: World, name: str) -> None:
    assert (await world.declare(name, name + "@aaaaaaaaaaaa")).status == 200
    assert list((await world.state())["models"]) == [name]
    assert (await world.complete(name)).json["model"] == name


async def test_a_slash_in_a_name_need_not_be_encoded(world: World) -> None:
    await world.declare("org/bot", OLD)
    assert (await world.admin("PUT", "models/org/bot/routed", {"routed": False})).json["routed"] is False
    assert (await world.admin("DELETE", "models/org/bot")).status == 200
    assert (await world.state())["models"] == {}


@pytest.mark.parametrize(
    ("target", "path", "said"),
    [
        (NEW, V2, f"vLLM does not list {NEW}; load it first"),
        (OLD, V2, f"{OLD} was loaded from {V1}, not from {V2}"),
    ],
)
async def test_what_vllm_does_not_hold_is_not_declared(world: World, target: str, path: str, said: str) -> None:
    await world.declare()
    answer = await world.admin("PUT", "models/bot", declared("bot", target, path))
    assert (answer.status, answer.json["error"]["message"]) == (409, said)
    assert (await world.state())["models"]["bot"]["target"] == OLD


async def test_a_merged_server_is_declared_under_its_own_name(world: World) -> None:
    assert (await world.declare("tiny", None, None, "m1")).status == 200
    said = await world.complete("tiny")
    assert (said.json["model"], said.header(b"x-adapterrelease-version")) == ("tiny", b"m1")
    assert said.body == (await world.bare("POST", "/v1/completions", b'{"model":"tiny"}')).body


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (None, "no JSON"),
        ([], "no JSON object"),
        ({"target": 1, "path": V1}, "target must be a string or null"),
        ({"target": "", "path": V1}, "target must be a string or null"),
        ({"target": OLD}, "path is missing"),
        ({"target": OLD, "path": V1, "version": "v1\r\nx: y"}, "version must be"),
        ({"target": OLD, "path": V1, "backend": 7}, "backend must be"),
    ],
)
async def test_a_declaration_that_is_none_is_refused(world: World, document: Any, complaint: str) -> None:
    world.vllm.adapters[OLD] = V1
    said = await world.admin("PUT", "models/bot", document)
    assert said.status == 400 and complaint in said.json["error"]["message"]
    assert (await world.state())["models"] == {}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "nothing", 404),
        ("GET", "models/", 404),
        ("POST", "state", 405),
        ("GET", "models/bot", 405),
        ("DELETE", "models/bot/routed", 405),
        ("PUT", "models/other/routed", 404),
        ("DELETE", "models/other", 200),
    ],
)
async def test_other_requests_are_told_what_there_is(world: World, method: str, path: str, status: int) -> None:
    assert (await world.admin(method, path, {"routed": True})).status == status


async def test_routed_must_be_true_or_false(world: World) -> None:
    await world.declare()
    for document in ({}, {"routed": "no"}, {"routed": 0}, []):
        assert (await world.admin("PUT", "models/bot/routed", document)).status == 400


async def test_a_body_without_end_is_refused(world: World) -> None:
    said = await world.ask("PUT", "/adapterrelease/v1/models/bot", [b" " * 1_000_000] * 2, AS_CONTROLLER)
    assert said.status == 413


async def test_several_api_servers_are_refused(world: World) -> None:
    world.vllm.state.args.api_server_count = 4
    said = await world.declare()
    assert said.status == 409 and "--api-server-count=1" in said.json["error"]["message"]


async def test_a_server_that_does_not_list_its_models_is_reported(world: World) -> None:
    world.vllm.state.args.api_key = ["secret"]
    world.plugin.inside._arguments = lambda: None  # type: ignore[method-assign]
    said = await world.declare()
    assert said.status == 502 and "answered 401" in said.json["error"]["message"]


async def test_the_plugin_knows_vllms_api_key(world: World) -> None:
    world.vllm.state.args.api_key = ["secret"]
    assert (await world.declare()).status == 200


async def test_a_flip_is_for_the_next_request_and_a_running_stream_ends_as_it_began(world: World) -> None:
    await world.declare()
    world.vllm.gate.clear()
    cycle = world.cycle(b'{"model":"bot","stream":true}')
    stream = asyncio.create_task(world.call(cycle, "POST", "/v1/completions"))
    await cycle.until(2)
    await world.declare("bot", NEW, V2, "v2")
    assert (await world.state())["inFlight"] == {OLD: 1}
    world.vllm.gate.set()
    said = await world.complete()
    assert said.json["choices"][0]["text"].startswith(V2) and said.header(b"x-adapterrelease-version") == b"v2"
    await stream
    events = [event for event in cycle.answer.body.split(b"\n\n") if event]
    assert len(events) == 5 and all(V1.encode() in event and b'"model":"bot"' in event for event in events[:-1])
    assert cycle.answer.header(b"x-adapterrelease-version") == b"v1"
    assert (await world.state())["inFlight"] == {}


async def test_a_forgotten_name_is_unknown_to_vllm_again(world: World) -> None:
    await world.declare()
    for _ in range(2):
        assert (await world.admin("DELETE", "models/bot")).status == 200
    assert (await world.complete()).status == 404
    assert world.vllm.adapters == {OLD: V1}


async def test_the_state_is_told_whatever_a_running_request_calls_its_model(world: World) -> None:
    """JSON can say half a surrogate, UTF-8 cannot."""
    await world.declare()
    world.vllm.adapters["\ud800"] = V1
    cycle, task = await begun(world, "\\ud800", stream=False)
    said = await world.admin("GET", "state")
    assert (said.status, said.json["inFlight"]) == (200, {"\ud800": 1})
    cycle.leave()
    await task


async def models(world: World, headers: Any = JSON) -> list[tuple[str, str]]:
    return [
        (entry["id"], entry["root"]) for entry in (await world.ask("GET", "/v1/models", headers=headers)).json["data"]
    ]


async def test_models_are_listed_by_the_names_that_clients_use(world: World) -> None:
    world.vllm.adapters.update({"bot": "/store/by-hand", NEW: V2, "other": "/other"})
    bare = (await world.bare("GET", "/v1/models")).body
    assert (await world.ask("GET", "/v1/models")).body == bare
    await world.declare()
    seen = [("tiny", "/base"), ("other", "/other"), ("bot", V1)]
    assert await models(world) == seen
    assert await models(world, AS_CONTROLLER) == [("tiny", "/base"), (NEW, V2), ("other", "/other"), ("bot", V1)]
    await world.declare("bot", NEW, V2)
    assert await models(world) == [("tiny", "/base"), ("bot", V2), ("other", "/other")]


async def test_a_list_that_is_none_is_passed_on(world: World) -> None:
    await world.declare()
    world.vllm._cards = lambda: [{"name": "no id"}]  # type: ignore[method-assign]
    assert (await world.ask("GET", "/v1/models")) == await world.bare("GET", "/v1/models")


def test_the_version_is_a_digest_of_the_files(tmp_path: Path) -> None:
    for name, text in (("b.py", "2"), ("a.py", "1"), ("token", "secret"), ("a.txt", "3")):
        (tmp_path / name).write_text(text)
    assert plugin_version(tmp_path) == hashlib.sha256(b"a.py\x001\x00b.py\x002\x00").hexdigest()[:12]
