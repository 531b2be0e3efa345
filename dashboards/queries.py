"""Pieces of PromQL that several panels share. Must not know what a panel looks like.

Metrics of the controller carry the release in `namespace` and `name`, those of the engine plugin in `release`, which is
namespace/name. Two replicas of the controller may both be scraped, so what is by release is aggregated before it is
joined.
"""

from __future__ import annotations

from dataclasses import dataclass

RATE = "$__rate_interval"
RELEASE = 'namespace="$namespace", name="$release"'  # in metrics of the controller
TRAFFIC = 'namespace="$namespace", release="$namespace/$release"'  # in metrics of the engine plugin
BACKEND = "backend, version"
CONTROLLER = 'namespace="$namespace", job="$job"'
# What vLLM serves the release: its base's pods and its merged ones. Multiply by it; its value is 1.
SERVERS = (
    "on (namespace, pod) group_left () (0 * max by (namespace, pod) ("
    f"adapterrelease_requests_in_flight{{{TRAFFIC}}} or adapterrelease_adapter_loaded{{{RELEASE}}}) + 1)"
)


@dataclass(frozen=True)
class Query:
    """One line of PromQL and how its series are called."""

    expr: str
    legend: str


def of_release(metric: str, by: str, selector: str = "") -> str:
    """What the controller says of the release, from whichever replica leads."""
    labels = RELEASE + (f", {selector}" if selector else "")
    return f"max by ({by}) ({metric}{{{labels}}})"


def rate(metric: str, by: str = BACKEND, selector: str = "") -> str:
    """Per second, of the release's traffic."""
    labels = TRAFFIC + (f", {selector}" if selector else "")
    return f"sum by ({by}) (rate({metric}{{{labels}}}[{RATE}]))"


def share(part: str, whole: str) -> str:
    """0 where there is a whole and no part; nothing where there is no whole."""
    return f"({part} or 0 * {whole}) / ({whole} > 0)"


def quantiles(metric: str, selector: str, by: str, legend: str, *which: float) -> list[Query]:
    """Of a histogram."""
    inside = f"sum by (le, {by}) (rate({metric}_bucket{{{selector}}}[{RATE}]))"
    return [Query(f"histogram_quantile({q}, {inside})", f"p{round(q * 100)} {legend}") for q in which]


def numbered(metric_by_label: str, values: dict[str, int]) -> str:
    """One series out of several of which one at a time is there: label value -> number. `%s` stands for the value."""
    return " or ".join(f"{number} * {metric_by_label % value}" for value, number in values.items())
