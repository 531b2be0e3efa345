"""A life of releases, as Prometheus would have scraped it: written as samples with times, so that no test waits for it.

`support-bot` is promoted, serves its artifact, fails and goes back; `invoice-bot` waits for a person in its canary;
`summary-bot`, on a base of its own, fails its validation. What the project declares (runtime, engine plugin, jobs) is
counted in real metrics of the same declarations; what others expose (vLLM, the kubelet) is written out here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from controller.engine.plugin.measured import Labels, Measured
from controller.reconcile.objects.engine import backend_label
from controller.runtime.metrics import REGISTRY
from controller.runtime.resources import Key

EVERY = 30  # seconds between two scrapes
LASTS = 2 * 3600
STABLE, STARTS, VALIDATES, SWITCHES, OBSERVES, PROMOTED, FAILS, BACK = 1200, 2100, 2400, 2880, 2910, 3510, 5400, 5460


def _declared(release: Key, version: str, kind: str, digest: str) -> Labels:
    """As the controller tells the engine plugin."""
    return str(release), version, backend_label(kind, f"sha256:{digest}")


SUPPORT, INVOICES, SUMMARIES = Key("llm", "support-bot"), Key("llm", "invoice-bot"), Key("shop", "summary-bot")
ADAPTER = _declared(SUPPORT, "v1", "adapter", "0a1b2c3d4e5f6789")
ARTIFACT = _declared(SUPPORT, "v1", "artifact", "99aabbccddee0011")
INVOICE = _declared(INVOICES, "v3", "adapter", "1111222233334444")
INVOICE_ARTIFACT = _declared(INVOICES, "v3", "artifact", "4444555566667777")
SUMMARY = _declared(SUMMARIES, "v2", "adapter", "7777888899990000")
_STEPS = (
    *((0, "Idle"), (STABLE, "Building"), (STARTS, "Starting"), (VALIDATES, "Validating"), (SWITCHES, "Switching")),
    *((OBSERVES, "Observing"), (PROMOTED, "Idle"), (FAILS, "RollingBack"), (BACK, "Idle")),
)
_STAGES = (("merge", STABLE, 300), ("quantize", STABLE + 300, 480), ("publish", STABLE + 780, 120))
GIB = 2**30


@dataclass(frozen=True)
class Sample:
    name: str
    labels: dict[str, str]
    value: float


@dataclass
class Server:
    """A pod with vLLM: what its plugin and vLLM itself have counted."""

    namespace: str
    pod: str
    since: int = 0
    until: int = LASTS
    tokens: float = 0.0
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self.measured = Measured(self.registry)
        self.measured.version("2026.11.0")

    def serve(self, labels: Labels, requests: int, first: float, each: float, failed: int = 0) -> None:
        """`first` and `each` in seconds; 40 tokens a request."""
        series = self.measured.series(labels)
        for number in range(requests):
            slow = 2.5 if number % 8 == 7 else 1.0 + 0.1 * (number % 3)
            series.answered(500 if number < failed else 200, slow * (first + 40 * each))
            if number >= failed:
                series.streamed(slow * first, slow * 39 * each, 40)
                series.tokens(60, 40)
                self.tokens += 40

    def samples(self, busy: float) -> Iterator[Sample]:
        yield from collected(self.registry)
        of_engine = {"model_name": "tiny-llama", "engine": "0"}
        for name, value in (
            ("vllm:kv_cache_usage_perc", 0.1 + 0.6 * busy),
            ("vllm:num_requests_running", round(8 * busy)),
            ("vllm:num_requests_waiting", round(2 * busy)),
            ("vllm:generation_tokens_total", self.tokens),
            ("vllm:prefix_cache_queries_total", 1.5 * self.tokens),
            ("vllm:prefix_cache_hits_total", self.tokens),
        ):
            yield Sample(name, of_engine, value)


class Controller:
    """A replica: metrics of the runtime, and those of releases where it leads."""

    def __init__(self, pod: str, leads: bool) -> None:
        self.pod, self.leads = pod, leads
        self.registry = CollectorRegistry()
        self._metric = {_name(m): _again(m, self.registry) for m in REGISTRY._collector_to_names if _is_declared(m)}
        self.set("leader_election_master_status", 1.0 if leads else 0.0, "adapter-release-controller")
        for queue in ("adapterrelease", "pluginbase"):
            self.set("workqueue_depth", 0, queue)
            self.set("workqueue_unfinished_work_seconds", 0, queue)
            self.set("workqueue_longest_running_processor_seconds", 0, queue)
            self.set("controller_runtime_max_concurrent_reconciles", 4, queue)
            self.set("controller_runtime_active_workers", int(leads), queue)
            for result in ("success", "requeue_after", "error"):
                self.count("controller_runtime_reconcile_total", 0, queue, result)

    def set(self, name: str, value: float, *labels: str) -> None:
        metric = self._metric[name]
        assert isinstance(metric, Gauge)
        metric.labels(*labels).set(value)

    def count(self, name: str, more: float, *labels: str) -> None:
        metric = self._metric[name.removesuffix("_total")]
        assert isinstance(metric, Counter)
        metric.labels(*labels).inc(more)

    def took(self, name: str, seconds: float, *labels: str) -> None:
        metric = self._metric[name]
        assert isinstance(metric, Histogram)
        metric.labels(*labels).observe(seconds)

    def work(self, now: int) -> None:
        """What happens between two scrapes."""
        host = "10.96.0.1:443"
        for method, code, calls in (
            ("GET", "200", 20),
            ("PATCH", "200", 2),
            ("PUT", "409", 1 if now % 300 == 0 else 0),
        ):
            self.count("rest_client_requests_total", calls, code, method, host)
            self.took("rest_client_request_duration_seconds", 0.02, method, host)
        if now % 600 == 0:
            self.count("reflector_lists_total", 1, "pods")
            self.count("reflector_watches_total", 1, "pods")
            self.count("reflector_errors_total", 1, "pods", "Timeout")
        if not self.leads:
            return
        for queue, passes in (("adapterrelease", 6), ("pluginbase", 1)):
            self.set("workqueue_depth", (now // EVERY) % 3, queue)
            self.count("workqueue_adds_total", passes, queue)
            self.count("controller_runtime_reconcile_total", passes, queue, "success")
            self.took("workqueue_queue_duration_seconds", 0.002, queue)
            self.took("workqueue_work_duration_seconds", 0.08, queue)
            self.took("controller_runtime_reconcile_time_seconds", 0.08, queue)
            if now % 900 == 0:
                self.count("controller_runtime_reconcile_total", 1, queue, "error")
                self.count("controller_runtime_reconcile_errors_total", 1, queue)
                self.count("workqueue_retries_total", 1, queue)
        if now % 120 == 0:
            self.count("event_recorder_sent_total", 2, "adapter-release-controller")
            self.count(
                "event_recorder_dropped_total", int(now % 1200 == 0), "adapter-release-controller", "RateLimited"
            )

    def samples(self, now: int) -> Iterator[Sample]:
        yield from collected(self.registry)
        yield Sample("process_resident_memory_bytes", {}, 9e7 + 4e6 * math.sin(now / 900))
        yield Sample("process_cpu_seconds_total", {}, 0.04 * now)
        yield Sample("process_open_fds", {}, 24 + (now // 600) % 3)


def step_at(now: int) -> tuple[str, int]:
    """The step of support-bot, and when it began."""
    since, step = max((at, step) for at, step in _STEPS if at <= now)
    return step, since


def serving_at(now: int) -> Labels:
    return ARTIFACT if OBSERVES <= now < BACK else ADAPTER


def stage_at(now: int) -> tuple[str, float] | None:
    """The stage of the build that runs, and how much of it is done."""
    return next(((name, (now - at) / lasts) for name, at, lasts in _STAGES if at <= now < at + lasts), None)


def collected(registry: CollectorRegistry) -> Iterator[Sample]:
    for family in registry.collect():
        for sample in family.samples:
            yield Sample(sample.name, dict(sample.labels), sample.value)


def _is_declared(metric: Any) -> bool:
    return isinstance(metric, MetricWrapperBase)


def _name(metric: Any) -> str:
    return str(metric._name)


def _again(metric: Any, registry: CollectorRegistry) -> MetricWrapperBase:
    """The same declaration in another registry: the process's own is not touched."""
    arguments = {"buckets": metric._kwargs["buckets"]} if isinstance(metric, Histogram) else {}
    made: MetricWrapperBase = type(metric)(
        metric._name, metric._documentation, metric._labelnames, registry=registry, **arguments
    )
    return made
