"""Every query of every dashboard has data of a real life of releases, in a real Prometheus."""

from __future__ import annotations

import re

import pytest

from tests.e2e.cluster import NAMESPACE
from tests.e2e.recorded import Life
from tests.e2e.release import Release
from tests.e2e.scraping import EVERY
from tests.prometheus.boards import Asked, queries, values_for

pytestmark = [pytest.mark.e2e, pytest.mark.prometheus]

# Queries that may have nothing to show in this life, and why.
WITHOUT_DATA = {
    "controller.json: Informers C": "whether a watch fails is chance",
    "controller.json: Events B": "no event is dropped here",
}


def _values(board: str, life: Life) -> dict[str, str]:
    rate = {"__rate_interval": f"{8 * EVERY}s", "__range": _all_of(life)}
    return {**values_for(board), **rate}


def _all_of(life: Life) -> str:
    return f"{round(life.ended - life.began)}s"


def _what_is_missing(expr: str, life: Life) -> str:
    """The query, and its metrics that nobody has shown, whatever their labels."""
    names = sorted(set(re.findall(r"([a-zA-Z_:][\w:]*)\{", expr)))
    seen = {name: life.prometheus.instant(f"count_over_time({name}[{_all_of(life)}])", life.ended) for name in names}
    return f"no data: {expr}\nmetrics that nobody has shown: {[name for name in names if not seen[name]]}"


@pytest.mark.parametrize("asked", list(queries()), ids=str)
def test_every_query_has_data_of_a_real_life(asked: Asked, watched_life: Life) -> None:
    life = watched_life
    (now,) = [one for one in queries({asked.board: _values(asked.board, life)}) if str(one) == str(asked)]
    found = life.prometheus.range(now.expr, life.began, life.ended, EVERY)
    numbers = [value for series in found for _, value in series["values"] if value not in ("NaN", "+Inf", "-Inf")]
    assert numbers or str(asked) in WITHOUT_DATA, _what_is_missing(now.expr, life)


def test_what_may_have_no_data_is_a_query_that_there_is() -> None:
    assert set(WITHOUT_DATA) <= {str(asked) for asked in queries()}


def test_traffic_moves_from_the_adapter_to_the_artifact_and_back(watched_life: Life, bot: Release) -> None:
    life = watched_life
    (asked,) = [a for a in queries({"release.json": _values("release.json", life)}) if "annotation" in a.panel]
    found = life.prometheus.range(asked.expr, life.began, life.ended, EVERY)
    assert {series["metric"]["backend"] for series in found} == {"Adapter", "Artifact"}
    selector = f'release="{NAMESPACE}/{bot.name}", code="200"'
    sums = f"sum by (backend) (increase(adapterrelease_requests_total{{{selector}}}[{_all_of(life)}]))"
    answered = {
        s["metric"]["backend"].partition("-")[0]: float(s["value"][1])
        for s in life.prometheus.instant(sums, life.ended)
    }
    assert answered["adapter"] > 0 and answered["artifact"] > 0
