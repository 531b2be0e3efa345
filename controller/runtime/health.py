"""The controller's small HTTP server: /healthz, /readyz and /metrics.

A check is a function that returns None when all is well, or says what is wrong. Knows no check's
subject; the composition root adds them.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from controller.runtime.metrics import REGISTRY

log = logging.getLogger(__name__)

Check = Callable[[], str | None]
_TEXT = "text/plain; charset=utf-8"


class HealthServer:
    """Serves on `host`:`port` (0: any free one) from `start` to `stop`.

    `/healthz` fails: the kubelet restarts the process. `/readyz` fails: it is not ready yet, or not up
    to date. `?verbose` lists every check; `/readyz/NAME` asks for one. Without checks both say ok.
    """

    def __init__(self, port: int, host: str = "", registry: CollectorRegistry = REGISTRY) -> None:
        self._checks: dict[str, dict[str, Check]] = {"healthz": {}, "readyz": {}}
        self._registry = registry
        self._server = _bind(host, port, self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def add_health_check(self, name: str, check: Check) -> None:
        self._checks["healthz"][name] = check

    def add_ready_check(self, name: str, check: Check) -> None:
        self._checks["readyz"][name] = check

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def _answer(self, target: str, accept: str) -> tuple[HTTPStatus, str, bytes]:
        url = urlsplit(target)
        if url.path == "/metrics":
            return self._metrics(accept)
        group, _, name = url.path.strip("/").partition("/")
        checks = self._checks.get(group)
        if checks is None or (name and name not in checks):
            return HTTPStatus.NOT_FOUND, _TEXT, b"not found; there are /healthz, /readyz and /metrics\n"
        verbose = "verbose" in parse_qs(url.query, keep_blank_values=True)
        return _report(group, {name: checks[name]} if name else dict(checks), verbose)

    def _metrics(self, accept: str) -> tuple[HTTPStatus, str, bytes]:
        """A collector that raises is a fault of ours that Prometheus and the log have to tell."""
        try:
            encode, content_type = choose_encoder(accept)
            return HTTPStatus.OK, content_type, encode(self._registry)
        except Exception as error:
            log.exception("the metrics cannot be shown")
            said = f"the metrics cannot be shown: {type(error).__name__}; see the controller's log\n"
            return HTTPStatus.INTERNAL_SERVER_ERROR, _TEXT, said.encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self._answer

        class Handler(BaseHTTPRequestHandler):
            timeout = 10  # a client that sends nothing does not keep its thread
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, content_type, body = answer(self.path, self.headers.get("Accept", ""))
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's signature
                log.debug(format, *args)

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a health client went away", exc_info=True)


class _DualStackServer(_Server):
    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def _bind(host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """No host: all addresses of both families, or of IPv4 where the kernel has no IPv6."""
    if not host or ":" in host:
        try:
            return _DualStackServer((host or "::", port), handler)
        except OSError:
            if host:
                raise
    return _Server((host or "0.0.0.0", port), handler)  # noqa: S104 - probes come from the node's address


def _report(group: str, checks: dict[str, Check], verbose: bool) -> tuple[HTTPStatus, str, bytes]:
    problems = {name: _run(check) for name, check in checks.items()}
    failed = any(problem is not None for problem in problems.values())
    status = HTTPStatus.INTERNAL_SERVER_ERROR if failed else HTTPStatus.OK
    if not failed and not verbose:
        return status, _TEXT, b"ok\n"
    lines = [f"[+]{name} ok" if said is None else f"[-]{name} failed: {said}" for name, said in problems.items()]
    lines.append(f"{group} check {'failed' if failed else 'passed'}")
    return status, _TEXT, ("\n".join(lines) + "\n").encode()


def _run(check: Check) -> str | None:
    try:
        return check()
    except Exception as error:
        log.exception("a health check raised")
        return f"{type(error).__name__}: {error}"
