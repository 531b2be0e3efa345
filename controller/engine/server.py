"""One HTTP server in a pod: what is sent, and what its answers mean. Never follows redirects.

Must not know: what a route of vLLM or of the engine plugin is for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from controller.engine.errors import EngineRefused, EngineTroubled, EngineUnreachable

TOKEN_HEADER = "X-Adapterrelease-Token"  # noqa: S105 - the name of a header
_LONGEST_CAUSE = 600  # characters of the server's own words that are kept: they go into status


def new_http() -> httpx.Client:
    """What all servers are asked with. Every request opens a connection of its own: a kept one may lead to a
    pod that has left the Service, or may have been closed by the server a moment ago."""
    return httpx.Client(trust_env=False, follow_redirects=False, limits=httpx.Limits(max_keepalive_connections=0))


class Server:
    """A server at `base_url` (no /v1). `tokens`: those of the engine plugin, the newest first; a pod may know an older
    one for a minute after they were changed."""

    def __init__(
        self, base_url: str, api_key: str | None = None, tokens: Sequence[str] = (), *, http: httpx.Client
    ) -> None:
        self.url = base_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._tokens = tuple(tokens)
        self._http = http

    def send(self, method: str, path: str, timeout: float, body: Mapping[str, Any] | None = None) -> httpx.Response:
        """Whatever it answers. Raises EngineUnreachable."""
        for token in self._tokens[:-1]:
            response = self._send(method, path, timeout, body, token)
            if response.status_code not in (401, 403):
                return response
        return self._send(method, path, timeout, body, self._tokens[-1] if self._tokens else None)

    def ask(self, method: str, path: str, timeout: float, body: Mapping[str, Any] | None = None) -> httpx.Response:
        """An answer of 200. Raises EngineUnreachable, EngineTroubled (5xx), EngineRefused (4xx)."""
        return expect_ok(self.send(method, path, timeout, body))

    def _send(
        self, method: str, path: str, timeout: float, body: Mapping[str, Any] | None, token: str | None
    ) -> httpx.Response:
        url, headers = self.url + path, self._headers | ({TOKEN_HEADER: token} if token else {})
        try:
            return self._http.request(method, url, json=body, headers=headers, timeout=timeout)
        except httpx.TimeoutException as error:
            raise EngineUnreachable(f"{method} {url}: no answer within {timeout:g} s", reason="Timeout") from error
        except httpx.LocalProtocolError:  # its text has the header, and the header has a key
            raise EngineUnreachable(f"{method} {url}: a header has what no header may have") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise EngineUnreachable(f"{method} {url}: {error}") from error


def expect_ok(response: httpx.Response) -> httpx.Response:
    if response.status_code == 200:
        return response
    request = response.request
    text = f"{request.method} {request.url} answered {response.status_code}: {cause_of(response)}"
    if response.status_code >= 500 or response.status_code in (408, 429):
        raise EngineTroubled(text)
    if response.status_code in (401, 403):
        raise EngineRefused(text, reason="ApiKeyRefused")
    raise EngineRefused(text)


def json_of(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise EngineTroubled(f"{response.request.url} answered no JSON: {response.text[:200]}") from error


def is_engine_error(response: httpx.Response) -> bool:
    """Whether vLLM itself decided: `{"error": {"message", "type", "code"}}`. A route that does not exist
    (runtime updating not allowed) answers `{"detail": "Not Found"}`, a proxy answers anything."""
    try:
        answer = response.json()
    except ValueError:
        return False
    return isinstance(answer, dict) and isinstance(answer.get("error"), dict)


def cause_of(response: httpx.Response) -> str:
    if is_engine_error(response):
        return str(response.json()["error"].get("message", ""))[:_LONGEST_CAUSE]
    return response.text[:_LONGEST_CAUSE]
