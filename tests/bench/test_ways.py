"""The clients of bench/no_request_lost against a server that answers, ends and breaks off exactly as it is told."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest

from bench.no_request_lost.clients.ways import KeepAlive, New, Stream, _connection_of

QUESTION = {"id": "q", "messages": [{"role": "user", "content": "?"}], "tokens": 24}
CUT = object()
"""Part of a script: the connection ends here, without a word."""


class Server:
    """Each connection gets the next script: a list of answers, one for each request; CUT ends it."""

    def __init__(self) -> None:
        self.scripts: list[list[Any]] = []
        self.requests: list[list[bytes]] = []
        self._ended = threading.Condition()
        self._finished = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def until_ended(self, connections: int) -> None:
        with self._ended:
            assert self._ended.wait_for(lambda: self._finished >= connections, 10)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            seen: list[bytes] = []
            self.requests.append(seen)
            script = self.scripts.pop(0)
            threading.Thread(target=self._serve, args=(connection, script, seen), daemon=True).start()

    def _serve(self, connection: socket.socket, script: list[Any], seen: list[bytes]) -> None:
        with connection, connection.makefile("rb") as reader:
            for answer in script:
                if answer is CUT or not (request := _request(reader)):
                    break
                seen.append(request)
                connection.sendall(answer)
            connection.shutdown(socket.SHUT_RDWR)
        with self._ended:
            self._finished += 1
            self._ended.notify_all()


def _request(reader: Any) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = reader.readline()
        if not line:
            return b""
        head += line
    length = [int(x.split(b":")[1]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:")]
    return bytes(head + reader.read(length[0] if length else 0))


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def client(server: Server) -> Iterator[KeepAlive]:
    with closing(KeepAlive(server.url, "bot")) as made:
        yield made


@pytest.fixture
def stream(server: Server) -> Iterator[Stream]:
    with closing(Stream(server.url, "bot")) as made:
        yield made


TOLD = "x-adapterrelease-backend: 1111\r\nx-adapterrelease-version: v1\r\n"


def whole(text: str = "one", head: str = TOLD, status: str = "200 OK") -> bytes:
    body = json.dumps({"model": "bot", "choices": [{"message": {"content": text}}]})
    return f"HTTP/1.1 {status}\r\n{head}content-length: {len(body)}\r\n\r\n{body}".encode()


def models(root: str) -> bytes:
    body = json.dumps({"data": [{"id": "base", "root": "/base"}, {"id": "bot", "root": root}]})
    return f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()


def chunk(data: str) -> bytes:
    return f"{len(data):x}\r\n{data}\r\n".encode()


STREAM_HEAD = f"HTTP/1.1 200 OK\r\n{TOLD}transfer-encoding: chunked\r\n\r\n".encode()


def part(text: str) -> str:
    return f"data: {json.dumps({'model': 'bot', 'choices': [{'delta': {'content': text}}]})}\n\n"


DONE, LAST = "data: [DONE]\n\n", b"0\r\n\r\n"


def test_requests_share_one_connection(server: Server, client: KeepAlive) -> None:
    server.scripts = [[whole("one"), whole("two")]]
    first, second = client.ask(QUESTION), client.ask(QUESTION)
    assert (first["text"], second["text"]) == ("one", "two")
    assert first["conn"] == second["conn"]
    assert (first["version"], first["backend"], first["model"], first["status"]) == ("v1", "1111", "bot", 200)
    assert "cause" not in first and not first["closed"]


def test_a_close_that_is_announced_loses_nothing(server: Server, client: KeepAlive) -> None:
    server.scripts = [[whole(head=TOLD + "connection: close\r\n")], [whole("two")]]
    first, second = client.ask(QUESTION), client.ask(QUESTION)
    assert first["closed"] and "cause" not in first
    assert second["text"] == "two" and second["conn"] != first["conn"]


def test_a_connection_that_was_closed_while_idle_is_no_failure(server: Server, client: KeepAlive) -> None:
    server.scripts = [[whole(), CUT], [whole("two")]]
    client.ask(QUESTION)
    server.until_ended(1)
    assert client.ask(QUESTION)["text"] == "two"


def test_a_request_that_dies_is_a_failure_and_is_not_tried_again(server: Server, client: KeepAlive) -> None:
    server.scripts = [[b""], [whole("two")]]
    first = client.ask(QUESTION)
    assert first["cause"].startswith("died")
    assert len(server.requests) == 1
    assert client.ask(QUESTION)["text"] == "two"


def test_an_answer_that_is_cut_is_truncated(server: Server, client: KeepAlive) -> None:
    server.scripts = [[whole()[:-5]]]
    seen = client.ask(QUESTION)
    assert seen["cause"].startswith("died") and seen["truncated"]


def test_nobody_listens(server: Server) -> None:
    server.close()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        assert KeepAlive(url, "bot").ask(QUESTION)["cause"].startswith("connect")


def test_an_error_status_is_a_failure_that_keeps_the_connection(server: Server, client: KeepAlive) -> None:
    server.scripts = [[whole(status="404 Not Found"), whole("two")]]
    assert client.ask(QUESTION)["cause"].startswith("404")
    assert client.ask(QUESTION)["text"] == "two"


def test_each_request_on_a_connection_of_its_own_asks_for_its_end(server: Server) -> None:
    answer = whole(head=TOLD + "connection: close\r\n")
    server.scripts = [[answer], [answer]]
    with closing(New(server.url, "bot")) as client:
        assert client.ask(QUESTION)["conn"] != client.ask(QUESTION)["conn"]
    assert all(b"connection: close" in requests[0].lower() for requests in server.requests)


def test_where_no_header_tells_the_backend_the_root_is_asked_for_once_a_connection(
    server: Server, client: KeepAlive
) -> None:
    server.scripts = [[whole(head=""), models("/store/adapters/1"), whole("two", head="")]]
    assert [client.ask(QUESTION)["root"] for _ in range(2)] == ["/store/adapters/1"] * 2
    assert [r.split()[0] for r in server.requests[0]] == [b"POST", b"GET", b"POST"]


def test_trouble_with_the_root_fails_no_request(server: Server, client: KeepAlive) -> None:
    server.scripts = [[whole(head=""), b""], [whole("two")]]
    assert "cause" not in client.ask(QUESTION)
    assert client.ask(QUESTION)["text"] == "two"


def test_a_stream_is_read_to_its_end_and_its_connection_is_kept(server: Server, stream: Stream) -> None:
    whole_stream = STREAM_HEAD + chunk(part("one ")) + chunk(part("more") + DONE) + LAST
    server.scripts = [[whole_stream, whole_stream]]
    first, second = stream.ask(QUESTION), stream.ask(QUESTION)
    assert first["text"] == second["text"] == "one more"
    assert first["conn"] == second["conn"]
    assert "cause" not in first and first["first"] > 0
    assert json.loads(server.requests[0][0].split(b"\r\n\r\n")[1])["stream"] is True


def test_events_may_be_cut_anywhere_into_chunks(server: Server, stream: Stream) -> None:
    said = part("one") + DONE
    server.scripts = [[STREAM_HEAD + b"".join(chunk(c) for c in said) + LAST]]
    assert stream.ask(QUESTION)["text"] == "one"


@pytest.mark.parametrize(
    "ending",
    [
        LAST,  # whole, but without [DONE]
        b"",  # cut between two chunks
        b"5\r\nda",  # cut in a chunk
        chunk(DONE),  # [DONE], and then cut
        chunk(DONE) + b"0\r\n",  # cut before the last line
    ],
)
def test_a_stream_without_its_end_is_truncated(server: Server, stream: Stream, ending: bytes) -> None:
    server.scripts = [[STREAM_HEAD + chunk(part("one")) + ending, CUT]]
    seen = stream.ask(QUESTION)
    assert seen["truncated"] and seen["cause"]


def test_an_error_in_a_stream_is_a_failure_and_the_connection_goes_on(server: Server, stream: Stream) -> None:
    broken = f"data: {json.dumps({'error': {'message': 'ill'}})}\n\n"
    server.scripts = [[STREAM_HEAD + chunk(broken + DONE) + LAST, STREAM_HEAD + chunk(part("two") + DONE) + LAST]]
    first = stream.ask(QUESTION)
    assert first["cause"].startswith("error in the stream") and not first.get("truncated")
    assert stream.ask(QUESTION)["text"] == "two"


def test_an_answer_that_closed_its_connection_still_counts() -> None:
    class Closed:
        def get_extra_info(self, _: str) -> None:
            raise OSError(9, "Bad file descriptor")

    answer = SimpleNamespace(http_response=SimpleNamespace(extensions={"network_stream": Closed()}))
    assert _connection_of(answer) == ""


def test_how_late_a_request_on_a_kept_connection_was_is_said(server: Server, client: KeepAlive) -> None:
    server.scripts = [[whole(), b"", CUT], [b"", CUT]]
    client.ask(QUESTION)
    assert re.search(r"; written 0[.][0-9]{2} s after a look at the connection$", client.ask(QUESTION)["cause"])
    assert "written" not in client.ask(QUESTION)["cause"]  # a connection that was just made
