"""Ways to ask a server: each holds the connection of one worker, asks one question, and says what came back.

Runs in a pod; standard library only, but for the openai client. Knows nothing of Kubernetes, releases or what is right:
an answer is what a client sees. Nothing is tried again here: a request that dies is a failure, and its cause is kept.
"""

import http.client
import json
import select
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import suppress

PATIENCE = 60  # seconds until an answer, or the next part of a stream, has to be there
VERSION, BACKEND = "x-adapterrelease-version", "x-adapterrelease-backend"


def body_of(model: str, question: dict, stream: bool) -> dict:
    """One chat completion; a long one goes on after the answer, to fill its tokens."""
    asked = {"model": model, "temperature": 0, "messages": question["messages"], "max_tokens": question["tokens"]}
    if question["tokens"] > question.get("answer_tokens", 24):
        asked["ignore_eos"] = True
    return asked | {"stream": True} if stream else asked


class Roots:
    """Where a server reads the model from, by connection: tells the backend where no header does."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._roots: dict = {}
        self._lock = threading.Lock()

    def learn(self, connection: str, cards: list) -> None:
        found = next((card.get("root") or "" for card in cards if card.get("id") == self._model), "")
        with self._lock:
            self._roots[connection] = found

    def forget(self, connection: str) -> None:
        with self._lock:
            self._roots.pop(connection, None)

    def of(self, connection: str) -> str:
        with self._lock:
            return self._roots.get(connection, "")

    def knows(self, connection: str) -> bool:
        with self._lock:
            return connection in self._roots


class KeepAlive:
    """Plain HTTP/1.1. A new connection only when the server said `Connection: close` or closed an idle one."""

    stream = False
    connection = "keep-alive"

    def __init__(self, url: str, model: str) -> None:
        host = urllib.parse.urlsplit(url)
        self._host, self._port = host.hostname or "", host.port or 80
        self._model = model
        self._roots = Roots(model)
        self._connection: http.client.HTTPConnection | None = None
        self._name = ""
        self._looked = self._written = 0.0  # when a kept connection was seen open, and when the request was out

    def ask(self, question: dict) -> dict:
        seen: dict = {}
        try:
            self._connect()
        except OSError as error:
            self.close()
            return {"cause": f"connect: {error!r}"}
        seen["conn"] = self._name
        try:
            self._exchange(question, seen)
        except Exception as error:
            self.close()
            seen["cause"] = f"died: {error!r}"[:200] + self._halt()
            seen["truncated"] = seen.get("status") == 200
        if "cause" not in seen and not seen["backend"]:
            self._look_at_root(seen)
        return seen

    def _connect(self) -> None:
        if self._connection is not None and self._connection.sock is not None:
            self._looked, self._written = time.monotonic(), 0.0
            if not select.select([self._connection.sock], [], [], 0)[0]:
                return
            self.close()  # closed while it was idle: any client sees that before it writes
        self._looked = 0.0
        self._connection = http.client.HTTPConnection(self._host, self._port, timeout=PATIENCE)
        self._connection.connect()
        self._name = str(self._connection.sock.getsockname()[1])
        self._roots.forget(self._name)

    def _halt(self) -> str:
        """How late the request was; a client whose processor stands still looks, and writes when it goes on."""
        if not self._looked:
            return ""
        return f"; written {(self._written or time.monotonic()) - self._looked:.2f} s after a look at the connection"

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _exchange(self, question: dict, seen: dict) -> None:
        assert self._connection is not None
        body = json.dumps(body_of(self._model, question, self.stream))
        headers = {"content-type": "application/json", "connection": self.connection}
        self._connection.request("POST", "/v1/chat/completions", body, headers)
        self._written = time.monotonic()
        response = self._connection.getresponse()
        seen["status"] = response.status
        seen["version"], seen["backend"] = response.getheader(VERSION, ""), response.getheader(BACKEND, "")
        seen["closed"] = response.will_close
        if response.status == 200:
            self._read(response, seen)
        else:
            seen["cause"] = f"{response.status}: {response.read()[:150]!r}"
        if response.will_close:
            self.close()

    def _read(self, response: http.client.HTTPResponse, seen: dict) -> None:
        answer = json.loads(response.read())
        seen["model"], seen["text"] = answer["model"], answer["choices"][0]["message"]["content"]

    def _look_at_root(self, seen: dict) -> None:
        """Once on each connection, and only where the server does not say who answers. Fails nobody's request."""
        if self._connection is not None and not self._roots.knows(self._name):
            try:
                self._connection.request("GET", "/v1/models")
                self._roots.learn(self._name, json.loads(self._connection.getresponse().read())["data"])
            except Exception:
                self.close()
        seen["root"] = self._roots.of(self._name)


