"""How the fake API server misbehaves: each fault gets the open connection instead of the real answer."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fakes.connection import Connection, Request

Fault = Callable[["Connection"], None]


@dataclass
class Rule:
    """The fault hits requests of this method whose path matches and whose body has this text.

    All of them, or `times` of them, after the first `skip`.
    """

    fault: Fault
    method: str | None
    path: re.Pattern[str]
    body: str
    watch: bool | None
    times: int | None
    skip: int = 0

    def hits(self, request: Request) -> bool:
        if self.times == 0 or self.method not in (None, request.method):
            return False
        if self.watch not in (None, request.watch) or not self.path.search(request.path):
            return False
        if self.body not in str(request.body):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


def status(code: int, reason: str, message: str = "made by the test", retry_after: int | None = None) -> Fault:
    """An error answer with a real Status body."""

    def fault(connection: Connection) -> None:
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        connection.send_status(code, reason, message, headers=headers)

    return fault


def plain(code: int, text: str) -> Fault:
    """An error answer of a proxy: no JSON."""

    def fault(connection: Connection) -> None:
        connection.send_body(code, text.encode(), "text/plain")

    return fault


def hang(connection: Connection) -> None:
    """Take the request and never answer, until the server stops or is released."""
    connection.api.released.wait()
    connection.close_connection = True


def cut(connection: Connection) -> None:
    """Reset the connection without an answer."""
    reset(connection.connection)
    connection.close_connection = True


def half_open(connection: Connection) -> None:
    """A watch that begins and then says nothing, not even its end."""
    connection.begin_stream()
    hang(connection)


def close_at_once(connection: Connection) -> None:
    """A watch that ends in peace before it says anything."""
    connection.begin_stream()
    connection.end_stream()


def break_off(connection: Connection) -> None:
    """A watch whose connection breaks in the middle of an event."""
    connection.begin_stream()
    connection.wfile.write(b'80\r\n{"type":"ADDED","object":{"meta')
    connection.wfile.flush()
    cut(connection)


def error_event(code: int, reason: str) -> Fault:
    """A watch that begins well and then carries an ERROR event."""

    def fault(connection: Connection) -> None:
        connection.begin_stream()
        body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
        connection.send_chunk(json.dumps({"type": "ERROR", "object": body}).encode() + b"\n")
        connection.end_stream()

    return fault


def drip(connection: Connection) -> None:
    """An answer that never ends: one byte every 20 ms, so that no single read times out."""
    connection.send_response(200)
    connection.send_header("Content-Length", "1000000")
    connection.end_headers()
    while not connection.api.released.wait(0.02):
        connection.wfile.write(b" ")
        connection.wfile.flush()
    connection.close_connection = True


def reset(sock: socket.socket) -> None:
    """Close with RST instead of FIN, although files made of the socket are still open."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.shutdown(socket.SHUT_RD)  # wakes a thread that reads from it
    os.close(sock.detach())
