"""The vLLM HTTP client: list, load, unload, probe, counters. Written against vLLM 0.32 (tests/fakes/vllm.py).

Never uses `load_inplace` (it switches weights in the middle of streams) and never follows redirects.
Must not know: what a release is, which pod a server runs in, when anything is to be loaded.
"""

from __future__ import annotations

from dataclasses import dataclass

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
from controller.engine.server import Server, cause_of, expect_ok, is_engine_error, json_of

_PROBE_PROMPT = "Hello"


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


class VllmClient:
    """One vLLM server. Raises the errors of `controller/engine/errors.py` only."""

    def __init__(self, server: Server, timeouts: Timeouts | None = None) -> None:
        self._server = server
        self._timeouts = timeouts or Timeouts()

    def models(self) -> dict[str, Model]:
        """Everything that /v1/models lists: the base under its served names, and the adapters."""
        response = self._server.ask("GET", "/v1/models", self._timeouts.ask)
        try:
            return {card["id"]: Model(card.get("root") or "", card.get("parent")) for card in json_of(response)["data"]}
        except (KeyError, TypeError, AttributeError) as error:
            raise EngineTroubled(f"{self._server.url}/v1/models is no list of models: {error!r}") from error

    def load(self, name: str, path: str) -> None:
        """Load the adapter at `path` under `name`; done when it is there already from that very path.

        Raises NameTaken (another path, or the name of the base model), AdapterNotVisible, LoadRejected with
        vLLM's own words. EngineTroubled and EngineUnreachable leave it open whether it was loaded.
        """
        body = {"lora_name": name, "lora_path": path}
        response = self._server.send("POST", "/v1/load_lora_adapter", self._timeouts.load, body)
        if response.status_code == 200:
            return
        cause = cause_of(response)
        if response.status_code == 400:
            self._accept_if_there_already(name, path, cause)
        elif response.status_code == 404 and is_engine_error(response):
            raise AdapterNotVisible(f"vLLM finds no adapter at {path}: {cause}")
        elif response.status_code >= 500 and is_engine_error(response) and self._is_healthy():
            raise LoadRejected(f"vLLM cannot load {path}: {cause}")
        else:
            expect_ok(response)

    def unload(self, name: str) -> None:
        """Forget `name`; the engine's slot stays taken until it is evicted. UnknownAdapter when not listed."""
        response = self._server.send("POST", "/v1/unload_lora_adapter", self._timeouts.load, {"lora_name": name})
        if response.status_code == 404 and is_engine_error(response):
            raise UnknownAdapter(f"{name} is not loaded: {cause_of(response)}")
        expect_ok(response)

    def probe(self, model: str) -> None:
        """One completion of one token. It proves that the model answers, not that it answers well: NaN weights
        give an empty text under a 200, and so may a good model; weights are checked at import."""
        body = {"model": model, "prompt": _PROBE_PROMPT, "max_tokens": 1, "temperature": 0}
        response = self._server.ask("POST", "/v1/completions", self._timeouts.probe, body)
        answer = json_of(response)
        if not isinstance(answer, dict) or not answer.get("choices"):
            raise EngineTroubled(f"{model} answered a probe without a choice: {response.text[:200]}")
        if answer.get("model") not in (None, model):
            raise EngineTroubled(f"a probe of {model} was answered by {answer['model']}")

    def counters(self) -> RequestCounters:
        """Completions answered since the server started, from its /metrics."""
        response = self._server.ask("GET", "/metrics", self._timeouts.ask)
        try:
            return read_counters(response.text)
        except ValueError as error:
            raise EngineTroubled(f"{self._server.url}/metrics is no Prometheus text: {error}") from error

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
            return self._server.send("GET", "/health", self._timeouts.ask).status_code == 200
        except EngineUnreachable:
            return False
