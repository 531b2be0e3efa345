"""The plugin in a real vLLM: what clients get with it and without it, from the same engine.

One server, two ports (real.py). What both answer must be the same bytes, but for ids and times.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from tests.engine.plugin.real import (
    SECONDS,
    Connection,
    Said,
    Server,
    asked,
    generation,
    mounted,
    plugin_files,
    real_server,
    request,
)
from tests.engine.plugin.test_doors import TRICKS

pytestmark = [pytest.mark.ml, pytest.mark.timeout(900)]
V1, V2 = "bot@111111111111", "bot@333333333333"
TOKEN = "X-Adapterrelease-Token: secret"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with real_server(tmp_path_factory.mktemp("vllm")) as server:
        yield server


@pytest.fixture(autouse=True)
def _as_it_began(server: Server) -> None:
    server.declare("bot", V1, server.v1, "v1")
    server.route("bot", True)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline


def test_what_the_annotations_name_is_served_from_the_start_and_what_is_broken_is_told(server: Server) -> None:
    state = server.state
    assert (state["models"]["bot"]["target"], list(state["restore"])) == (V1, ["broken"])
    assert "No adapter found" in state["restore"]["broken"]
    assert asked(server.port, generation("bot")).status == 200
    said = asked(server.port, generation("broken"))
    assert (said.status, said.headers[b"retry-after"], said.headers[b"connection"]) == (503, b"1", b"close")


GOOD = {"model": "tiny", "prompt": "hi", "max_tokens": 4, "temperature": 0}
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, "temperature": 0}
MULTIPART = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\ntiny\r\n--x--\r\n'


def posted(document: Any, path: str = "/v1/completions", **more: Any) -> bytes:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return request("POST", path, body, **more)


SAME: dict[str, bytes] = {
    "completion": posted(GOOD),
    "stream": posted({**GOOD, "stream": True}),
    "stream with usage": posted({**GOOD, "stream": True, "stream_options": {"include_usage": True}}),
    "several": posted({**GOOD, "n": 1, "prompt": ["hi", "there"], "logprobs": 2, "echo": True}),
    "chat": posted(CHAT, "/v1/chat/completions"),
    "chat stream": posted({**CHAT, "stream": True}, "/v1/chat/completions"),
    "messages": posted({**CHAT, "stream": True}, "/v1/messages"),
    "responses": posted({"model": "tiny", "input": "hi", "max_output_tokens": 4, "temperature": 0}, "/v1/responses"),
    "tokenize": posted(GOOD, "/tokenize"),
    "unknown model": posted({**GOOD, "model": "nobody"}),
    "no model": posted({"prompt": "hi", "max_tokens": 1, "temperature": 0}),
    "model is no string": posted({**GOOD, "model": ["tiny"]}),
    "no prompt": posted({"model": "tiny"}),
    "wrong value": posted({**GOOD, "max_tokens": -1}),
    "cut off": posted(json.dumps(GOOD).encode()[:-9]),
    "a comma too much": posted(b'{"model":"tiny","prompt":"hi",}'),
    "no UTF-8": posted(b'{"model":"tiny","prompt":"\xff\xfe"}'),
    "UTF-16": posted(json.dumps(GOOD).encode("utf-16")),
    "a byte order mark": posted(b"\xef\xbb\xbf" + json.dumps(GOOD).encode()),
    "equal keys": posted(b'{"model":"nobody","prompt":"hi","max_tokens":2,"temperature":0,"model":"tiny"}'),
    "an array": posted(b"[1]"),
    "empty": posted(b""),
    "not JSON": posted(b"hello", kind="text/plain"),
    "form": posted(b"model=tiny&prompt=hi", kind="application/x-www-form-urlencoded"),
    "multipart": posted(MULTIPART, "/v1/audio/transcriptions", kind="multipart/form-data; boundary=x"),
    "multipart to completions": posted(MULTIPART, kind="multipart/form-data; boundary=x"),
    "too long": posted({**GOOD, "prompt": "word " * 2000}),
    "six megabytes": posted({**GOOD, "prompt": "x" * 6_000_000}),
    "six megabytes that are no JSON": posted(b"[" * 6_000_000),
    "trailing slash": posted(GOOD, "/v1/completions/"),
    "no such path": posted(GOOD, "/v1/nothing"),
    "wrong method": request("GET", "/v1/completions"),
    "DELETE": request("DELETE", "/v1/completions"),
    "OPTIONS": request("OPTIONS", "/v1/completions", None, "Origin: http://a", "Access-Control-Request-Method: POST"),
    "HTTP/1.0": posted(GOOD, version="1.0"),
    "health": request("GET", "/health"),
    "version": request("GET", "/version"),
    "models": request("GET", "/v1/models"),
    "no HTTP": b"hello\r\n\r\n",
}
# vLLM itself answers the same request in other pieces when the machine is busy (two tokens in one event), and says
# how much of a prompt it had cached. What the plugin changes, it changes each time.
TRIES = 5
PIECES = [b'{"model":', b'"tiny","prompt":"hi",', b'"max_tokens":3,"temperature":0}']
SAME["chunked"] = (
    b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in PIECES)
    + b"0\r\n\r\n"
)


@pytest.mark.parametrize("name", SAME)
def test_a_request_is_answered_byte_for_byte_as_without_the_plugin(server: Server, name: str) -> None:
    if name == "models":
        server.admin("DELETE", "/adapterrelease/v1/models/bot")
    for left in reversed(range(TRIES)):
        with_it, without = (asked(port, SAME[name]).comparable(port) for port in (server.port, server.bare))
        if with_it == without or not left:
            break
    assert with_it == without


ALIASED = [
    "completion",
    "stream",
    "stream with usage",
    "several",
    "chat",
    "chat stream",
    "messages",
    "responses",
    "tokenize",
    "equal keys",
    "a byte order mark",
    "no prompt",
    "wrong value",
    "cut off",
    "too long",
    "six megabytes",
]


@pytest.mark.parametrize("name", ALIASED)
def test_an_alias_is_answered_as_the_engine_answers_for_its_model(server: Server, name: str) -> None:
    """The same request for NAME with the plugin, and for the engine's model without it."""

    def renamed(model: str) -> bytes:
        head, _, body = SAME[name].partition(b"\r\n\r\n")
        body = body.replace(b'"tiny"', b'"%s"' % model.encode())
        lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
        return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])

    for left in reversed(range(TRIES)):
        with_it, without = asked(server.port, renamed("bot")), asked(server.bare, renamed(V1))
        if name == "cut off":
            without = asked(server.bare, renamed("bot"))  # the error names the position
        line, headers, body = with_it.comparable(server.port)
        wanted_line, wanted_headers, wanted_body = without.comparable(server.bare)
        if body == wanted_body.replace(V1.encode(), b"bot") or not left:
            break
    assert (line, body) == (wanted_line, wanted_body.replace(V1.encode(), b"bot"))
    ours = {b"x-adapterrelease-version": b"v1", b"x-adapterrelease-backend": b"adapter"} if name != "cut off" else {}
    for key in (b"content-length",):
        headers, wanted_headers = ({k: v for k, v in it.items() if k != key} for it in (headers, wanted_headers))
    assert headers == {**wanted_headers, **ours}
    assert with_it.headers.get(b"content-length", b"%d" % len(with_it.body)) == b"%d" % len(with_it.body)


