"""What a real Prometheus has recorded of a life of releases: which alerts came, and what served.

Must not know: what happens in that life.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.cluster import Cluster
from tests.e2e.scraping import EVERY
from tests.prometheus.server import Prometheus

PATIENCE = 120.0  # seconds, for an alert: its cause may need a job first


@dataclass
class Life:
    """What was recorded, and when; `fails_at`: until then all was as it should be, but for one adapter."""

    prometheus: Prometheus
    cluster: Cluster
    began: float = field(default_factory=time.time)
    fails_at: float = 0.0
    pictured_until: float = 0.0
    ended: float = 0.0
    fired: dict[str, str] = field(default_factory=dict)  # alert -> empty, or what was the case when it did not come

    def say(self, what: str) -> None:
        """Where the life is, for who waits for it: `pytest -s` shows it at once, and a failure with it."""
        print(f"{time.time() - self.began:6.0f} s: {what}", flush=True)

    def expect(self, alert: str, seconds: float = PATIENCE, **labels: str) -> None:
        """Wait for it. That it does not come ends nothing: the others are to be seen, too."""
        self.say(f"waits for {alert} {labels}")
        chosen = {"alertname": alert, "hurried": "yes", **labels}
        selector = ",".join(f'{name}="{value}"' for name, value in chosen.items())
        came = self.prometheus.until(self._firing(selector, time.time() + seconds), seconds)
        self.fired[alert] = "" if came else self._instead(alert, seconds, labels)
        self.say(f"{alert} fires" if came else f"{alert} did not come")

    def unhurried(self, until: float) -> set[str]:
        """Names of alerts that fired until then, with the `for` that they really have."""
        found = self.prometheus.instant(self._firing('hurried=""', until), until)
        return {series["metric"]["alertname"] for series in found}

    def has_served(self, backend: str, seconds: int, release: str) -> bool:
        """For so long, as Prometheus has seen it."""
        serves = f'count(adapterrelease_serving_info{{name="{release}", backend="{backend}"}}) or vector(0)'
        found = self.prometheus.instant(f"min_over_time(({serves})[{seconds}s:{EVERY}s])")
        return any(float(series["value"][1]) > 0 for series in found)

    def _firing(self, selector: str, at: float) -> str:
        """Asked then or before: what fires, and what has fired since the beginning."""
        since = round(at - self.began)
        return f'count_over_time(ALERTS{{alertstate="firing", {selector}}}[{since}s])'

    def _instead(self, alert: str, seconds: float, labels: dict[str, str]) -> str:
        """What a reader wants to know of an alert that did not come: is it pending, or of another one, or not seen?"""
        others = self._metrics(f'ALERTS{{alertname="{alert}"}}')
        silent = self._metrics("up == 0")
        said = f"not within {seconds:.0f} s: {labels}\nof this alert there is: {others}\nnot scraped: {silent}"
        return f"{said}{self.cluster.report()}"

    def _metrics(self, query: str) -> list[dict[str, Any]]:
        return [dict(series["metric"]) for series in self.prometheus.instant(query)]
