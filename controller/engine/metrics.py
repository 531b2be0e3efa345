"""Request counters out of vLLM's Prometheus text.

Two families count: `http_requests_total{handler,method,status}` of prometheus-fastapi-instrumentator, whose
status is grouped as 2xx, 4xx, 5xx, and vLLM's histogram `vllm:e2e_request_latency_seconds`.
Must not know: which pods are asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

_COMPLETIONS = re.compile(r"/v1/(chat/)?completions")
_LATENCY = "vllm:e2e_request_latency_seconds"


@dataclass(frozen=True)
class RequestCounters:
    """Totals since the server started. Latency is of finished requests, from arrival to the last token."""

    requests: int = 0
    errors: int = 0
    latency_seconds: float = 0.0
    latency_count: int = 0


def read_counters(text: str) -> RequestCounters:
    """Raises ValueError for anything but the Prometheus text format."""
    requests = errors = latency = count = 0.0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "http_requests_total" and _COMPLETIONS.fullmatch(sample.labels.get("handler", "")):
                requests += sample.value
                errors += sample.value if sample.labels.get("status", "").startswith("5") else 0
            elif sample.name == f"{_LATENCY}_sum":
                latency += sample.value
            elif sample.name == f"{_LATENCY}_count":
                count += sample.value
    return RequestCounters(int(requests), int(errors), latency, int(count))
