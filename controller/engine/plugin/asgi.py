"""The words of ASGI: types, headers, whole answers. Must not know: models, vLLM."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]

LARGEST_ADMIN_BODY = 1 << 20


class TooLargeError(ValueError):
    """A body for the plugin itself that is over LARGEST_ADMIN_BODY bytes."""


def header(headers: Iterable[Header], name: bytes) -> bytes | None:
    """The first value of a header; `name` in lower case. Names of a request are in lower case already."""
    for key, value in headers:
        if key == name or key.lower() == name:
            return value
    return None


def media_type(headers: Iterable[Header]) -> bytes:
    return (header(headers, b"content-type") or b"").lower().split(b";", 1)[0].strip()


def with_length(headers: Iterable[Header], length: int) -> list[Header]:
    """The headers with Content-Length changed where there is one."""
    said = str(length).encode()
    return [(key, said if key.lower() == b"content-length" else value) for key, value in headers]


async def read_body(receive: Receive) -> bytes:
    """The whole body of a request to the plugin itself. Raises TooLargeError, ConnectionError if the client left."""
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client left before its request was whole")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)
        if size > LARGEST_ADMIN_BODY:
            raise TooLargeError(f"the body is over {LARGEST_ADMIN_BODY} bytes")
    return b"".join(parts)


async def answer(send: Send, status: int, document: object, headers: Iterable[Header] = ()) -> None:
    """One whole JSON answer. In ASCII: clients choose names of models, and half a surrogate has no UTF-8."""
    body = json.dumps(document, separators=(",", ":")).encode()
    first: list[Header] = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*first, *headers]})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def error(message: str) -> dict[str, Any]:
    return {"error": {"message": message}}
