"""A real Prometheus on this machine: started, asked by its HTTP API, ended. Knows no metric."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

_PATIENCE = 60.0
_CONFIG = "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n"

Json = dict[str, Any]


class Prometheus:
    """`config`: prometheus.yml; `data`: blocks that are there already. In `directory` it writes, and logs."""

    def __init__(self, program: Path, directory: Path, config: str = _CONFIG, data: Path | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "prometheus.yml").write_text(config)
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = directory / "prometheus.log"
        self._command = [
            str(program),
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={data or directory / 'data'}",
            "--storage.tsdb.retention.time=10y",
            f"--web.listen-address=127.0.0.1:{port}",
            "--query.lookback-delta=1m",  # blocks made of a file have no marks where a series ends
        ]
        self._http = httpx.Client(base_url=self.url, trust_env=False, timeout=60)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Prometheus:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=os.environ | {"GOMAXPROCS": "1"}
            )
        deadline, pause = time.monotonic() + _PATIENCE, threading.Event()
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise RuntimeError(f"Prometheus did not start:\n{self.log.read_text()[-2000:]}")
            pause.wait(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._http.close()
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(30)

    def range(self, query: str, start: float, end: float, step: float) -> list[Json]:
        return self._asked("query_range", {"query": query, "start": start, "end": end, "step": step})["result"]

    def instant(self, query: str, at: float | None = None) -> list[Json]:
        result: list[Json] = self._asked("query", {"query": query, **({} if at is None else {"time": at})})["result"]
        return result

    def until(self, query: str, seconds: float) -> list[Json]:
        """What there is as soon as there is something; nothing if there is not within so many seconds."""
        deadline, pause = time.monotonic() + seconds, threading.Event()
        while not (found := self.instant(query)) and time.monotonic() < deadline:
            pause.wait(0.5)
        return found

    def tree(self, query: str) -> Json:
        """The query as Prometheus has parsed it."""
        return self._asked("parse_query", {"query": query})

    def _asked(self, what: str, parameters: dict[str, Any]) -> Any:
        answer = self._http.get(f"/api/v1/{what}", params=parameters)
        document = answer.json()
        if document.get("status") != "success":
            raise ValueError(f"{what}: {document.get('error')} in {parameters.get('query')}")
        return document["data"]

    def _is_ready(self) -> bool:
        try:
            return self._http.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
