"""One client's request on its way to vLLM, and the answer on its way back.

Nothing in here may fail the request: what the plugin does stands inside `try`, what is the server's own (reading,
sending) outside. After an error the request goes on as it came, but for the alias, which is tried once more in the
plainest way; the answer goes on as it is.
"""

from __future__ import annotations

import hmac
import json
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from . import connection, usage
from .alias import Asked, asked_model, with_model
from .answers import Answer, Held, Step
from .asgi import Header, Message, Receive, Scope, Send, header, media_type, with_length
from .measured import BASE, Series
from .plugin import Plugin
from .state import Declaration

# What counts as a request in the metrics; other paths have answers, but generate nothing.
GENERATING = (
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/chat/completions/batch",
    "/v1/responses",
    "/v1/messages",
    "/cohere/v2/chat",
    "/v1/systemone",
    "/inference/v1/generate",
    "/v1/embeddings",
    "/v2/embed",
    "/pooling",
    "/classify",
    "/score",
    "/rerank",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/generative_scoring",
    "/invocations",
)
GUARDED = ("/v1", "/v2", "/inference", "/cohere")  # by vLLM's API key


class Exchange:
    """`scope`, `receive` and `send` are for vLLM. First `prepare`, then vLLM, then `end`."""

    def __init__(self, plugin: Plugin, scope: Scope, receive: Receive, send: Send) -> None:
        self._plugin, self.scope, self._receive, self._send = plugin, scope, receive, send
        self.unavailable: str | None = None  # the model that nobody can answer for now
        self._taken: deque[Message] = deque()  # read already, not yet given to vLLM
        self._held: Held = ()
        self._declared: Declaration | None = None
        self._engine_name: str | None = None
        self._answer: Answer | None = None
        self._series: Series | None = None
        self._kept: Any = None  # the connection of a stream, which did not say that it ends
        self._began = self._first = 0.0
        self._status = 0
        self._told = b""  # the piece of the answer that has the usage, where vLLM tells it nowhere else
        self._whole = self._left = self._streams = self._measured = self._tells = False

    async def prepare(self) -> None:
        try:
            self._began = self._plugin.clock()
            self.scope.setdefault("state", {})
            if self.scope["method"] == "POST":
                if self._may_name_a_model():
                    await self._read()
                    self._use_alias()
                self._register()
        except Exception as error:
            self._plugin.failures.report("request", error)
            await self._prepare_plainly()

    def _may_name_a_model(self) -> bool:
        """A body without the API key is not read: vLLM refuses such a request before it would."""
        headers: Sequence[Header] = self.scope["headers"]
        if media_type(headers) != b"application/json":
            return False
        keys, path = self._plugin.inside.keys, self.scope["path"]
        if not keys or not path.removeprefix(self.scope.get("root_path", "")).startswith(GUARDED):
            return True
        given = (header(headers, b"authorization") or b"").partition(b" ")[2]
        return any(hmac.compare_digest(given, key.encode()) for key in keys)

    async def _read(self) -> None:
        """The rest of the body, if there is more."""
        while not self._taken or self._taken[-1].get("more_body", False):
            self._taken.append(await self._receive())

    def _use_alias(self) -> None:
        if self._taken[-1]["type"] != "http.request":
            return  # the client left
        parts = [message.get("body", b"") for message in self._taken]
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        asked = asked_model(body)
        if asked is not None:
            self._engine_name = asked.model
            self._name(asked, body)
        elif len(parts) > 1:
            self._taken = deque((_whole_body(body),))

    def _name(self, asked: Asked, body: bytes) -> None:
        state = self._plugin.state
        if (missing := state.missing.get(asked.model)) is not None:
            self._declared, self.unavailable = missing.declared, asked.model
            return
        model = state.models.get(asked.model)
        declared = model.declared if model else None
        if declared is not None and declared.target is not None:
            body = with_model(body, asked, declared.target)
            self._commit(body, declared)
        else:
            self._taken, self._declared = deque((_whole_body(body),)), declared
            self._answer = Answer(declared.name, None) if declared else None

    def _commit(self, body: bytes, declared: Declaration) -> None:
        """The request as vLLM is to see it: all of it, or nothing."""
        scope = {**self.scope, "headers": with_length(self.scope["headers"], len(body))}
        self.scope, self._taken, self._declared, self._engine_name, self._answer = (
            scope,
            deque((_whole_body(body),)),
            declared,
            declared.engine_name,
            Answer(declared.name, declared.target),
        )

    async def _prepare_plainly(self) -> None:
        """Other code for the same thing, after an error: without the alias vLLM would not know the name."""
        with suppress(Exception):
            if self._answer is None and self.scope["method"] == "POST":
                await self._read()
                document = json.loads(b"".join(message.get("body", b"") for message in self._taken))
                declared = self._plugin.state.models[document["model"]].declared
                if declared.target is not None:
                    self._commit(json.dumps({**document, "model": declared.target}).encode(), declared)
        with suppress(Exception):
            self._register()

    def _register(self) -> None:
        """As running, from now to `end`."""
        declared = self._declared
        if self._engine_name is not None and self.unavailable is None:
            self._plugin.state.began(self, self._engine_name, declared.name if declared else None)
        path: str = self.scope["path"]
        if path.endswith(GENERATING):
            self._series = self._plugin.measured.series(declared.labels if declared else BASE)
            self._series.began(self)
            self._tells = path.endswith(usage.RESPONSES)

    async def receive(self) -> Message:
        message = self._taken.popleft() if self._taken else await self._receive()
        if not self._whole and message["type"] == "http.disconnect":
            self._left = True
        return message

    async def send(self, message: Message) -> None:
        try:
            out, held = self._outgoing(message)
            ending = self._hold_if_departed()
        except Exception as error:
            out, held, ending = (*self._held, message), (), None
            self._give_up(error)
        self._held = held
        for each in out:
            await self._send(each)
        if ending is not None:
            self._end(ending)

    def _outgoing(self, message: Message) -> Step:
        extra: Sequence[Header] = ()
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._streams = media_type(message.get("headers", ())) == b"text/event-stream"
            extra = self._headers(message.get("headers", ()))
        elif message["type"] == "http.response.body":
            piece = message.get("body", b"")
            if not self._first and self._streams and usage.is_of_the_model(piece):
                self._first = self._plugin.clock()
            if self._tells and usage.may_tell(piece):
                self._told = piece
            if not message.get("more_body", False):
                self._whole = True
        if self._answer is None:
            return (message,), ()
        return self._answer.step(self._held, message, extra)

    def _headers(self, headers: Sequence[Header]) -> Sequence[Header]:
        """For a declared model's answer. Its name may depart while a stream runs: who can't close its connection with
        its last bytes says from the start that it ends."""
        declared = self._declared
        if declared is None:
            return ()
        said = [
            (b"x-adapterrelease-version", declared.version.encode()),
            (b"x-adapterrelease-backend", declared.backend.encode()),
        ]
        streams = header(headers, b"content-length") is None
        self._kept = connection.under(self._receive) if streams else None
        if self._has_departed() or (streams and self._kept is None):
            self._kept = None
            said.append((b"connection", b"close"))
        return said

    def _has_departed(self) -> bool:
        """The route points elsewhere for the model that was asked."""
        model = self._plugin.state.models.get(self._declared.name) if self._declared else None
        return model is not None and not model.routed

    def _hold_if_departed(self) -> Any:
        """The connection that is to end with the answer whose last bytes are sent now."""
        try:
            if self._whole and self._kept is not None and self._has_departed() and connection.may_end(self._kept):
                connection.hold(self._kept)
                return self._kept
        except Exception as error:
            self._plugin.failures.report("close", error)
        return None

    def _end(self, ending: Any) -> None:
        try:
            connection.end(ending)
        except Exception as error:
            self._plugin.failures.report("close", error)

    def _give_up(self, error: Exception) -> None:
        self._plugin.failures.report("answer", error)
        if self._answer is not None:
            self._answer.give_up()

    def end(self) -> None:
        """Whatever happened. Said twice where it failed: nothing may count as running for ever."""
        for _ in range(2):
            try:
                self._deregister()
                break
            except Exception as error:
                self._plugin.failures.report("end", error)

    def _deregister(self) -> None:
        if self._engine_name is not None:
            declared = self._declared
            self._plugin.state.ended(self, self._engine_name, declared.name if declared else None)
        if self._series is not None:
            if not self._measured:
                self._measured = True
                self._measure(self._series)
            self._series.ended(self)

    def _measure(self, series: Series) -> None:
        now = self._plugin.clock()
        code = 499 if self._left else self._status or 500
        series.answered(code, now - self._began)
        prompt, generated = usage.told_by(self._told) if self._told else usage.left_in(self.scope)
        series.tokens(prompt, generated)
        if self._first:
            series.streamed(self._first - self._began, now - self._first, generated)


def _whole_body(body: bytes) -> Message:
    return {"type": "http.request", "body": body, "more_body": False}
