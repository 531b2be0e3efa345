"""Metrics by release, version and backend: what they count, and that no series outlives its version."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.engine.plugin.fake_vllm import RESPONSES
from tests.engine.plugin.test_drain import begun
from tests.engine.plugin.world import JSON, NEW, V2, World

BOT1, BOT2, BASE = ("bot", "v1", "adapter"), ("bot", "v2", "adapter"), ("", "", "base")


def labels(world: World, name: str = "requests_in_flight") -> set[tuple[str, ...]]:
    return {key[:3] for key in world.samples()[name]}


async def test_requests_are_counted_by_version_and_code(world: World) -> None:
    await world.declare()
    await world.complete()
    await world.complete(prompt=None, stream=True)
    await world.complete("tiny")
    await world.complete("other")
    await world.ask("POST", "/v1/completions", b"{")
    await world.ask("POST", "/v1/completions", b"x", ((b"content-type", b"text/plain"),))
    assert world.samples()["requests_total"] == {
        (*BOT1, "200"): 2,
        (*BASE, "200"): 1,
        (*BASE, "404"): 1,
        (*BASE, "400"): 2,
    }


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/health"),
        ("GET", "/v1/models"),
        ("GET", "/metrics"),
        ("POST", "/tokenize"),
        ("POST", "/nothing"),
        ("GET", "/v1/completions"),
    ],
)
async def test_what_generates_nothing_is_not_counted(world: World, method: str, path: str) -> None:
    await world.ask(method, path, b'{"model":"tiny"}')
    assert "requests_total" not in world.samples()


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/systemone", "/cohere/v2/chat", "/v2/rerank", "/v1/score"])
async def test_whatever_computes_with_a_model_is_counted(world: World, path: str) -> None:
    await world.ask("POST", path, b'{"model":"nobody"}')
    assert world.samples()["requests_total"] == {(*BASE, "404"): 1}


async def test_names_that_clients_invent_make_no_series(world: World) -> None:
    for number in range(20):
        await world.complete(f"invented-{number}")
    assert labels(world) == {BASE} and world.samples()["requests_total"] == {(*BASE, "404"): 20}


async def test_tokens_are_those_that_vllm_counted(world: World) -> None:
    await world.declare()
    for stream in (False, True):
        await world.complete(stream=stream)
    samples = world.samples()
    assert (samples["prompt_tokens_total"][BOT1], samples["generation_tokens_total"][BOT1]) == (6, 8)


async def test_times_are_of_the_stream(world: World) -> None:
    await world.declare()
    _, task = await begun(world)
    world.now += 6
    world.vllm.gate.set()
    await task
    world.vllm.gate.set()
    await world.complete()
    samples = world.samples()
    assert samples["time_to_first_token_seconds_count"][BOT1] == 1
    assert samples["time_to_first_token_seconds_sum"][BOT1] == 0
    assert samples["time_per_output_token_seconds_sum"][BOT1] == 2  # 6 seconds for the 3 tokens after the first
    assert (samples["request_duration_seconds_count"][BOT1], samples["request_duration_seconds_sum"][BOT1]) == (2, 6)


async def test_the_first_token_is_the_first_event_and_no_comment(world: World) -> None:
    async def commenting(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for part in (b": keep-alive\n\n", b"", b"data: {}\n\n"):
            world.now += 1
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    world.middleware._app = commenting
    await world.complete("tiny")
    assert world.samples()["time_to_first_token_seconds_sum"][BASE] == 3


async def test_tokens_of_responses_are_those_of_their_usage(world: World) -> None:
    """vLLM leaves none of them in the request's state."""
    await world.declare()
    for stream in (False, True):
        body = json.dumps({"model": "bot", "input": "x", "stream": stream}).encode()
        assert (await world.ask("POST", RESPONSES, body)).status == 200
    samples = world.samples()
    assert (samples["prompt_tokens_total"][BOT1], samples["generation_tokens_total"][BOT1]) == (6, 8)
    assert samples["time_per_output_token_seconds_count"][BOT1] == 1


async def test_the_first_token_of_a_response_comes_after_what_announces_it(world: World) -> None:
    await world.declare()
    world.vllm.gate.clear()
    cycle = world.cycle(b'{"model":"bot","stream":true}')
    task = asyncio.create_task(world.call(cycle, "POST", RESPONSES))
    await cycle.until(3)
    world.now += 5
    world.vllm.gate.set()
    await task
    assert world.samples()["time_to_first_token_seconds_sum"][BOT1] == 5


@pytest.mark.parametrize(
    "told", ["null", "[]", "{}", '{"usage":null}', '{"usage":{"input_tokens":null}}', "{", "Hello"]
)
async def test_a_response_that_tells_no_usage_is_no_error_of_the_plugin(world: World, told: str) -> None:
    async def telling(scope: object, receive: object, send: object) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(told))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": told.encode()})

    world.middleware._app = telling
    assert (await world.ask("POST", RESPONSES, b'{"model":"tiny"}')).body == told.encode()
    samples = world.samples()
    assert samples["requests_total"] == {(*BASE, "200"): 1} and samples["prompt_tokens_total"][BASE] == 0
    assert not any(samples["plugin_errors_total"].values())


async def test_a_client_that_leaves_is_a_499(world: World) -> None:
    await world.declare()
    for stream in (True, False):
        cycle, task = await begun(world, stream=stream)
        assert world.samples()["requests_in_flight"][BOT1] == 1
        cycle.leave()
        await task
        assert world.samples()["requests_in_flight"][BOT1] == 0
    assert world.samples()["requests_total"] == {(*BOT1, "499"): 2}


async def test_an_error_of_vllm_is_a_500_and_stays_vllms(world: World) -> None:
    async def failing(*_: object) -> None:
        raise ZeroDivisionError

    world.middleware._app = failing
    with pytest.raises(ZeroDivisionError):
        await world.complete("tiny")
    assert world.samples()["requests_total"] == {(*BASE, "500"): 1}
    assert not any(world.samples()["plugin_errors_total"].values())


async def test_a_replaced_versions_series_vanish_when_its_last_request_has_ended(world: World) -> None:
    await world.declare()
    await world.complete(stream=True)
    _, task = await begun(world)
    await world.declare("bot", NEW, V2, "v2")
    assert labels(world) == {BASE, BOT1, BOT2}
    world.vllm.gate.set()
    await task
    for name in world.samples():
        if name not in ("plugin_info", "plugin_errors_total"):
            assert BOT1 not in labels(world, name), name
    await world.complete()
    assert world.samples()["requests_total"] == {(*BOT2, "200"): 1}


async def test_the_series_of_a_version_that_stays_stay(world: World) -> None:
    await world.declare()
    await world.complete()
    await world.declare("other", NEW, V2)
    await world.declare()
    await world.admin("DELETE", "models/other")
    assert world.samples()["requests_total"] == {(*BOT1, "200"): 1}


async def test_a_deleted_names_series_vanish(world: World) -> None:
    await world.declare()
    await world.complete()
    await world.admin("DELETE", "models/bot")
    assert labels(world) == {BASE} and "requests_total" not in world.samples()


async def test_the_plugin_tells_its_version(world: World) -> None:
    assert list(world.samples()["plugin_info"]) == [("-", world.plugin.version, "-")]


async def test_two_instances_in_one_process_share_the_metrics(world: World) -> None:
    again = World(world.directory, world.vllm, world.registry)
    await again.complete("tiny")
    await world.complete("tiny")
    assert world.samples()["requests_total"] == {(*BASE, "200"): 2}
    assert (await world.ask("POST", "/v1/completions", b'{"model":"tiny"}', JSON)).status == 200
