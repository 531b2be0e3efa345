"""A name that is routed elsewhere: who is still here, and whose connection is closed."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from tests.engine.plugin.world import JSON, OLD, Cycle, World, scope_of


async def begun(world: World, model: str = "bot", stream: bool = True) -> tuple[Cycle, asyncio.Task[None]]:
    """A request that does not end before the gate is open."""
    world.vllm.gate.clear()
    cycle = world.cycle(b'{"model":"%s","stream":%s}' % (model.encode(), b"true" if stream else b"false"))
    task = asyncio.create_task(world.call(cycle, "POST", "/v1/completions"))
    await world.vllm.began.get()
    if stream:
        await cycle.until(2)
    return cycle, task


async def test_the_state_says_what_runs_by_name_and_by_engine_model(world: World) -> None:
    await world.declare()
    requests = [await begun(world), await begun(world), await begun(world, OLD), await begun(world, "tiny", False)]
    state = await world.state()
    assert state["inFlight"] == {OLD: 3, "tiny": 1} and state["models"]["bot"]["inFlight"] == 2
    world.vllm.gate.set()
    for _, task in requests:
        await task
    state = await world.state()
    assert state["inFlight"] == {} and state["models"]["bot"]["inFlight"] == 0


async def test_answers_for_a_name_that_has_departed_close_their_connection(world: World) -> None:
    await world.declare()
    assert (await world.complete()).header(b"connection") is None
    await world.admin("PUT", "models/bot/routed", {"routed": False})
    assert (await world.complete()).header(b"connection") == b"close"
    assert (await world.complete(stream=True)).header(b"connection") == b"close"
    assert (await world.complete("tiny")).header(b"connection") is None
    await world.admin("PUT", "models/bot/routed", {"routed": True})
    assert (await world.complete()).header(b"connection") is None


async def test_what_runs_when_its_name_departs_ends_its_connection(world: World) -> None:
    await world.declare()
    ours, others = await begun(world), await begun(world, "tiny")
    whole = await begun(world, stream=False)
    await world.admin("PUT", "models/bot/routed", {"routed": False})
    assert not ours[0].transport.said, "ended before its answer is whole"
    world.vllm.gate.set()
    for _, task in (ours, others, whole):
        await task
    assert whole[0].answer.header(b"connection") == b"close"
    assert ours[0].answer.header(b"connection") is None and others[0].answer.header(b"connection") is None
    assert ours[0].answer.body.endswith(b"data: [DONE]\n\n")
    held = (socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    assert ours[0].said_before_the_end == [held], "the last bytes may arrive before the end of the connection"
    assert ours[0].transport.said == [held, "eof"] and not others[0].transport.said


async def test_a_stream_of_a_name_that_has_come_back_keeps_its_connection(world: World) -> None:
    await world.declare()
    running, task = await begun(world)
    for routed in (False, True):
        await world.admin("PUT", "models/bot/routed", {"routed": routed})
    world.vllm.gate.set()
    await task
    assert not running.transport.said and running.answer.header(b"connection") is None


async def test_where_the_connection_cannot_be_closed_a_stream_says_from_its_start_that_it_ends(world: World) -> None:
    """A middleware before ours has wrapped `receive`, or the server is none of uvicorn's, or there is TLS."""
    await world.declare()
    wrapped, encrypted = (world.cycle(b'{"model":"bot","stream":true}') for _ in range(2))
    encrypted.transport.is_plain = False

    async def receive() -> Any:
        return await wrapped.receive()

    for cycle, hears in ((wrapped, receive), (encrypted, encrypted.receive)):
        await world.middleware(scope_of(world.vllm, "POST", "/v1/completions", JSON), hears, cycle.send)
        assert cycle.answer.header(b"connection") == b"close" and not cycle.transport.said


async def test_a_connection_that_closes_already_is_left_alone(world: World) -> None:
    await world.declare()
    running, task = await begun(world)
    running.transport.closing = True
    await world.admin("PUT", "models/bot/routed", {"routed": False})
    world.vllm.gate.set()
    await task
    assert not running.transport.said and running.answer.body.endswith(b"data: [DONE]\n\n")


async def test_a_stream_with_a_request_behind_it_does_not_end_the_connection_before_that_is_answered(
    world: World,
) -> None:
    """A client that pipelines would not get the answer; that one says that it is the last."""
    await world.declare()
    running, task = await begun(world)
    running.transport.pipeline.append("the next request")
    await world.admin("PUT", "models/bot/routed", {"routed": False})
    world.vllm.gate.set()
    await task
    assert not running.transport.said and running.answer.body.endswith(b"data: [DONE]\n\n")
    assert (await world.complete()).header(b"connection") == b"close"


async def test_a_connection_that_is_lost_with_the_last_bytes_is_no_error_of_the_plugin(world: World) -> None:
    """A client of HTTP/1.0 is closed by uvicorn itself, one that reads slowly may leave while the last bytes wait."""
    await world.declare()
    running, task = await begun(world)
    running.lost_at_the_end = True
    await world.admin("PUT", "models/bot/routed", {"routed": False})
    world.vllm.gate.set()
    await task
    assert "eof" not in running.transport.said
    assert not any(world.samples()["plugin_errors_total"].values())


async def test_a_merged_model_departs_too(world: World) -> None:
    await world.declare("tiny", None, None)
    running, task = await begun(world, "tiny")
    await world.admin("PUT", "models/tiny/routed", {"routed": False})
    world.vllm.gate.set()
    await task
    assert running.transport.said[-1:] == ["eof"]
    assert (await world.complete("tiny")).header(b"connection") == b"close"


async def test_the_age_of_the_departure_is_told_and_a_new_version_does_not_end_it(world: World) -> None:
    await world.declare()
    await world.admin("PUT", "models/bot/routed", {"routed": False})
    world.now += 7.5
    await world.admin("PUT", "models/bot/routed", {"routed": False})
    await world.declare()
    described = (await world.state())["models"]["bot"]
    assert (described["routed"], described["departedSeconds"]) == (False, 7.5)


async def test_a_client_that_leaves_is_no_longer_in_flight(world: World) -> None:
    await world.declare()
    cycle, task = await begun(world)
    cycle.leave()
    await task
    assert (await world.state())["inFlight"] == {}
