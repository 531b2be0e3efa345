"""How far a job is: kept in one place, logged, and served as `/progress` (JSON) and `/metrics` (Prometheus).

Must not know what the stages do.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

log = logging.getLogger("adapterrelease.job")


@dataclass(frozen=True)
class State:
    """`total` 0: not known. `bytes` counts what was read or written, `done` counts units.

    `done` has what an earlier try left, `bytes` does not. `bytes_per_second` is the mean of the stage so far;
    `seconds_left` is what that makes of the rest, None when not known.
    """

    stage: str = "start"
    done: int = 0
    total: int = 0
    bytes: int = 0
    unit: str = "items"
    started_at: float = 0.0
    now: float = 0.0

    @property
    def bytes_per_second(self) -> float:
        return self.bytes / (self.now - self.started_at) if self.now > self.started_at else 0.0

    @property
    def seconds_left(self) -> float | None:
        rate = self.bytes_per_second
        return max(0, self.total - self.done) / rate if rate and self.total and self.unit == "bytes" else None

    def __str__(self) -> str:
        text = f"stage {self.stage}: {self.done} of {self.total or '?'} {self.unit}"
        left = self.seconds_left
        return text if left is None else f"{text}, {self.bytes_per_second / 1e6:.0f} MB/s, {left:.0f} s left"


class Progress:
    """Thread-safe. One stage at a time."""

    def __init__(self, clock: Callable[[], float] = time.time, log_every: float = 5.0) -> None:
        self._clock = clock
        self._log_every = log_every
        self._lock = threading.Lock()
        self._logged = clock()
        self._state = State(started_at=clock())
        self.seconds: dict[str, float] = {}

    def stage(self, name: str, total: int = 0, unit: str = "bytes") -> None:
        """A new stage begins; the one before is over."""
        with self._lock:
            self._end(self._clock())
            self._state = State(stage=name, total=total, unit=unit, started_at=self._clock())
        log.info("stage %s%s", name, f" of {total} {unit}" if total else "")

    def advance(self, n: int = 1) -> None:
        with self._lock:
            now = self._clock()
            moved = n if self._state.unit == "bytes" else 0
            self._state = state = replace(self._state, done=self._state.done + n, bytes=self._state.bytes + moved)
            due = now - self._logged >= self._log_every
            self._logged = now if due else self._logged
        if due:
            log.info("%s", replace(state, now=now))

    def skip(self, n: int) -> None:
        """`n` units were done by an earlier try: they say nothing about the speed."""
        with self._lock:
            self._state = replace(self._state, done=self._state.done + n)

    def finish(self) -> dict[str, float]:
        """Ends the last stage; seconds by stage."""
        self.stage("done", unit="items")
        return {k: round(v, 3) for k, v in self.seconds.items()}

    def state(self) -> State:
        with self._lock:
            return replace(self._state, now=self._clock())

    def _end(self, now: float) -> None:
        if self._state.stage not in ("start", "done"):
            before = self.seconds.get(self._state.stage, 0.0)
            self.seconds[self._state.stage] = before + now - self._state.started_at


METRIC_LABELS = ("stage", "unit")
METRICS: tuple[tuple[str, str, Callable[[State], float]], ...] = (
    ("adapterrelease_job_stage_done", "Units of the stage that are done", lambda s: s.done),
    ("adapterrelease_job_stage_expected", "Units of the stage, 0 when not known", lambda s: s.total),
    ("adapterrelease_job_stage_bytes", "Bytes that the stage has read or written", lambda s: s.bytes),
    (
        "adapterrelease_job_stage_bytes_per_second",
        "Bytes per second, the mean of the stage so far",
        lambda s: s.bytes_per_second,
    ),
    ("adapterrelease_job_stage_start_time_seconds", "When the stage began, in Unix time", lambda s: s.started_at),
)


class JobMetrics(Collector):
    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def collect(self) -> Iterable[GaugeMetricFamily]:
        state = self._progress.state()
        for name, text, value in METRICS:
            gauge = GaugeMetricFamily(name, text, labels=METRIC_LABELS)
            gauge.add_metric([state.stage, state.unit], value(state))
            yield gauge


class ProgressServer:
    """Serves a Progress until it is closed. Port 0 takes any; `port` says which."""

    def __init__(self, progress: Progress, port: int, host: str = "0.0.0.0") -> None:  # noqa: S104 - scraped
        registry = CollectorRegistry()
        registry.register(JobMetrics(progress))
        self._server = ThreadingHTTPServer((host, port), _handler(progress, registry))
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        serve = self._server.serve_forever
        self._thread = threading.Thread(target=serve, args=(0.1,), name="progress", daemon=True)
        self._thread.start()

    def __enter__(self) -> ProgressServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def _document(s: State) -> dict[str, Any]:
    document = {"stage": s.stage, "done": s.done, "total": s.total, "bytes": s.bytes, "unit": s.unit}
    return document | {
        "startedAt": s.started_at,
        "bytesPerSecond": s.bytes_per_second,
        "secondsLeft": s.seconds_left,
    }


def _handler(progress: Progress, registry: CollectorRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/progress":
                self._answer(json.dumps(_document(progress.state())).encode(), "application/json")
            elif self.path == "/metrics":
                self._answer(generate_latest(registry), CONTENT_TYPE_LATEST)
            else:
                self.send_error(404)

        def _answer(self, body: bytes, content_type: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            log.debug(*args)

    return Handler
