"""A vLLM server as it really behaves (0.32): real HTTP on loopback, its status codes, bodies and lies.

What it imitates: adapters that it cannot load (500 with the cause) and paths without one (404); a 200 above
--max-cpu-loras with a silent eviction; an evicted adapter whose directory is gone kills the engine; a restart forgets
everything; NaN weights answer with an empty text under a 200; runtime updating switched off has no such route; the
API key guards /v1 only. `disk` is what vLLM would find at a path: None is a good adapter, a text is why it fails.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.fakes.plugin import FakePlugin

NAN = "NaN weights"


class FakeVllm:
    """Use it as a context manager. `host` may be any address of 127.0.0.0/8, so that each pod has one."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        served: str = "tiny-llama",
        root: str = "/store/models/base",
        max_cpu_loras: int = 4,
        updating: bool = True,
        api_key: str | None = None,
        disk: Mapping[str, str | None] | None = None,
        plugin: FakePlugin | None = None,
    ) -> None:
        self.served, self.root = served, root
        self.max_cpu_loras = max_cpu_loras
        self.updating = updating
        self.api_key = api_key
        self.plugin = plugin
        self.disk: dict[str, str | None] = dict(disk or {})
        self.listed: dict[str, str] = {}
        self.evicted: set[str] = set()
        self.requests: list[tuple[str, Any]] = []
        self.fault: str | None = None  # hang, garbage, 500, or lazy: says 200 to a load and does nothing
        self.released = threading.Event()  # ends hung requests
        self.alive = True
        self._cached: OrderedDict[str, str] = OrderedDict()
        self._answered: Counter[tuple[str, str]] = Counter()
        self._latency = 0.0
        self._lock = threading.Lock()
        self._server = _Server((host, port), self._handler())
        self.host, self.port = str(self._server.server_address[0]), int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def __enter__(self) -> FakeVllm:
        threading.Thread(target=lambda: self._server.serve_forever(0.01), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def restart(self, annotations: Mapping[str, str] | None = None) -> None:
        """The container died: adapters and counters are gone. The plugin reads the pod's annotations."""
        self.listed.clear()
        if self.plugin is not None:
            self.listed.update(self.plugin.restored(annotations or {}))
        self._cached.clear()
        self.evicted.clear()
        self._answered.clear()
        self._latency, self.alive = 0.0, True

    def count(self, path: str) -> int:
        return sum(1 for asked, _ in self.requests if asked == path)

    def serve(self, requests: int, errors: int = 0, latency: float = 0.1) -> None:
        """Traffic of clients, for the counters."""
        self._answered["/v1/chat/completions", "2xx"] += requests - errors
        self._answered["/v1/chat/completions", "5xx"] += errors
        self._latency += latency * (requests - errors)

    # -- answers
    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        routes = {
            ("GET", "/v1/models"): self._models,
            ("GET", "/health"): lambda _: (200, "") if self.alive else (503, ""),
            ("GET", "/metrics"): lambda _: (200, self._metrics()),
            ("POST", "/v1/completions"): self._complete,
            ("POST", "/v1/chat/completions"): self._complete,
        }
        if self.updating:
            routes[("POST", "/v1/load_lora_adapter")] = self._load
            routes[("POST", "/v1/unload_lora_adapter")] = self._unload
        route = routes.get((method, path))
        if route is None:
            return 404, {"detail": "Not Found"}
        with self._lock:
            code, answer = route(body)
            if path.endswith("completions"):
                self._answered[path, f"{code // 100}xx"] += 1
        return code, answer

    def behind_the_plugin(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> tuple[int, Any]:
        """As `answer`, where there is none."""
        plugin = self.plugin
        if plugin is None:
            return self.answer(method, path, body)
        if refusal := plugin.refusal(path, headers):
            return refusal
        if own := plugin.answer(method, path, body, self.listed):
            return own
        code, answer = self.answer(method, path, body)
        if path == "/v1/models":
            answer["data"] = self._cards(plugin.shown(self.listed, headers))
        return code, answer

    def _models(self, _: Any) -> tuple[int, Any]:
        return 200, {"object": "list", "data": self._cards(self.listed)}

    def _cards(self, adapters: Mapping[str, str]) -> list[dict[str, Any]]:
        cards = [_card(self.served, self.root, None, 256)]
        return cards + [_card(name, path, self.served, None) for name, path in adapters.items()]

    def _load(self, body: Any) -> tuple[int, Any]:
        name, path = body["lora_name"], body["lora_path"]
        if name == self.served:
            text = f"The lora adapter '{name}' conflicts with a served base model."
            return _error(400, "InvalidUserInput", text)
        if name in self.listed:
            text = (
                f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, "
                "set 'load_inplace' to True."
            )
            return _error(400, "InvalidUserInput", text)
        if not self.alive:
            return _error(500, "InternalServerError", "EngineCore encountered an issue. See stack trace (above).")
        if path not in self.disk:
            return _error(404, "NotFoundError", f"Loading lora {name} failed: No adapter found for {path}")
        cause = self.disk[path]
        if cause not in (None, NAN):
            return _error(500, "InternalServerError", str(cause))
        if self.fault != "lazy":
            self.listed[name] = path
            self._cache(name, path)
        return 200, f"Success: LoRA adapter '{name}' added successfully."

    def _cache(self, name: str, path: str) -> None:
        self._cached[name] = path
        self._cached.move_to_end(name)
        while len(self._cached) > self.max_cpu_loras:
            self.evicted.add(self._cached.popitem(last=False)[0])

    def _unload(self, body: Any) -> tuple[int, Any]:
        name = body["lora_name"]
        if name not in self.listed:
            return _error(404, "NotFoundError", f"The lora adapter '{name}' cannot be found.")
        del self.listed[name]  # the engine's slot stays taken: _cached is left as it is
        return 200, f"Success: LoRA adapter '{name}' removed successfully."

    def _complete(self, body: Any) -> tuple[int, Any]:
        name = body["model"]
        asked, name = name, self.plugin.engine_name(name) if self.plugin else name
        if name != self.served and name not in self.listed:
            return _error(404, "NotFoundError", f"The model `{name}` does not exist.", "model")
        if name in self.listed and name not in self._cached:  # read again from disk inside an engine step
            self.alive = self.alive and self.listed[name] in self.disk
            self._cache(name, self.listed[name])
        if not self.alive:
            return _error(500, "InternalServerError", "EngineCore encountered an issue. See stack trace (above).")
        self._latency += 0.05
        poisoned = any(self.disk.get(path) == NAN for path in self.listed.values())
        text = "" if poisoned else " queue"
        choice = {"index": 0, "text": text, "finish_reason": "length"}
        return 200, {"id": "cmpl-1", "object": "text_completion", "model": asked, "choices": [choice]}

    def _metrics(self) -> str:
        lines = [
            "# HELP http_requests_total Total number of requests by method, status and handler.",
            "# TYPE http_requests_total counter",
            'http_requests_total{handler="/v1/models",method="GET",status="2xx"} 7.0',
        ]
        for (path, status), count in self._answered.items():
            lines.append(f'http_requests_total{{handler="{path}",method="POST",status="{status}"}} {count}.0')
        finished = sum(count for (_, status), count in self._answered.items() if status == "2xx")
        labels = f'{{engine="0",model_name="{self.served}"}}'
        lines += [
            "# HELP vllm:e2e_request_latency_seconds Histogram of e2e request latency in seconds.",
            "# TYPE vllm:e2e_request_latency_seconds histogram",
            f'vllm:e2e_request_latency_seconds_bucket{{engine="0",le="+Inf",model_name="{self.served}"}} {finished}.0',
            f"vllm:e2e_request_latency_seconds_count{labels} {finished}.0",
            f"vllm:e2e_request_latency_seconds_sum{labels} {self._latency}",
        ]
        return "\n".join(lines) + "\n"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            wbufsize = -1  # one packet for head and body, else each answer waits 40 ms for an acknowledgement

            def do_GET(self) -> None:
                self._respond(None)

            def do_POST(self) -> None:
                self._respond(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def do_PUT(self) -> None:
                self.do_POST()

            def do_DELETE(self) -> None:
                self._respond(None)

            def _respond(self, body: Any) -> None:
                fake.requests.append((self.path, body))
                code, answer = self._outcome(body)
                data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
                self.send_response(code)
                kind = "text/plain; charset=utf-8" if isinstance(answer, str) else "application/json"
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def _outcome(self, body: Any) -> tuple[int, Any]:
                if fake.fault == "hang":
                    fake.released.wait()
                if fake.fault == "garbage":
                    return 200, "<html>"
                if fake.fault == "500":
                    return 500, "Internal Server Error"
                given = self.headers.get("Authorization")
                if fake.api_key and self.path.startswith("/v1") and given != f"Bearer {fake.api_key}":
                    return 401, {"error": "Unauthorized"}
                return fake.behind_the_plugin(self.command, self.path, body, self.headers)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that has given up is what the tests are about."""


def _card(name: str, root: str, parent: str | None, length: int | None) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": 1767225600,
        "owned_by": "vllm",
        "root": root,
        "parent": parent,
        "max_model_len": length,
        "permission": [],
    }


def _error(code: int, kind: str, message: str, param: str | None = None) -> tuple[int, Any]:
    return code, {"error": {"message": message, "type": kind, "param": param, "code": code}}
