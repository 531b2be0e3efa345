"""The vLLM HTTP client: list, load, unload, probe, counters. Written against vLLM 0.32 (tests/fakes/vllm.py).

Never uses `load_inplace` (it switches weights in the middle of streams) and never follows redirects.
Must not know: what a release is, which pod a server runs in, when anything is to be loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from controller.engine.errors import (
    AdapterNotVisible,
    EngineRefused,
    EngineTroubled,
    EngineUnreachable,
    LoadRejected,
    NameTaken,
    UnknownAdapter,
)
from controller.engine.metrics import RequestCounters, read_counters

_PROBE_PROMPT = "Hello"
_LONGEST_CAUSE = 600  # characters of vLLM's own words that are kept: they go into status


@dataclass(frozen=True)
class Model:
    """An entry of /v1/models. An adapter has a parent; `root` is the path that it was loaded from."""

    root: str
    parent: str | None


@dataclass(frozen=True)
class Timeouts:
    """Seconds to wait for an answer, by request."""

    ask: float = 2.0
    load: float = 60.0
    probe: float = 30.0


def new_http() -> httpx.Client:
    """What all servers are asked with. Every request opens a connection of its own: a kept one may lead to a
    pod that has left the Service, or may have been closed by the server a moment ago."""
    return httpx.Client(trust_env=False, follow_redirects=False, limits=httpx.Limits(max_keepalive_connections=0))


class VllmClient:
    """One vLLM server at `base_url` (no /v1). Raises the errors of `controller/engine/errors.py` only."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        http: httpx.Client,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = http
        self._timeouts = timeouts or Timeouts()

    def models(self) -> dict[str, Model]:
        """Everything that /v1/models lists: the base under its served names, and the adapters."""
        response = self._expect_ok(self._send("GET", "/v1/models", self._timeouts.ask))
        try:
            return {card["id"]: Model(card.get("root") or "", card.get("parent")) for card in _json(response)["data"]}
        except (KeyError, TypeError, AttributeError) as error:
            raise EngineTroubled(f"{self._base_url}/v1/models is no list of models: {error!r}") from error

    def load(self, name: str, path: str) -> None:
        """Load the adapter at `path` under `name`; done when it is there already from that very path.

        Raises NameTaken (another path, or the name of the base model), AdapterNotVisible, LoadRejected with
        vLLM's own words. EngineTroubled and EngineUnreachable leave it open whether it was loaded.
        """
        body = {"lora_name": name, "lora_path": path}
        response = self._send("POST", "/v1/load_lora_adapter", self._timeouts.load, body)
        if response.status_code == 200:
            return
        cause = _cause(response)
        if response.status_code == 400:
            self._accept_if_there_already(name, path, cause)
        elif response.status_code == 404 and _is_engine_error(response):
            raise AdapterNotVisible(f"vLLM finds no adapter at {path}: {cause}")
        elif response.status_code >= 500 and _is_engine_error(response) and self._is_healthy():
            raise LoadRejected(f"vLLM cannot load {path}: {cause}")
        else:
            self._expect_ok(response)

    def unload(self, name: str) -> None:
        """Forget `name`; the engine's slot stays taken until it is evicted. UnknownAdapter when not listed."""
        response = self._send("POST", "/v1/unload_lora_adapter", self._timeouts.load, {"lora_name": name})
        if response.status_code == 404 and _is_engine_error(response):
            raise UnknownAdapter(f"{name} is not loaded: {_cause(response)}")
        self._expect_ok(response)

    def probe(self, model: str) -> None:
        """One completion of one token. It proves that the model answers, not that it answers well: NaN weights
        give an empty text under a 200, and so may a good model; weights are checked at import."""
        body = {"model": model, "prompt": _PROBE_PROMPT, "max_tokens": 1, "temperature": 0}
        response = self._expect_ok(self._send("POST", "/v1/completions", self._timeouts.probe, body))
        answer = _json(response)
        if not isinstance(answer, dict) or not answer.get("choices"):
            raise EngineTroubled(f"{model} answered a probe without a choice: {response.text[:200]}")
        if answer.get("model") not in (None, model):
            raise EngineTroubled(f"a probe of {model} was answered by {answer['model']}")

    def counters(self) -> RequestCounters:
        """Completions answered since the server started, from its /metrics."""
        response = self._expect_ok(self._send("GET", "/metrics", self._timeouts.ask))
        try:
            return read_counters(response.text)
        except ValueError as error:
            raise EngineTroubled(f"{self._base_url}/metrics is no Prometheus text: {error}") from error

    def _accept_if_there_already(self, name: str, path: str, cause: str) -> None:
        listed = self.models().get(name)
        if listed is None:
            raise EngineRefused(f"vLLM refused to load {path} as {name}: {cause}")
        if listed.parent is None:
            raise NameTaken(f"{name} is the name of the base model itself: choose another modelName")
        if listed.root != path:
            raise NameTaken(f"{name} is loaded from {listed.root}, not from {path}")

    def _is_healthy(self) -> bool:
        """Whether the engine lives: that tells a refused adapter from a dying engine better than any text."""
        try:
            return self._send("GET", "/health", self._timeouts.ask).status_code == 200
        except EngineUnreachable:
            return False

    def _send(self, method: str, path: str, timeout: float, body: Mapping[str, Any] | None = None) -> httpx.Response:
        url = self._base_url + path
        try:
            return self._http.request(method, url, json=body, headers=self._headers, timeout=timeout)
        except httpx.TimeoutException as error:
            raise EngineUnreachable(f"{method} {url}: no answer within {timeout:g} s", reason="Timeout") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise EngineUnreachable(f"{method} {url}: {error}") from error

    def _expect_ok(self, response: httpx.Response) -> httpx.Response:
        if response.status_code == 200:
            return response
        request = response.request
        text = f"{request.method} {request.url} answered {response.status_code}: {_cause(response)}"
        if response.status_code >= 500 or response.status_code in (408, 429):
            raise EngineTroubled(text)
        if response.status_code in (401, 403):
            raise EngineRefused(text, reason="ApiKeyRefused")
        raise EngineRefused(text)


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise EngineTroubled(f"{response.request.url} answered no JSON: {response.text[:200]}") from error


def _is_engine_error(response: httpx.Response) -> bool:
    """Whether vLLM itself decided: `{"error": {"message", "type", "code"}}`. A route that does not exist
    (runtime updating not allowed) answers `{"detail": "Not Found"}`, a proxy answers anything."""
    try:
        answer = response.json()
    except ValueError:
        return False
    return isinstance(answer, dict) and isinstance(answer.get("error"), dict)


def _cause(response: httpx.Response) -> str:
    if _is_engine_error(response):
        return str(response.json()["error"].get("message", ""))[:_LONGEST_CAUSE]
    return response.text[:_LONGEST_CAUSE]
