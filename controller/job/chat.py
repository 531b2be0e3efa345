"""Asks an OpenAI-compatible server, one chat completion at a time.

Must not know what the answers are good for.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from controller.errors import PermanentError, TransientError
from controller.job.contract import Endpoint
from controller.job.reasons import Reason

log = logging.getLogger("adapterrelease.job")
BACKOFF_SECONDS = (0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Answer:
    """`text` None: the request failed, and `error` says how."""

    text: str | None
    tokens: int = 0
    seconds: float = 0.0
    error: str = ""


class Chat:
    """One endpoint. Thread-safe. Close it. Raises PermanentError for an address that can never be asked."""

    def __init__(
        self,
        endpoint: Endpoint,
        api_key: str | None = None,
        timeout: float = 120.0,
        connections: int = 64,
        wait: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        _is_address(endpoint.url)
        self.endpoint = endpoint
        self._wait = wait or threading.Event().wait
        self._clock = clock
        self._client = httpx.Client(
            base_url=endpoint.url.rstrip("/").removesuffix("/v1"),
            timeout=timeout,
            trust_env=False,  # a proxy of the environment has no place between a job and a pod
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            # None is kept: of the two that are compared the one behind the route ends its connections, which must not
            # make it look slower; and a kept one may be closed by the server at the moment of a request.
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=0),
        )

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def must_serve(self) -> None:
        """Raises TransientError unless the server answers and lists the model, from where it has to be."""
        model, root = self.endpoint.model, self.endpoint.root
        try:
            answer = self._retried(lambda: self._client.get("/v1/models"))
            answer.raise_for_status()
            models = {m["id"]: m.get("root") for m in answer.json()["data"]}
        except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise TransientError(
                f"{self.endpoint.url} does not answer: {e or type(e).__name__}", reason=Reason.ENDPOINT_UNREACHABLE
            ) from e
        if model not in models:
            raise TransientError(
                f"{self.endpoint.url} does not serve {model!r}, but {', '.join(map(str, models))}",
                reason=Reason.MODEL_NOT_SERVED,
            )
        if root is not None and models[model] != root:
            raise TransientError(
                f"{self.endpoint.url} serves {model!r} from {models[model]}, not from {root}",
                reason=Reason.MODEL_NOT_SERVED,
            )

    def ask(self, messages: Sequence[Mapping[str, Any]], max_tokens: int) -> Answer:
        """The greedy answer. Never raises: what fails is an Answer without text."""
        body = {
            "model": self.endpoint.model,
            "messages": list(messages),
            "temperature": 0,
            "max_tokens": max_tokens,
        }
        began = self._clock()
        try:
            answer = self._retried(lambda: self._client.post("/v1/chat/completions", json=body))
        except (httpx.HTTPError, ValueError) as e:  # ValueError: messages that are no JSON
            return self._failed(f"{type(e).__name__}: {e}")
        if answer.status_code != 200:
            return self._failed(f"status {answer.status_code}: {answer.text[:200]}")
        return self._parsed(answer, self._clock() - began)

    def _retried(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        """Only what never reached the server is sent again: anything else is the server's answer."""
        for seconds in BACKOFF_SECONDS:
            try:
                return send()
            except (httpx.ConnectError, httpx.ConnectTimeout):
                self._wait(seconds)
        return send()

    def _parsed(self, answer: httpx.Response, seconds: float) -> Answer:
        try:
            document = json.loads(answer.content)
            text = document["choices"][0]["message"]["content"]
            tokens = document["usage"]["completion_tokens"]
        except (ValueError, KeyError, IndexError, TypeError) as e:
            return self._failed(f"not a chat completion: {type(e).__name__} {e}")
        if not isinstance(text, str | None) or type(tokens) is not int or tokens < 0:
            return self._failed("not a chat completion: content or usage")
        return Answer(text or "", tokens, seconds)

    def _failed(self, error: str) -> Answer:
        log.warning("%s %s: %s", self.endpoint.url, self.endpoint.model, error)
        return Answer(None, error=error)


def _is_address(url: str) -> None:
    try:
        httpx.URL(url)
        _ = urlsplit(url).port  # httpx looks at its range only when it connects
    except (httpx.InvalidURL, ValueError) as e:
        raise PermanentError(f"{url} is no address: {e}", reason=Reason.INVALID_ARGUMENT) from e
