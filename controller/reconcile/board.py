"""The board that Prometheus reads: the last look at each release, and what has happened since this process leads.

Only whoever reconciles writes on it, so a replica that does not lead shows nothing, and after a change of leader the
new one shows every release again as soon as it has looked at it once. Counters begin at 0 with each process.
Must not know: what the samples say.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client import Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from controller.api.status import AdapterReleaseStatus, Step
from controller.domain.snapshot import Snapshot
from controller.reconcile import release_metrics as metrics
from controller.reconcile.happenings import SWITCHES, happenings
from controller.reconcile.release_metrics import FAMILIES, Family, Sample
from controller.reconcile.release_samples import base_samples, release_samples
from controller.runtime.resources import Key


@dataclass
class _Entry:
    """One release."""

    base: Key
    samples: list[Sample] = field(default_factory=list)
    switches: dict[tuple[str, str], int] = field(default_factory=lambda: dict.fromkeys(SWITCHES, 0))
    waited: float = 0.0  # seconds that are over
    waits_since: float | None = None
    synced_at: datetime | None = None


class Board(Collector):
    """Safe to use from many threads. `token_changed_at`: when the token of a namespace was last changed, if known."""

    def __init__(
        self,
        token_changed_at: Callable[[str], datetime | None] = lambda namespace: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token_changed_at = token_changed_at
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[Key, _Entry] = {}
        self._bases: dict[Key, list[Sample]] = {}
        self._durations = step_durations()
        self._closed = False

    # -- written by who reconciles
    def looked(self, seen: Snapshot, status: AdapterReleaseStatus, waits: Collection[str]) -> None:
        """This is how the release stands; `status` is stored."""
        meta = seen.release.metadata
        base = Key(meta.namespace, seen.release.spec.base_ref.name)
        samples, of_base = release_samples(seen, status, waits), base_samples(seen)
        with self._lock:
            if self._closed:
                return
            if not self._entries:
                self._begin()
            entry = self._entries.setdefault(Key(meta.namespace, meta.name), _Entry(base))
            moved = entry.base != base
            entry.base, entry.samples, self._bases[base] = base, samples, of_base
            if moved:
                self._forget_bases()
            now = self._clock()  # after every scrape that has shown a sum, or a counter would go back
            if entry.waits_since is not None:
                entry.waited += now - entry.waits_since
            entry.waits_since = now if waits else None

    def wrote(self, key: Key, before: AdapterReleaseStatus, after: AdapterReleaseStatus, now: datetime) -> None:
        """The write of this status has succeeded; `before` is what it replaced. After `looked`."""
        found = happenings(before, after, now)
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return
            if found.switch is not None:
                entry.switches[found.switch] = entry.switches.get(found.switch, 0) + 1
            if found.ended is not None:
                step, seconds = found.ended
                self._durations.labels(str(step)).observe(seconds)

    def synced(self, key: Key, now: datetime) -> None:
        """The release was reconciled without an error."""
        with self._lock:
            if (entry := self._entries.get(key)) is not None:
                entry.synced_at = now

    def gone(self, key: Key) -> None:
        """There is no such release any more: its series vanish."""
        with self._lock:
            self._entries.pop(key, None)
            self._forget_bases()

    def close(self) -> None:
        """This process does not lead any more: nothing is shown from now on, whatever still runs."""
        with self._lock:
            self._closed = True
            self._entries.clear()
            self._bases.clear()
            self._durations.clear()

    # -- read by Prometheus
    def collect(self) -> Iterable[Metric]:
        by_family: dict[Family, list[Sample]] = {}
        for sample in self._samples():
            by_family.setdefault(sample[0], []).append(sample)
        for family in FAMILIES:
            if family in by_family:
                yield _exposed(family, by_family[family])
        yield from self._durations.collect()

    def _begin(self) -> None:
        """From the first release on the histogram is there, so that its first events are not hidden."""
        for step in Step:
            if step is not Step.IDLE:
                self._durations.labels(str(step))

    def _forget_bases(self) -> None:
        """Those of no release; a release is made anew with another base without ever being seen gone."""
        used = {entry.base for entry in self._entries.values()}
        self._bases = {base: samples for base, samples in self._bases.items() if base in used}

    def _samples(self) -> list[Sample]:
        with self._lock:
            samples = [s for found in self._bases.values() for s in found]
            for key, entry in self._entries.items():
                samples += entry.samples
                samples += self._counted(key, entry)
            namespaces = {key.namespace for key in self._entries}
        for namespace in sorted(namespaces):
            if (changed_at := self._token_changed_at(namespace)) is not None:
                samples.append((metrics.TOKEN_CREATED, (namespace,), changed_at.timestamp()))
        return samples

    def _counted(self, key: Key, entry: _Entry) -> Iterator[Sample]:
        for switch, times in entry.switches.items():
            yield metrics.SWITCHES, (*key, *switch), times
        waiting = self._clock() - entry.waits_since if entry.waits_since is not None else 0.0
        yield metrics.WAITED, tuple(key), entry.waited + waiting
        if entry.synced_at is not None:
            yield metrics.SYNCED, tuple(key), entry.synced_at.timestamp()


def step_durations() -> Histogram:
    """In no registry: the board shows it."""
    return Histogram(
        metrics.STEP_DURATION, metrics.STEP_DURATION_TEXT, ["step"], registry=None, buckets=metrics.STEP_BUCKETS
    )


def _exposed(family: Family, samples: list[Sample]) -> Metric:
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.text, labels=family.labels)
    for _, labels, value in samples:
        metric.add_metric(labels, value)
    return metric
