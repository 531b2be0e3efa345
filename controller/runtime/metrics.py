"""The registry and the metrics of the runtime, under the names that controller-runtime uses.

Stock dashboards for Go controllers work unchanged. Knows no Kubernetes object; whoever has something
to count imports `REGISTRY` and registers its own metrics there.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

disable_created_metrics()  # type: ignore[no-untyped-call]  # client-go exports no *_created series; they double the size of a scrape

REGISTRY = CollectorRegistry(auto_describe=True)
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

_POWERS = tuple(10.0**exponent for exponent in range(-8, 4))  # client-go: ExponentialBuckets(10e-9, 10, 12)
_RECONCILE_SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    *(1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30, 40, 50, 60),
)
_REQUEST_SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)

QUEUE_DEPTH = Gauge("workqueue_depth", "Keys that wait for a worker", ["name"], registry=REGISTRY)
QUEUE_ADDS = Counter("workqueue_adds_total", "Keys added to the queue", ["name"], registry=REGISTRY)
QUEUE_LATENCY = Histogram(
    "workqueue_queue_duration_seconds",
    "How long a key waits in the queue before a worker takes it",
    ["name"],
    registry=REGISTRY,
    buckets=_POWERS,
)
QUEUE_WORK = Histogram(
    "workqueue_work_duration_seconds",
    "How long a worker processes a key",
    ["name"],
    registry=REGISTRY,
    buckets=_POWERS,
)
QUEUE_RETRIES = Counter("workqueue_retries_total", "Keys added again by backoff", ["name"], registry=REGISTRY)
QUEUE_UNFINISHED = Gauge(
    "workqueue_unfinished_work_seconds",
    "Seconds of work in progress that work_duration does not show yet; large values mean stuck workers",
    ["name"],
    registry=REGISTRY,
)
QUEUE_LONGEST = Gauge(
    "workqueue_longest_running_processor_seconds",
    "How long the longest running worker has been at it",
    ["name"],
    registry=REGISTRY,
)

RECONCILE_TOTAL = Counter(
    "controller_runtime_reconcile_total",
    "Reconciliations by result: success, requeue_after, error",
    ["controller", "result"],
    registry=REGISTRY,
)
RECONCILE_ERRORS = Counter(
    "controller_runtime_reconcile_errors_total",
    "Reconciliations that failed",
    ["controller"],
    registry=REGISTRY,
)
RECONCILE_SECONDS = Histogram(
    "controller_runtime_reconcile_time_seconds",
    "Duration of a reconciliation",
    ["controller"],
    registry=REGISTRY,
    buckets=_RECONCILE_SECONDS,
)
ACTIVE_WORKERS = Gauge(
    "controller_runtime_active_workers", "Workers that reconcile now", ["controller"], registry=REGISTRY
)
MAX_WORKERS = Gauge(
    "controller_runtime_max_concurrent_reconciles", "Workers there are", ["controller"], registry=REGISTRY
)

REQUESTS = Counter(
    "rest_client_requests_total",
    "Requests to the API server by status code, method and host; code <error> is no answer",
    ["code", "method", "host"],
    registry=REGISTRY,
)
REQUEST_SECONDS = Histogram(
    "rest_client_request_duration_seconds",
    "Duration of requests to the API server up to the first byte",
    ["verb", "host"],
    registry=REGISTRY,
    buckets=_REQUEST_SECONDS,
)

LEADER = Gauge("leader_election_master_status", "1 when this process leads, else 0", ["name"], registry=REGISTRY)

REFLECTOR_LISTS = Counter("reflector_lists_total", "Lists done by an informer", ["name"], registry=REGISTRY)
REFLECTOR_WATCHES = Counter("reflector_watches_total", "Watches begun by an informer", ["name"], registry=REGISTRY)
REFLECTOR_ERRORS = Counter(
    "reflector_errors_total",
    "Lists and watches that failed, by reason",
    ["name", "reason"],
    registry=REGISTRY,
)

EVENTS_SENT = Counter("event_recorder_sent_total", "Events written", ["component"], registry=REGISTRY)
EVENTS_DROPPED = Counter(
    "event_recorder_dropped_total",
    "Events not written: QueueFull, RateLimited, Failed, Stopped",
    ["component", "reason"],
    registry=REGISTRY,
)


def registry_with(*collectors: Collector) -> CollectorRegistry:
    """What one process serves: all that is in REGISTRY, and the collectors of its own."""
    registry = CollectorRegistry()
    for collector in (REGISTRY, *collectors):
        registry.register(collector)
    return registry


def observe_request(verb: str, host: str, code: str, seconds: float) -> None:
    """Count one request to the API server; `code` is the HTTP status, or "<error>" when none came."""
    REQUESTS.labels(code, verb, host).inc()
    REQUEST_SECONDS.labels(verb, host).observe(seconds)
