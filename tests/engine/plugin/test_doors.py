"""What only the controller may ask, by every way to write a path that anybody here could think of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.engine.plugin import doors
from tests.engine.plugin.world import AS_CONTROLLER, JSON, World, patient, scope_of

DOORS = (
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/adapters",
    "/adapters/bot",
    "/invocations",
    "/adapterrelease/v1/state",
    "/adapterrelease/v1/models/bot",
    "/adapterrelease",
)
TRICKS: dict[str, Callable[[str], str]] = {
    "as it is": lambda path: path,
    "double slash": lambda path: "/" + path,
    "double slashes inside": lambda path: path.replace("/", "//"),
    "dot": lambda path: "/." + path,
    "up": lambda path: "/v1/models/.." + path,
    "up, encoded": lambda path: "/v1/%2e%2e" + path,
    "encoded letter": lambda path: path.replace("a", "%61"),
    "encoded slash": lambda path: "/x%2f" + path[1:],
    "all encoded": lambda path: "/" + "".join(f"%{ord(letter):02X}" for letter in path[1:]),
    "encoded twice": lambda path: path.replace("a", "%2561"),
    "encoded three times": lambda path: path.replace("a", "%252561"),
    "encoded nine times": lambda path: "/" + nine_times(path[1:]),
    "trailing slash": lambda path: path + "/",
    "trailing dot": lambda path: path + "/.",
    "parameters": lambda path: path + ";a=b",
    "parameters inside": lambda path: "/;x=y" + path,
    "query": lambda path: path + "?model=bot",
    "upper case": str.upper,
    "backslash": lambda path: path.replace("/", "\\"),
    "encoded backslash": lambda path: path.replace("/", "%5c"),
    "root path": lambda path: "/some/prefix" + path,
    "NUL": lambda path: path + "%00",
    "blank": lambda path: path + "%20",
    "line break": lambda path: path + "%0d%0a",
    "fragment": lambda path: path + "%23/v1/models",
    "absolute": lambda path: "http://localhost" + path,
}


def nine_times(text: str) -> str:
    text = "".join(f"%{ord(letter):02X}" for letter in text)
    for _ in range(8):
        text = quote(text, safe="")
    return text


TOKENS: dict[str, tuple[tuple[tuple[bytes, bytes], ...], int]] = {
    "none": (JSON, 401),
    "wrong": (((b"x-adapterrelease-token", b"other"), *JSON), 403),
    "empty": (((b"x-adapterrelease-token", b""), *JSON), 403),
    "a part of it": (((b"x-adapterrelease-token", b"the-tok"), *JSON), 403),
    "as a bearer": (((b"authorization", b"Bearer the-token"), *JSON), 401),
    "another's header": (((b"x-amzn-sagemaker-adapter-identifier", b"bot"), *JSON), 401),
}


METHODS = ("POST", "GET", "HEAD", "OPTIONS", "DELETE", "PUT", "BREW")


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("door", DOORS)
async def test_a_door_is_closed_without_the_token(world: World, door: str, trick: str) -> None:
    for headers, status in TOKENS.values():
        for method in METHODS:
            said = await world.ask(method, TRICKS[trick](door), b'{"lora_name":"x","lora_path":"/x"}', headers)
            assert (said.status, list(said.json)) == (status, ["error"])
    assert world.vllm.scopes == []


@pytest.mark.parametrize("trick", TRICKS)
async def test_with_the_token_a_path_is_what_it_is_for_vllm(world: World, trick: str) -> None:
    path = TRICKS[trick]("/v1/unload_lora_adapter")
    body = b'{"lora_name":"x"}'
    assert await world.ask("POST", path, body, AS_CONTROLLER) == await world.bare("POST", path, body)


async def test_vllm_does_not_see_the_token(world: World) -> None:
    await world.ask("POST", "/v1/unload_lora_adapter", b'{"lora_name":"x"}', AS_CONTROLLER)
    assert [name for name, _ in world.vllm.scopes[0]["headers"]] == [b"content-type", b"content-length"]


@pytest.mark.parametrize("path", ["/adapters", "/adapterrelease/v1/state", "/%61dapters", "//invocations"])
async def test_a_websocket_is_closed_before_it_is_open(world: World, path: str) -> None:
    cycle = world.cycle()
    await world.middleware(scope_of(world.vllm, "GET", path, (), "websocket"), cycle.receive, cycle.send)
    assert [message["type"] for message in cycle.sent] == ["websocket.close"]
    assert world.vllm.scopes == []


async def test_other_websockets_are_vllms(world: World) -> None:
    cycle = world.cycle()
    await world.middleware(scope_of(world.vllm, "GET", "/v1/realtime", (), "websocket"), cycle.receive, cycle.send)
    assert [message["type"] for message in cycle.sent] == ["websocket.accept"]


@pytest.mark.parametrize(
    "path", ["/v1/models", "/health", "/metrics", "/v1/completions", "/tokenize", "/docs", "/ping"]
)
async def test_what_clients_need_stays_open(world: World, path: str) -> None:
    assert (await world.ask("GET", path)) == await world.bare("GET", path)


async def test_a_token_is_rotated_without_a_restart(world: World) -> None:
    assert (await world.admin("GET", "state")).status == 200
    (world.directory / "previous-token").write_text("the-token")
    (world.directory / "token").write_text("new\n")
    for token, status in (("new", 200), ("the-token", 200), ("old", 403)):
        assert (await world.admin("GET", "state", token=token)).status == status
    (world.directory / "previous-token").unlink()
    assert (await world.admin("GET", "state")).status == 403


@pytest.mark.parametrize("text", [None, "", " \n"])
async def test_without_a_token_of_its_own_a_server_opens_no_door(world: World, text: str | None) -> None:
    (world.directory / "token").unlink()
    if text is not None:
        (world.directory / "token").write_text(text)
    for token in ("", "the-token", " "):
        said = await world.admin("GET", "state", token=token)
        assert said.status == 403 and "no controller's token" in said.json["error"]["message"]


@patient
@given(st.text(max_size=12), st.text(max_size=12), st.sampled_from(doors.WORDS), st.integers(0, 3))
def test_a_path_with_one_of_the_words_is_a_door_however_it_is_encoded(a: str, b: str, word: str, depth: int) -> None:
    path = f"/{a}{word}{b}"
    for _ in range(depth):
        path = quote(path, safe="/")
    assert doors.is_door({"path": path, "raw_path": path.encode("utf-8", "replace")})


@pytest.mark.parametrize(
    ("scope", "closed"),
    [
        ({"path": None}, False),
        ({"path": "/health", "raw_path": 3}, False),
        ({"path": 7, "raw_path": b"/Adapters"}, True),
        ({"raw_path": b"/%61"}, True),
        ({"raw_path": b"/invocations"}, True),
        (None, True),
    ],
)
def test_a_door_that_fails_closes_for_suspicious_paths_only(scope: Any, closed: bool) -> None:
    assert doors.is_door(scope) is closed


async def test_an_error_in_the_door_closes_it(world: World) -> None:
    (world.directory / "token").unlink()
    world.plugin.directory = None  # type: ignore[assignment]
    said = await world.ask("POST", "/v1/load_lora_adapter", b"{}", AS_CONTROLLER)
    assert said.status == 403 and world.vllm.scopes == []
    assert world.samples()["plugin_errors_total"]["-", "-", "-", "door"] == 1


async def test_a_list_of_models_for_a_wrong_token_is_refused(world: World) -> None:
    """Else a controller whose token is newer than the pod's would take hidden versions for unloaded ones."""
    answer = await world.ask("GET", "/v1/models", headers=((b"x-adapterrelease-token", b"older"), *JSON))
    assert answer.status == 403
    assert (await world.ask("GET", "/v1/models")).status == 200


@pytest.mark.parametrize("path", ["/v1/models", "/v1/completions", "/health"])
async def test_vllm_never_sees_the_token(world: World, path: str) -> None:
    told: list[Any] = []
    below = world.middleware._app

    async def listening(scope: Any, receive: Any, send: Any) -> None:
        told.append(dict(scope["headers"]))
        await below(scope, receive, send)

    world.middleware._app = listening
    method = "GET" if path in ("/v1/models", "/health") else "POST"
    await world.ask(method, path, b'{"model":"tiny","prompt":"x"}', headers=(AS_CONTROLLER[0], *JSON))
    assert told
    assert all(b"x-adapterrelease-token" not in headers for headers in told)
