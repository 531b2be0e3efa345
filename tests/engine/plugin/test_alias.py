"""Where the model stands in a body, and that nothing else of the body changes."""

from __future__ import annotations

import asyncio
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.engine.plugin.alias import asked_model, with_model
from tests.engine.plugin.world import JSON, OLD, World, patient

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["bot", "model", '"model":"bot"']),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.just("model"), inner, max_size=4),
    max_leaves=12,
)
SPACE = st.text(" \t\r\n", max_size=2)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """JSON objects as nobody's library writes them: any spaces, equal keys, escapes."""
    members = []
    for _ in range(draw(st.integers(0, 5))):
        key = draw(st.sampled_from(['"model"', '"mod\\u0065l"', '"stream"', '"Model"']) | st.text().map(json.dumps))
        value = json.dumps(draw(VALUES), ensure_ascii=draw(st.booleans()), indent=draw(st.none() | st.integers(0, 2)))
        members.append(f"{draw(SPACE)}{key}{draw(SPACE)}:{draw(SPACE)}{value}{draw(SPACE)}")
    return f"{draw(SPACE)}{{{','.join(members) or draw(SPACE)}}}{draw(SPACE)}"


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@patient
@given(documents(), st.booleans())
def test_the_model_is_the_one_that_json_reads(text: str, bom: bool) -> None:
    body = b"\xef\xbb\xbf" * bom + encoded(text)
    model = json.loads(body).get("model")
    asked = asked_model(body)
    assert (asked.model if asked else None) == (model if isinstance(model, str) else None)


@patient
@given(documents(), st.text())
def test_replacing_it_changes_what_json_reads_and_no_other_byte(text: str, target: str) -> None:
    body = encoded(text)
    if (asked := asked_model(body)) is None:
        return
    changed = with_model(body, asked, target)
    before, after = json.loads(body), json.loads(changed)
    assert repr(after) == repr({**before, "model": target})
    assert changed.startswith(body[: asked.start]) and changed.endswith(body[asked.end :])
    assert json.loads(body[asked.start : asked.end]) == asked.model


@patient
@given(st.binary() | documents().map(encoded).flatmap(lambda body: st.integers(0, len(body)).map(lambda n: body[:n])))
def test_what_json_refuses_names_no_model(body: bytes) -> None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        assert asked_model(body) is None
        return
    if not isinstance(document, dict) or not isinstance(document.get("model"), str):
        assert asked_model(body) is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"bot",}',
        b'{"model":"bot"',
        b'{"model":"bot"}}',
        b'{"model" "bot"}',
        b'{"model":"bot" "a":1}',
        b"{'model':'bot'}",
        b'["model","bot"]',
        b'{"a":{"model":"bot"}}',
        b'{"model":"b\nt"}',
        b'{"model":["bot"]}',
        b'{"model":"bot","model":null}',
        b'{"model":"bot","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        '{"model":"bot"}'.encode("utf-16"),
        '{"model":"bot"}'.encode("utf-32-le"),
        b"",
    ],
)
def test_a_body_that_names_no_model_is_left_alone(body: bytes) -> None:
    assert asked_model(body) is None


PARTS = st.lists(st.integers(0, 400), max_size=5)


def cut(body: bytes, places: list[int]) -> list[bytes]:
    """The body in pieces, empty ones too."""
    ends = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[start:end] for start, end in itertools.pairwise(ends)]


@patient
@given(documents(), PARTS)
def test_vllm_gets_every_body_whole_with_nothing_but_the_alias_changed(
    tmp_path_factory: pytest.TempPathFactory, text: str, places: list[int]
) -> None:
    body = encoded(text)
    asked = asked_model(body)
    wanted = with_model(body, asked, OLD) if asked is not None and asked.model == "bot" else body

    async def go() -> None:
        world = World(tmp_path_factory.mktemp("w"))
        await world.declare()
        await world.ask("POST", "/v1/completions", cut(body, places))
        assert world.vllm.seen == [("/v1/completions", wanted)]
        (scope,) = [it for it in world.vllm.scopes if it["method"] == "POST"]
        assert dict(scope["headers"]).get(b"content-length", b"0") == str(len(wanted)).encode()

    asyncio.run(go())


