"""HTTP to one API server: the official client's configuration, authentication and connection pool.

Only this module imports `kubernetes`. Its models, watch, informer and lease lock are not used: they
reconnect in storms, miss half-open connections and leave two leaders. Every request here has a
deadline for the whole answer, is sent once, is counted, and fails with an error of `controller.errors`.
Knows paths and bytes, no resources.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import urllib3
import yaml
from kubernetes import config as kube_config
from kubernetes.client.configuration import Configuration
from kubernetes.client.rest import RESTClientObject

from controller.errors import ConnectionLost, PermanentError
from controller.runtime.metrics import observe_request
from controller.runtime.status import error_from

CONNECT_TIMEOUT = 3.0
_CHUNK = 1 << 16
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

# A discarded connection is normal here (watches), a retry never happens: both are noise.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


class Transport:
    """Sends requests to the host of `configuration`; safe to use from many threads."""

    def __init__(self, configuration: Any, user_agent: str) -> None:
        configuration.keep_alive = True  # the kernel notices a host that has vanished
        configuration.connection_pool_maxsize = max(configuration.connection_pool_maxsize or 0, 32)
        self._configuration = configuration
        self._pool: urllib3.PoolManager = RESTClientObject(configuration).pool_manager
        self._url = configuration.host.rstrip("/")
        self._host: str = urlsplit(self._url).netloc
        self._user_agent = user_agent

    @property
    def host(self) -> str:
        return self._host

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: float,
    ) -> bytes:
        """The whole body of a 2xx answer within `timeout` seconds; ApiError otherwise."""
        deadline = time.monotonic() + timeout
        response = self._send(method, path, query, body, content_type, timeout)
        with _lost_connections(method, path):
            data = _read(response, deadline)
        if not 200 <= response.status < 300:
            raise error_from(response.status, data, response.headers)
        return data

    def stream(
        self, path: str, *, query: Mapping[str, str], read_timeout: float, verb: str = "WATCH"
    ) -> urllib3.BaseHTTPResponse:
        """An open 2xx answer whose body is still to come; each read ends within `read_timeout` seconds."""
        response = self._send("GET", path, query, None, "", read_timeout, verb)
        if not 200 <= response.status < 300:
            with _lost_connections(verb, path):
                data = _read(response, time.monotonic() + read_timeout)
            raise error_from(response.status, data, response.headers)
        return response

    def close(self) -> None:
        """Close idle connections; those in use end with their request."""
        self._pool.clear()

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Any,
        content_type: str,
        timeout: float,
        verb: str | None = None,
    ) -> urllib3.BaseHTTPResponse:
        url = f"{self._url}{path}?{urlencode(query)}" if query else self._url + path
        started, code = time.monotonic(), "<error>"
        try:
            with _lost_connections(method, path):
                response = self._pool.request(
                    method,
                    url,
                    body=None if body is None else json.dumps(body).encode(),
                    headers=self._headers(content_type if body is not None else None),
                    timeout=urllib3.Timeout(connect=min(CONNECT_TIMEOUT, timeout), read=timeout),
                    preload_content=False,
                    retries=False,
                )
            code = str(response.status)
            return response
        finally:
            observe_request(verb or method, self._host, code, time.monotonic() - started)

    def _headers(self, content_type: str | None) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": self._user_agent}
        if content_type:
            headers["Content-Type"] = content_type
        try:  # reads a rotated token file or runs the exec plugin of a kubeconfig again
            token = self._configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        except (OSError, kube_config.ConfigException) as error:
            raise ConnectionLost(f"cannot read the credentials: {error}", reason="CredentialsLost") from error
        if token:
            headers["Authorization"] = token.strip()
        return headers


def load_configuration(kubeconfig: str | None, context: str | None) -> tuple[Any, str]:
    """The client configuration and the namespace to use by default.

    A named kubeconfig or context wins; then the service account of the pod; then kubectl's default
    kubeconfig. Raises PermanentError when there is nothing usable.
    """
    configuration = Configuration()
    try:
        if kubeconfig is None and context is None and _in_cluster():
            kube_config.load_incluster_config(client_configuration=configuration)
            return configuration, _read_namespace()
        kube_config.load_kube_config(
            config_file=kubeconfig,
            context=context,
            client_configuration=configuration,
            persist_config=False,
        )
        contexts, active = kube_config.list_kube_config_contexts(config_file=kubeconfig)
    except (kube_config.ConfigException, OSError, yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        # ConfigException is for what is missing; what is no kubeconfig at all breaks the library somewhere
        said = " ".join(str(error).split()) or type(error).__name__
        raise PermanentError(
            f"no usable cluster configuration: {said}; set KUBECONFIG or name a kubeconfig and context",
            reason="KubeconfigInvalid",
        ) from error
    chosen = next((entry for entry in contexts if entry["name"] == context), active)
    return configuration, chosen["context"].get("namespace") or "default"


def _in_cluster() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ and (_SERVICE_ACCOUNT / "token").is_file()


def _read_namespace() -> str:
    try:
        return (_SERVICE_ACCOUNT / "namespace").read_text().strip() or "default"
    except OSError:
        return "default"


@contextmanager
def _lost_connections(method: str, path: str) -> Iterator[None]:
    try:
        yield
    except urllib3.exceptions.TimeoutError as error:
        raise ConnectionLost(f"{method} {path}: no answer in time: {error}", reason="Timeout") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ConnectionLost(f"{method} {path}: {error}") from error


def _read(response: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
    """The body, read as it comes, since urllib3's read timeout starts again at each packet."""
    parts = []
    while data := response.read1(_CHUNK):
        parts.append(data)
        if time.monotonic() > deadline:
            response.close()
            raise ConnectionLost("the answer came too slowly; given up in its middle", reason="Timeout")
    response.release_conn()
    return b"".join(parts)
