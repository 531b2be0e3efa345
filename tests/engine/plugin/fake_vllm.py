"""vLLM 0.32 as an ASGI app: its codes, bodies and events, without an engine (the real one: test_real_vllm.py).

What a request gets depends on its adapter's path alone, so a test sees which weights answered. A stream waits at
`gate` before each event after the first, if a test has closed it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

RESPONSES = "/v1/responses"
POSTS = (
    *("/v1/completions", "/v1/chat/completions", RESPONSES, "/tokenize"),
    *("/v1/load_lora_adapter", "/v1/unload_lora_adapter"),
)
DOORS = ("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/adapters", "/invocations")
WORDS = 4


class FakeVllm:
    def __init__(self, *, api_keys: tuple[str, ...] = (), loadable: tuple[str, ...] = ()) -> None:
        self.state = SimpleNamespace(args=SimpleNamespace(api_key=list(api_keys) or None, api_server_count=1))
        self.loadable = set(loadable)
        self.adapters: dict[str, str] = {}
        self.seen: list[tuple[str, bytes]] = []  # path and body, as they arrived
        self.scopes: list[dict[str, Any]] = []
        self.began: asyncio.Queue[str] = asyncio.Queue()  # models that requests have begun for
        self.arrived: asyncio.Queue[str] = asyncio.Queue()  # paths of bodies that were read
        self.loading = asyncio.Event()  # closed: loading takes for ever
        self.loading.set()
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
        else:
            await self._http(scope, receive, send)

    async def _http(self, scope: Any, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        headers = dict(scope["headers"])
        keys = [b"Bearer " + key.encode() for key in self.state.args.api_key or ()]
        if keys and path.startswith("/v1") and headers.get(b"authorization") not in keys:
            return await _json(send, 401, {"error": "Unauthorized"})
        if method == "GET":
            return await self._get(path, send)
        if path not in (*POSTS, *DOORS):
            return await _json(send, 404, {"detail": "Not Found"})
        if method != "POST":
            return await _json(send, 405, {"detail": "Method Not Allowed"})
        body = await _body(receive)
        self.seen.append((path, body))
        self.arrived.put_nowait(path)
        if headers.get(b"content-type", b"").lower().split(b";")[0] != b"application/json":
            said = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
            return await _error(send, 400, said, "Bad Request")
        try:
            document = json.loads(body)
        except ValueError as error:
            position = getattr(error, "pos", 0)
            return await _error(send, 400, f"JSON decode error at {position}", "Bad Request", f"body.{position}")
        if not isinstance(document, dict) or not isinstance(document.get("model"), str | None):
            return await _error(send, 400, "Input should be a valid dictionary", "Bad Request", "body")
        if "lora_adapter" in path:
            return await self._lora(path, document, send)
        return await self._generate(path, document, scope, receive, send)

    async def _get(self, path: str, send: Send) -> None:
        if path == "/v1/models":
            await _json(send, 200, {"object": "list", "data": [_card("tiny", "/base", None), *self._cards()]})
        elif path in ("/health", "/metrics"):
            await _answer(send, 200, [(b"content-length", b"0")], b"")
        else:
            await _json(send, 404, {"detail": "Not Found"})

    def _cards(self) -> list[Message]:
        return [_card(name, root, "tiny") for name, root in self.adapters.items()]

    async def _lora(self, path: str, document: Message, send: Send) -> None:
        name = document["lora_name"]
        if path.endswith("/unload_lora_adapter"):
            if self.adapters.pop(name, None) is None:
                return await _error(send, 404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
            return await _text(send, f"Success: LoRA adapter '{name}' removed successfully.")
        await self.loading.wait()
        if name in self.adapters:
            return await _error(send, 400, f"The lora adapter '{name}' has already been loaded.", "InvalidUserInput")
        if document["lora_path"] not in self.loadable:
            said = f"Loading lora {name} failed: No adapter found for {document['lora_path']}"
            return await _error(send, 404, said, "NotFoundError")
        self.adapters[name] = document["lora_path"]
        return await _text(send, f"Success: LoRA adapter '{name}' added successfully.")

    async def _generate(self, path: str, document: Message, scope: Any, receive: Receive, send: Send) -> None:
        model = document.get("model") or "tiny"
        weights = {"tiny": "/base", **self.adapters}.get(model)
        if weights is None:
            said = f"The model `{model}` does not exist. Valid aliases: tiny."
            return await _error(send, 404, said, "NotFoundError", "model")
        if path == RESPONSES:
            return await self._respond(document, model, weights, send)
        usage = SimpleNamespace(prompt_tokens=3, completion_tokens=WORDS)
        metadata = scope["state"]["request_metadata"] = SimpleNamespace(final_usage_info=None)
        self.began.put_nowait(model)
        leaving = asyncio.create_task(_disconnected(receive))
        if not document.get("stream"):
            if not await self._opened(leaving):
                return await _json(send, 200, None)
            metadata.final_usage_info = usage
            text = f'{weights} said "model":"{model}"'
            return await _json(send, 200, {**_head(model), "choices": [{"index": 0, "text": text}]})
        await send(_start(200, [(b"content-type", b"text/event-stream; charset=utf-8")]))
        try:
            for number in range(WORDS):
                last = number == WORDS - 1
                event = {**_head(model), "choices": [{"index": 0, "text": f"{weights} {number}"}]}
                if last:
                    event["system_fingerprint"] = "vllm-0.32.0"
                await send(_part(b"data: " + _dumps(event) + b"\n\n", True))
                if not await self._opened(leaving):
                    return None
            metadata.final_usage_info = usage
            await send(_part(b"data: [DONE]\n\n", True))
            return await send(_part(b"", False))
        finally:
            leaving.cancel()

    async def _respond(self, document: Message, model: str, weights: str, send: Send) -> None:
        """Two events before there is a token; the usage in the answer, and nowhere else."""
        usage = {"input_tokens": 3, "output_tokens": WORDS}
        done = {"id": "resp_1", "model": model, "output": [{"text": weights}], "usage": usage}
        if not document.get("stream"):
            return await _json(send, 200, done)
        await send(_start(200, [(b"content-type", b"text/event-stream; charset=utf-8")]))
        for kind in ("response.created", "response.in_progress"):
            await send(_event(kind, {"response": {**done, "output": [], "usage": None}}))
        await self.gate.wait()
        for number in range(WORDS):
            await send(_event("response.output_text.delta", {"delta": f"{weights} {number}"}))
        await send(_event("response.completed", {"response": done}))
        return await send(_part(b"", False))

    async def _opened(self, leaving: asyncio.Task[None]) -> bool:
        """The gate is open; False: the client left before."""
        gate = asyncio.create_task(self.gate.wait())
        await asyncio.wait((gate, leaving), return_when=asyncio.FIRST_COMPLETED)
        gate.cancel()
        return self.gate.is_set()


def _event(kind: str, document: Message) -> Message:
    return _part(b"event: %s\ndata: %s\n\n" % (kind.encode(), _dumps({**document, "type": kind})), True)


def _head(model: str) -> Message:
    return {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": model}


def _card(name: str, root: str, parent: str | None) -> Message:
    return {"id": name, "object": "model", "owned_by": "vllm", "root": root, "parent": parent, "max_model_len": 256}


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("ClientDisconnect")
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


def _dumps(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _start(status: int, headers: list[tuple[bytes, bytes]]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": [*headers, (b"vary", b"Origin")]}


def _part(body: bytes, more: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def _answer(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send(_start(status, headers))
    await send({"type": "http.response.body", "body": body})


async def _json(send: Send, status: int, document: object) -> None:
    body = _dumps(document)
    await _answer(send, status, [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")], body)


async def _text(send: Send, text: str) -> None:
    await _answer(send, 200, [(b"content-length", b"%d" % len(text.encode()))], text.encode())


async def _error(send: Send, status: int, message: str, kind: str, param: str | None = None) -> None:
    await _json(send, status, {"error": {"message": message, "type": kind, "param": param, "code": status}})


async def _lifespan(receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "lifespan.startup"
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    await send({"type": "lifespan.shutdown.complete"})