def test_a_stream_that_is_left_is_aborted_in_the_engine_and_counted(server: Server) -> None:
    before = server.metrics().get(CODE % 499, 0)
    connection = Connection(server.port)
    connection.send(generation("bot", stream=True, tokens=200))
    connection.head()
    connection.chunk()
    assert server.state["inFlight"] == {V1: 1}
    connection.close()
    until(lambda: server.state["inFlight"] == {})
    assert server.metrics()[CODE % 499] == before + 1


STREAMS = 6
CODE = 'adapterrelease_requests_total{backend="adapter",code="%d",release="bot",version="v1"}'


def test_a_running_stream_ends_on_the_weights_that_it_began_with(server: Server) -> None:
    alone = {name: asked(server.bare, generation(name, tokens=120)).json["choices"][0]["text"] for name in (V1,)}
    with Connection(server.port) as connection:
        connection.send(generation("bot", stream=True, tokens=120))
        connection.head()
        events = [connection.chunk()]
        server.declare("bot", V2, server.v2, "v2")
        flipped = asked(server.port, generation("bot"))
        assert flipped.headers[b"x-adapterrelease-version"] == b"v2" and flipped.json["model"] == "bot"
        assert server.state["inFlight"] == {V1: 1}
        events += iter(connection.chunk, b"")
    documents = [json.loads(event[6:]) for event in events if event != b"data: [DONE]\n\n"]
    assert {it["model"] for it in documents} == {"bot"} and events[-1] == b"data: [DONE]\n\n"
    assert "".join(it["choices"][0]["text"] for it in documents) == alone[V1]


def test_models_are_listed_by_their_names(server: Server) -> None:
    server.declare("bot", V2, server.v2, "v2")
    seen = asked(server.port, request("GET", "/v1/models")).json["data"]
    assert [(it["id"], it["root"]) for it in seen if it["id"] != "tiny"] == [("bot", server.v2)]
    every = asked(server.port, request("GET", "/v1/models", None, TOKEN)).json["data"]
    assert {it["id"] for it in every} == {"tiny", "bot", V1}


PATHS = (
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/adapters",
    "/adapters/bot",
    "/invocations",
    "/adapterrelease/v1/state",
)
BODY = b'{"lora_name":"bot@111111111111","lora_path":"/x","name":"x","src":"/x","model":"tiny","prompt":"x"}'


def _is_no_http(said: Said) -> bool:
    """uvicorn itself refused what was written, before it was a request."""
    return said.status == 400 and said.headers[b"content-type"].startswith(b"text/plain")