class New(KeepAlive):
    """A connection for each request."""

    connection = "close"


class Stream(KeepAlive):
    """Server-sent events on a kept connection, read to `[DONE]` and to the end of the body."""

    stream = True

    def _read(self, response: http.client.HTTPResponse, seen: dict) -> None:
        text, done = [], False
        seen["text"] = ""
        for line in lines_of(response):
            if not line.startswith(b"data:"):
                continue
            said = line[5:].strip()
            if said == b"[DONE]":
                done = True
                continue
            seen.setdefault("first", time.time())
            event = json.loads(said)
            if "error" in event:
                seen["cause"] = f"error in the stream: {event['error']!r}"[:200]
                continue
            seen["model"] = event["model"]
            text += [choice["delta"].get("content") or "" for choice in event["choices"]]
            seen["text"] = "".join(text)
        if not done:
            seen.setdefault("cause", "the stream ended without [DONE]")
            seen["truncated"] = True


def lines_of(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Of a chunked body, as they come. http.client takes one that is cut between two chunks for one that has ended."""
    assert response.chunked and response.fp is not None, "a stream has no length"
    rest = b""
    while size := int(_whole(response.fp.readline()), 16):
        *lines, rest = (rest + response.fp.read(size)).split(b"\n")
        yield from lines
        _whole(response.fp.readline())
    while _whole(response.fp.readline()).strip():
        pass  # trailers
    response.close()
    yield rest


def _whole(line: bytes) -> bytes:
    if not line.endswith(b"\n"):
        raise ConnectionResetError("the connection ended amid a stream")
    return line


class Pool:
    """The openai client with its pool of connections, which all workers share."""

    def __init__(self, url: str, model: str, retries: int) -> None:
        import openai

        self._openai = openai
        self._model = model
        self._roots = Roots(model)
        self._client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=retries, timeout=PATIENCE)

    def ask(self, question: dict) -> dict:
        body = body_of(self._model, question, False)
        extra = {"ignore_eos": body.pop("ignore_eos")} if "ignore_eos" in body else None
        try:
            raw = self._client.chat.completions.with_raw_response.create(**body, extra_body=extra)
            seen = self._describe(raw)
            answer = raw.parse()
            seen |= {"model": answer.model, "text": answer.choices[0].message.content or ""}
        except self._openai.APIStatusError as error:
            seen = {"status": error.status_code, "cause": f"{error.status_code}: {error.message}"[:200]}
        except self._openai.APIConnectionError as error:
            why = error.__cause__ or error
            verb = "connect" if "Connect" in type(why).__name__ else "died"
            seen = {"cause": f"{verb}: {why!r}"[:200]}
        if "cause" not in seen and not seen["backend"]:
            self._look_at_root(seen)
        return seen

    def _describe(self, raw) -> dict:
        connection = _connection_of(raw)
        closed = raw.headers.get("connection", "").lower() == "close"
        told = {"version": raw.headers.get(VERSION, ""), "backend": raw.headers.get(BACKEND, "")}
        return {"status": 200, "conn": connection, "closed": closed, "retries": raw.retries_taken, **told}

    def _look_at_root(self, seen: dict) -> None:
        """The pool chooses the connection: what is learned may be about another one than the last answer's."""
        if not seen["closed"] and not self._roots.knows(seen["conn"]):
            with suppress(self._openai.OpenAIError):
                raw = self._client.models.with_raw_response.list()
                self._roots.learn(_connection_of(raw), [card.model_dump() for card in raw.parse().data])
        seen["root"] = self._roots.of(seen["conn"])


def _connection_of(raw) -> str:
    """The local port. httpx2 keeps the socket's stream with the answer; after `Connection: close` it is closed."""
    stream = raw.http_response.extensions.get("network_stream")
    with suppress(OSError):
        address = stream.get_extra_info("client_addr") if stream is not None else None
        return str(address[1]) if address else ""
    return ""


def way(name: str, url: str, model: str, workers: int) -> list:
    """One asker for each worker; those of a pool are the same one."""
    if name in ("openai", "openai-retries"):
        return [Pool(url, model, 0 if name == "openai" else 2)] * workers
    kinds = {"keepalive": KeepAlive, "new": New, "stream": Stream}
    return [kinds[name](url, model) for _ in range(workers)]