@patient
@given(st.binary(), PARTS, st.sampled_from([b"application/json", b"multipart/form-data; boundary=x", b"text/plain"]))
def test_any_bytes_are_answered_as_without_the_plugin(
    tmp_path_factory: pytest.TempPathFactory, body: bytes, places: list[int], kind: bytes
) -> None:
    async def go() -> None:
        world = World(tmp_path_factory.mktemp("w"))
        await world.declare()
        parts, headers = cut(body, places), ((b"content-type", kind),)
        assert await world.ask("POST", "/v1/completions", parts, headers) == await world.bare(
            "POST", "/v1/completions", parts, headers
        )
        assert world.vllm.seen[0] == world.vllm.seen[1]

    asyncio.run(go())


async def test_a_client_asks_by_its_name_and_hears_its_name(world: World) -> None:
    await world.declare()
    said = await world.complete()
    assert (said.status, said.json["model"]) == (200, "bot")
    assert said.json["choices"][0]["text"].startswith("/store/adapters/bot/1 said")
    assert said.header(b"content-length") == str(len(said.body)).encode()
    assert (said.header(b"x-adapterrelease-version"), said.header(b"x-adapterrelease-backend")) == (b"v1", b"adapter")


async def test_text_that_looks_like_a_model_is_the_models_own_business(world: World) -> None:
    await world.declare()
    said = await world.complete()
    assert said.json["choices"][0]["text"].endswith(f'"model":"{OLD}"')


async def test_a_request_that_is_cut_off_reaches_vllm_cut_off(world: World) -> None:
    await world.declare()
    cycle = world.cycle([b'{"model":"bot"'])
    cycle.messages.get_nowait()
    cycle.put(b'{"model":"bot"', True)
    cycle.leave()
    with pytest.raises(ConnectionResetError):
        await world.call(cycle, "POST", "/v1/completions")
    assert cycle.sent == [] and (await world.state())["inFlight"] == {}
    assert world.samples()["requests_total"] == {("", "", "base", "499"): 1}


async def test_an_upper_case_media_type_is_json_too(world: World) -> None:
    await world.declare()
    said = await world.ask(
        "POST", "/v1/completions", b'{"model":"bot"}', ((b"content-type", b"Application/JSON; charset=utf-8"),)
    )
    assert said.json["model"] == "bot"


async def test_errors_name_the_model_that_the_client_named(world: World) -> None:
    await world.declare()
    del world.vllm.adapters[OLD]
    said = await world.complete()
    assert said.json["error"]["message"] == "The model `bot` does not exist. Valid aliases: tiny."
    assert said.header(b"content-length") == str(len(said.body)).encode()


async def test_a_name_with_quotes_and_letters_beyond_ascii_is_answered_in_them(world: World) -> None:
    name, target = 'büro/"bot"', 'büro/"bot"@aaaaaaaaaaaa'
    await world.declare(name, target)
    said = await world.complete(name)
    assert said.json["model"] == name and target not in json.loads(said.body)["model"]


async def test_without_the_api_key_a_body_is_not_read_and_the_answer_is_vllms(world: World) -> None:
    world.vllm.state.args.api_key = ["other", "secret"]
    await world.declare()
    body = b'{"model":"bot"}'
    for headers in (JSON, (*JSON, (b"authorization", b"Bearer wrong"))):
        cycle = world.cycle(body)
        await world.call(cycle, "POST", "/v1/completions", headers)
        assert (cycle.answer.status, cycle.messages.qsize()) == (401, 1)
    said = await world.ask("POST", "/v1/completions", body, (*JSON, (b"authorization", b"Bearer secret")))
    assert said.json["model"] == "bot"
