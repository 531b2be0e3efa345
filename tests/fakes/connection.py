"""The HTTP side of the fake API server: requests in, answers, streams and faults out."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.fakes import faults
from tests.fakes.etcd import Json, Refused

if TYPE_CHECKING:
    from tests.fakes.apiserver import ApiServer


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    body: Any = None
    content_type: str = ""
    token: str = ""

    @property
    def watch(self) -> bool:
        return self.query.get("watch") == "true"

    def matches(self, method: str | None, watch: bool | None, path: str) -> bool:
        if method not in (None, self.method) or watch not in (None, self.watch):
            return False
        return re.search(path, self.path) is not None


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: Any, api: ApiServer) -> None:
        self.api = api
        self.listening = True
        self._open: set[Any] = set()
        self._lock = threading.Lock()
        super().__init__(address, Connection)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="apiserver", daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        if not self.listening:
            return
        self.listening = False
        self.shutdown()
        self._thread.join()
        self.server_close()
        with self._lock:
            for sock in list(self._open):
                with suppress(OSError):
                    faults.reset(sock)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what the tests are about."""


class Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    @property
    def api(self) -> ApiServer:
        return self.server.api

    def _serve(self) -> None:
        self.request_read = self._read()
        fault = self.api.take(self.request_read) or Connection.answer_truly
        fault(self)

    def answer_truly(self) -> None:
        """What a faithful server does, for a fault that only delays."""
        try:
            self._answer(self.request_read)
        except Refused as refused:
            self.send_status(refused.code, refused.reason, refused.message, refused.details)

    # The names that http.server calls.
    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

    def _answer(self, request: Request) -> None:
        if request.watch:
            return self._stream(self.api.watch(request))
        return self.send_json(*self.api.answer(request))

    def _read(self) -> Request:
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        return Request(
            self.command,
            unquote(url.path),
            dict(parse_qsl(url.query)),
            json.loads(self.rfile.read(length)) if length else None,
            self.headers.get("Content-Type", ""),
            self.headers.get("Authorization", ""),
        )

    def _stream(self, events: Iterator[Json | None]) -> None:
        self.begin_stream()
        for event in events:
            if event is not None:
                self.send_chunk(json.dumps(event).encode() + b"\n")
        self.end_stream()

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send_chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def end_stream(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    def send_json(self, code: int, obj: Json) -> None:
        self.send_body(code, json.dumps(obj).encode(), "application/json")

    def send_status(
        self,
        code: int,
        reason: str,
        message: str,
        details: Json | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        body = json.dumps(status_body(code, reason, message, details)).encode()
        self.send_body(code, body, "application/json", headers)

    def send_body(self, code: int, body: bytes, content_type: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": content_type, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""


def status_body(code: int, reason: str, message: str, details: Json | None = None) -> Json:
    body: Json = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return body | {"message": message, "reason": reason, "details": details or {}, "code": code}
