"""Access to the vLLM servers of a base and of merged models: their addresses, their API key, many at once.

The key is read from the Secret that the base's container names, never logged, and kept for a minute.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from typing import Protocol, TypeVar

import httpx

from controller.domain.snapshot import BaseFacts, PodFacts
from controller.engine.metrics import RequestCounters
from controller.engine.vllm import Model, Timeouts, VllmClient
from controller.errors import AdapterReleaseError, PermanentError
from controller.reconcile.base import plain_api_key
from controller.runtime import logs
from controller.runtime.client import KubeClient
from controller.runtime.resources import Resource

SECRETS = Resource("", "v1", "secrets", "Secret")
_KEY_KEPT = 60.0

T = TypeVar("T")


class Engine(Protocol):
    """What `VllmClient` offers."""

    def models(self) -> Mapping[str, Model]: ...
    def load(self, name: str, path: str) -> None: ...
    def unload(self, name: str) -> None: ...
    def probe(self, model: str) -> None: ...
    def counters(self) -> RequestCounters: ...


class ApiKeyNotReadable(PermanentError):  # noqa: N818 - the reason that users read
    default_reason = "ApiKeyNotReadable"


class ApiKeys:
    """API keys by Secret."""

    def __init__(self, client: KubeClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str, str], tuple[float, str]] = {}

    def key_of(self, namespace: str, base: BaseFacts) -> str | None:
        """None: the server asks for none. ApiKeyNotReadable when RBAC, the Secret or its key is missing."""
        if base.api_key_secret is None:
            return plain_api_key(base)
        place = (namespace, *base.api_key_secret)
        with self._lock:
            read_at, key = self._known.get(place, (float("-inf"), ""))
        if self._clock() < read_at + _KEY_KEPT:
            return key
        key = self._read(*place)
        logs.hide(key)
        with self._lock:
            self._known[place] = (self._clock(), key)
        return key

    def _read(self, namespace: str, name: str, key: str) -> str:
        try:
            secret = self._client.get(SECRETS.path(namespace, name))
        except PermanentError as error:
            raise ApiKeyNotReadable(
                f"the controller cannot read the API key of vLLM from Secret {name}: {error.message}; "
                f"allow its service account to get this Secret by a Role in namespace {namespace}"
            ) from error
        try:
            return base64.b64decode(secret["data"][key]).decode().strip()
        except (KeyError, ValueError) as error:
            raise ApiKeyNotReadable(f"Secret {name} has no usable key {key} for the API key of vLLM") from error


class Engines:
    """Makes clients; asks many servers at once."""

    def __init__(self, http: httpx.Client, keys: ApiKeys, executor: Executor, timeouts: Timeouts | None = None) -> None:
        self._http = http
        self._keys = keys
        self._executor = executor
        self._timeouts = timeouts or Timeouts()

    def key_of(self, namespace: str, base: BaseFacts) -> str | None:
        return self._keys.key_of(namespace, base)

    def at(self, host: str, port: int, api_key: str | None) -> Engine:
        address = f"[{host}]" if ":" in host else host
        return VllmClient(f"http://{address}:{port}", api_key, http=self._http, timeouts=self._timeouts)

    def in_pod(self, pod: PodFacts, base: BaseFacts, namespace: str) -> Engine:
        return self.at(pod.ip, base.port, self.key_of(namespace, base))

    def of_all(self, questions: Iterable[Callable[[], T]]) -> list[T | None]:
        """The answers, asked at the same time and in the given order; None for a server that gave none."""
        return list(self._executor.map(_answer_or_none, questions))


def _answer_or_none(question: Callable[[], T]) -> T | None:
    try:
        return question()
    except AdapterReleaseError:
        return None