@pytest.mark.parametrize("path", PATHS)
def test_doors_are_closed_on_the_wire(server: Server, path: str) -> None:
    sagemaker = "X-Amzn-SageMaker-Adapter-Identifier: bot"
    for trick, written in ((name, trick(path)) for name, trick in TRICKS.items()):
        for method in ("POST", "GET", "HEAD", "OPTIONS", "DELETE"):
            for version in ("1.1", "1.0"):
                said = asked(server.port, request(method, written, BODY, sagemaker, version=version), method == "HEAD")
                assert said.status == 401 or _is_no_http(said), (trick, method, said)
        said = asked(server.port, request("POST", written, BODY, "X-Adapterrelease-Token: wrong"))
        assert said.status == 403 or _is_no_http(said), (trick, said)
    chunked = f"POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n1\r\n}}\r\n0\r\n\r\n"
    assert asked(server.port, chunked.encode()).status == 401
    upgrade = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    assert asked(server.port, request("GET", path, None, *upgrade)).status == 403
    assert V1 in {it["id"] for it in asked(server.bare, request("GET", "/v1/models")).json["data"]}


@pytest.mark.parametrize("path", [path for path in PATHS if "release" not in path])
def test_with_the_token_a_door_is_vllms(server: Server, path: str) -> None:
    load = {"lora_name": "nobody@1", "lora_path": "/x", "name": "nobody", "src": "/x"}
    body = json.dumps({**load, **GOOD}).encode()
    method = "DELETE" if path.endswith("/bot") else "POST"
    with_it, without = (
        asked(port, request(method, path, body, TOKEN)).comparable(port) for port in (server.port, server.bare)
    )
    assert with_it == without


def test_a_token_is_rotated_while_the_server_runs(server: Server) -> None:
    mounted(server.mount, {**plugin_files("new"), "previous-token": b"secret"})
    try:
        codes = {
            token: server.admin("GET", "/adapterrelease/v1/state", token=token).status_code
            for token in ("new", "secret", "older")
        }
        assert codes == {"new": 200, "secret": 200, "older": 403}
    finally:
        mounted(server.mount, plugin_files("secret"))
    assert server.admin("GET", "/adapterrelease/v1/state", token="new").status_code == 403


def test_a_departed_names_connections_end_with_their_answers(server: Server) -> None:
    with Connection(server.port) as running, Connection(server.port) as kept, Connection(server.port) as other:
        for connection, model in ((kept, "bot"), (other, "tiny")):
            connection.send(generation(model))
            assert b"connection" not in connection.answer().headers
        running.send(generation("bot", stream=True, tokens=120))
        assert b"connection" not in running.head().headers
        events = [running.chunk()]
        server.route("bot", False)
        kept.send(generation("bot"))  # it was idle: it is open, answers, and says that it closes
        said = kept.answer()
        assert (said.status, said.headers[b"connection"]) == (200, b"close") and kept.is_over()
        other.send(generation("tiny"))
        assert b"connection" not in other.answer().headers
        events += iter(running.chunk, b"")
        assert events[-1] == b"data: [DONE]\n\n" and running.is_over()
    assert server.state["models"]["bot"]["departedSeconds"] > 0


def test_a_departed_names_streams_end_together_with_their_connections(server: Server) -> None:
    """Else a client that asks again at once asks on a connection that is closed in that moment."""

    def end_and_close_are_one(connection: Connection) -> bool:
        said = b""
        while not said.endswith(b"\r\n0\r\n\r\n"):
            said += connection.socket.recv(1 << 16)
        with suppress(BlockingIOError):
            return connection.socket.recv(1, socket.MSG_DONTWAIT) == b""
        return False

    for _ in range(2):
        with ExitStack() as stack, ThreadPoolExecutor(STREAMS) as threads:
            streams = [stack.enter_context(Connection(server.port)) for _ in range(STREAMS)]
            for stream in streams:
                stream.send(generation("bot", stream=True, tokens=60))
            until(lambda: server.state["models"]["bot"]["inFlight"] == STREAMS)
            server.route("bot", False)
            assert all(threads.map(end_and_close_are_one, streams))
            server.route("bot", True)


def test_metrics_are_vllms_own_counts_and_vanish_with_the_name(server: Server) -> None:
    labels = '{backend="adapter",release="bot",version="v9"}'
    server.declare("bot", V2, server.v2, "v9")
    usage = asked(server.port, generation("bot", tokens=7)).json["usage"]
    asked(server.port, generation("bot", stream=True, tokens=9))
    metrics = server.metrics()
    assert metrics[f"adapterrelease_generation_tokens_total{labels}"] == 16
    assert metrics[f"adapterrelease_prompt_tokens_total{labels}"] == 2 * usage["prompt_tokens"]
    assert metrics[f"adapterrelease_time_to_first_token_seconds_count{labels}"] == 1
    assert metrics[f"adapterrelease_requests_in_flight{labels}"] == 0
    server.admin("DELETE", "/adapterrelease/v1/models/bot")
    assert not [name for name in server.metrics() if 'version="v9"' in name]
    assert not [name for name, value in metrics.items() if "plugin_errors_total" in name and value]
