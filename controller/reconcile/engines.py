"""Access to the vLLM servers of a base and of merged models: addresses, API keys and tokens, many at once."""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from datetime import datetime
from typing import Any, Protocol, TypeVar

import httpx

from controller.domain.snapshot import BaseFacts, PodFacts
from controller.engine.metrics import RequestCounters
from controller.engine.plugin_client import Alias, PluginClient, PluginState
from controller.engine.server import Server
from controller.engine.vllm import Model, Timeouts, VllmClient
from controller.errors import AdapterReleaseError, Forbidden, NotFound, PermanentError, TransientError
from controller.reconcile.base import plain_api_key
from controller.reconcile.objects.engine import ENGINE_NAME, TOKEN_KEY
from controller.reconcile.pods import parse_time
from controller.runtime import logs
from controller.runtime.client import KubeClient
from controller.runtime.resources import Resource

log = logging.getLogger(__name__)

SECRETS = Resource("", "v1", "secrets", "Secret")
_KEPT = 60.0  # seconds

T = TypeVar("T")


class Engine(Protocol):
    """What `VllmClient` offers."""

    def models(self) -> Mapping[str, Model]: ...
    def load(self, name: str, path: str) -> None: ...
    def unload(self, name: str) -> None: ...
    def probe(self, model: str) -> None: ...
    def counters(self) -> RequestCounters: ...


class Plugin(Protocol):
    """What `PluginClient` offers."""

    def state(self) -> PluginState | None: ...
    def set_alias(self, name: str, alias: Alias) -> None: ...
    def clear_alias(self, name: str) -> None: ...
    def tell_routed(self, name: str, routed: bool) -> None: ...


class ApiKeyNotReadable(PermanentError):  # noqa: N818 - the reason that users read
    default_reason = "ApiKeyNotReadable"


class Secrets:
    """Values of Secrets, read when they are needed, kept for a minute, hidden from the log."""

    def __init__(self, client: KubeClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], tuple[float, Mapping[str, str]]] = {}
        self._tokens_changed: dict[str, datetime] = {}

    def key_of(self, namespace: str, base: BaseFacts) -> str | None:
        """vLLM's API key. None: it asks for none. ApiKeyNotReadable when RBAC, the Secret or its key is missing."""
        if base.api_key_secret is None:
            return plain_api_key(base)
        name, key = base.api_key_secret
        try:
            found = self._values(namespace, name)
        except PermanentError as error:
            raise ApiKeyNotReadable(
                f"the controller cannot read the API key of vLLM from Secret {name}: {error.message}; "
                f"allow its service account to get this Secret by a Role in namespace {namespace}"
            ) from error
        if not _fits_a_header(found.get(key, "")):
            raise ApiKeyNotReadable(f"Secret {name} has no usable key {key} for the API key of vLLM")
        return found[key]

    def plugin_tokens(self, namespace: str) -> list[str]:
        """The tokens of the engine plugin, the newest first; none where the Secret cannot be read."""
        try:
            found = self._values(namespace, ENGINE_NAME)
        except (NotFound, Forbidden):
            return []
        return [found[key] for key in ("token", "previous-token") if _fits_a_header(found.get(key, ""))]

    def token_changed_at(self, namespace: str) -> datetime | None:
        """When the plugins' token was last changed, as far as this process has read it. Asks nobody."""
        with self._lock:
            return self._tokens_changed.get(namespace)

    def _values(self, namespace: str, name: str) -> Mapping[str, str]:
        place = (namespace, name)
        with self._lock:
            read_at, values = self._known.get(place, (float("-inf"), {}))
        if self._clock() < read_at + _KEPT:
            return values
        try:
            secret = self._client.get(SECRETS.path(namespace, name))
        except TransientError:
            if values:  # an API server that is away for a moment has not changed it
                return values
            raise
        data = secret.get("data") or {}
        values = {key: text for key, value in data.items() if (text := _decoded(value))}
        for text in values.values():
            logs.hide(text)
        with self._lock:
            self._known[place] = (self._clock(), values)
            if name == ENGINE_NAME and (changed := changed_at(secret, TOKEN_KEY)) is not None:
                self._tokens_changed[namespace] = changed
        return values


def changed_at(secret: Mapping[str, Any], key: str) -> datetime | None:
    """When the key of the Secret last got a value, by the API server's notes of who wrote what; without such a note
    when the Secret was made."""
    meta = secret.get("metadata") or {}
    written = [((w.get("fieldsV1") or {}).get("f:data") or {}, w) for w in meta.get("managedFields") or ()]
    writes = [w for fields, w in written if f"f:{key}" in fields]
    times = [parse_time(str(w.get("time", ""))) for w in writes] or [parse_time(str(meta.get("creationTimestamp", "")))]
    return max((t for t in times if t is not None), default=None)


def _fits_a_header(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable()


def _decoded(value: str) -> str:
    """Empty: it is no text."""
    try:
        return base64.b64decode(value).decode().strip()
    except ValueError:
        return ""


class Engines:
    """Makes clients; asks many servers at once."""

    def __init__(
        self, http: httpx.Client, secrets: Secrets, executor: Executor, timeouts: Timeouts | None = None
    ) -> None:
        self._http = http
        self.secrets = secrets
        self._executor = executor
        self._timeouts = timeouts or Timeouts()

    def key_of(self, namespace: str, base: BaseFacts) -> str | None:
        return self.secrets.key_of(namespace, base)

    def tokens_of(self, namespace: str, base: BaseFacts) -> list[str]:
        """Those of the engine plugin, where the servers have it."""
        return self.secrets.plugin_tokens(namespace) if base.has_plugin else []

    def at(self, host: str, port: int, api_key: str | None, tokens: Sequence[str] = ()) -> Engine:
        return VllmClient(self._server(host, port, api_key, tokens), self._timeouts)

    def plugin_at(self, host: str, port: int, tokens: Sequence[str]) -> Plugin:
        return PluginClient(self._server(host, port, None, tokens), self._timeouts)

    def in_pod(self, pod: PodFacts, base: BaseFacts, namespace: str) -> Engine:
        return self.at(pod.ip, base.port, self.key_of(namespace, base), self.tokens_of(namespace, base))

    def _server(self, host: str, port: int, api_key: str | None, tokens: Sequence[str]) -> Server:
        address = f"[{host}]" if ":" in host else host
        return Server(f"http://{address}:{port}", api_key, tokens, http=self._http)

    def of_all(self, questions: Iterable[Callable[[], T]]) -> list[T | None]:
        """The answers, asked at the same time and in the given order; None for a server that gave none."""
        return list(self._executor.map(logs.carried(_answer_or_none), questions))


def _answer_or_none(question: Callable[[], T]) -> T | None:
    try:
        return question()
    except AdapterReleaseError as error:
        log.debug("a server gave no answer: %s", error, extra={"reason": error.reason})
        return None
