"""The answer to a declared model's request, in the client's words.

`"model":"TARGET"` becomes `"model":"NAME"`: sound on bytes, because quotes inside JSON strings are escaped and vLLM
writes JSON without spaces. Errors name NAME too. Pure: a step takes what is held back and the next message, and
gives back what to send and what to hold; so what an error interrupts can always be sent as it came.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

from .asgi import Header, Message, header, media_type, with_length

Held = tuple[Message, ...]
Step = tuple[Sequence[Message], Held]
_Way = Literal["as it is", "in pieces", "as a whole"]


class Answer:
    """How to say it. `target` None: the engine says NAME itself, nothing is replaced."""

    def __init__(self, name: str, target: str | None) -> None:
        self._name, self._target = name, target
        self._way: _Way = "as it is"
        self._old = self._new = b""

    def step(self, held: Held, message: Message, extra: Sequence[Header]) -> Step:
        """`extra`: headers to add, if this is the start."""
        kind = message["type"]
        if kind == "http.response.start":
            return self._start(message, extra)
        if kind != "http.response.body" or self._way == "as it is":
            return (*held, message), ()
        if self._way == "as a whole":
            return self._whole(held, message)
        return self._piece(held, message)

    def give_up(self) -> None:
        """After an error: the length that was sent is the one of the answer as it came."""
        if self._way == "as a whole":
            self._way = "as it is"

    def _start(self, message: Message, extra: Sequence[Header]) -> Step:
        headers = list(message.get("headers", ()))
        self._choose(message["status"], headers)
        said = {**message, "headers": [*headers, *extra]} if extra else message
        if self._way == "as a whole":
            return (), (said,)
        return (said,), ()

    def _choose(self, status: int, headers: list[Header]) -> None:
        kind = media_type(headers)
        if self._target is None or kind not in (b"application/json", b"text/event-stream"):
            return
        old, new = _inside_quotes(self._target), _inside_quotes(self._name)
        if status < 400:
            old, new = b'"model":"%s"' % old, b'"model":"%s"' % new
        self._old, self._new = old, new
        self._way = "in pieces" if header(headers, b"content-length") is None else "as a whole"

    def _whole(self, held: Held, message: Message) -> Step:
        """Its length is in the headers, so they wait for the end. vLLM sends such a body in one piece."""
        if message.get("more_body", False):
            return (), (*held, message)
        start, *parts = *held, message
        body = b"".join(part.get("body", b"") for part in parts)
        said = body.replace(self._old, self._new)
        if said is body or said == body:
            return (*held, message), ()
        return (
            {**start, "headers": with_length(start["headers"], len(said))},
            {"type": "http.response.body", "body": said, "more_body": False},
        ), ()

    def _piece(self, held: Held, message: Message) -> Step:
        """A name that is cut by the end of a piece waits for the next one; vLLM sends whole events, so none does."""
        body, more = message.get("body", b""), message.get("more_body", False)
        if held:
            body = held[0]["body"] + body
        *before, last = body.split(self._old)
        cut = _cut(last, self._old) if more and last[-1:] != b"\n" else 0
        if not (before or held or cut):
            return (message,), ()
        said = self._new.join((*before, last[: len(last) - cut]))
        kept: Held = ({"type": "http.response.body", "body": last[-cut:], "more_body": True},) if cut else ()
        return ({**message, "body": said},), kept


def _cut(body: bytes, name: bytes) -> int:
    """How many bytes at the end of the body are the beginning of the name."""
    first, at = name[:1], max(0, len(body) - len(name) + 1)
    while (at := body.find(first, at)) >= 0:
        if name.startswith(body[at:]):
            return len(body) - at
        at += 1
    return 0


def _inside_quotes(text: str) -> bytes:
    """As vLLM writes it into JSON: letters beyond ASCII stay."""
    return json.dumps(text, ensure_ascii=False)[1:-1].encode()
