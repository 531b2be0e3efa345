"""Metrics by release, version and backend, on the server's own /metrics.

Series exist for what is declared now, for what still runs, and for all the rest together; others vanish. Must not
know: requests' bodies, who declares.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from .failures import WHERE

Labels = tuple[str, str, str]
BASE: Labels = ("", "", "base")
_NAMES = ("release", "version", "backend")
_FIRST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80)
_EACH = (0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1)
_WHOLE = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)


class Measured:
    """One for each registry: see `measured`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, labels: Iterable[str] = _NAMES) -> Counter:
            return Counter(f"adapterrelease_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"adapterrelease_{name}", text, _NAMES, registry=registry, buckets=buckets)

        self.requests = counter("requests_total", "Answered requests; 499: the client left", (*_NAMES, "code"))
        self.in_flight = Gauge(
            "adapterrelease_requests_in_flight",
            "Requests that are not answered yet",
            _NAMES,
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.first = histogram("time_to_first_token_seconds", "Streams: to the first event", _FIRST)
        self.each = histogram("time_per_output_token_seconds", "Streams: from token to token, mean of one", _EACH)
        self.duration = histogram("request_duration_seconds", "To the end of the answer", _WHOLE)
        self.prompt = counter("prompt_tokens_total", "Prompt tokens of finished requests")
        self.generated = counter("generation_tokens_total", "Generated tokens of finished requests")
        self._errors = counter("plugin_errors_total", "Errors of the plugin's own code", ("where",))
        for where in WHERE:
            self._errors.labels(where)
        self._info = Gauge("adapterrelease_plugin_info", "The plugin", ("version",), registry=registry)
        self._series: dict[Labels, Series] = {}
        self._declared: frozenset[Labels] = frozenset({BASE})

    def error(self, where: str) -> None:
        self._errors.labels(where).inc()

    def version(self, version: str) -> None:
        self._info.clear()
        self._info.labels(version).set(1)

    def series(self, labels: Labels) -> Series:
        found = self._series.get(labels)
        if found is None:
            found = self._series[labels] = Series(self, labels)
        return found

    def keep_only(self, declared: Iterable[Labels]) -> None:
        """The others vanish, each when its last request has ended."""
        self._declared = frozenset((*declared, BASE))
        for series in tuple(self._series.values()):
            self.drop_if_unused(series)
        for labels in self._declared:
            self.series(labels)

    def drop_if_unused(self, series: Series) -> None:
        if series.labels in self._declared or series.running:
            return
        self._series.pop(series.labels, None)
        for metric in (self.in_flight, self.first, self.each, self.duration, self.prompt, self.generated):
            metric.remove(*series.labels)
        for code in series.codes:
            self.requests.remove(*series.labels, code)


class Series:
    """The metrics of one release, version and backend."""

    def __init__(self, measured: Measured, labels: Labels) -> None:
        self._measured, self.labels = measured, labels
        self.running: set[object] = set()
        self.codes: set[str] = set()
        self._in_flight = measured.in_flight.labels(*labels)
        self._first = measured.first.labels(*labels)
        self._each = measured.each.labels(*labels)
        self._duration = measured.duration.labels(*labels)
        self._prompt = measured.prompt.labels(*labels)
        self._generated = measured.generated.labels(*labels)

    def began(self, request: object) -> None:
        self.running.add(request)
        self._in_flight.set(len(self.running))

    def ended(self, request: object) -> None:
        """May be said twice."""
        self.running.discard(request)
        self._in_flight.set(len(self.running))
        self._measured.drop_if_unused(self)

    def answered(self, code: int, seconds: float) -> None:
        self.codes.add(str(code))
        self._measured.requests.labels(*self.labels, str(code)).inc()
        self._duration.observe(seconds)

    def tokens(self, prompt: int, generated: int) -> None:
        self._prompt.inc(prompt)
        self._generated.inc(generated)

    def streamed(self, first: float, rest: float, generated: int) -> None:
        """Seconds to the first event, and from there to the end."""
        self._first.observe(first)
        if generated > 1:
            self._each.observe(rest / (generated - 1))


@cache
def measured(registry: CollectorRegistry) -> Measured:
    """vLLM may build its stack of middlewares twice; a metric can be registered once."""
    return Measured(registry)
