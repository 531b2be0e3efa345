"""Every query of every dashboard has data of a real life of releases, in a real Prometheus."""

from __future__ import annotations

import pytest

from tests.e2e.scraping import EVERY
from tests.e2e.watched_life import BOT, Life
from tests.prometheus.boards import Asked, queries, values_for

pytestmark = [pytest.mark.e2e, pytest.mark.prometheus]

# Queries that may have nothing to show in this life, and why.
WITHOUT_DATA = {
    "release.json: Progress of the build A": "a tiny model's stages may end between two looks of the controller",
    "controller.json: Informers C": "whether a watch fails is chance",
    "controller.json: Events B": "no event is dropped here",
}


def _values(board: str, life: Life) -> dict[str, str]:
    rate = {"__rate_interval": f"{8 * EVERY}s", "__range": f"{round(life.ended - life.began)}s"}
    return {**values_for(board), **rate}


@pytest.mark.parametrize("asked", list(queries()), ids=str)
def test_every_query_has_data_of_a_real_life(asked: Asked, watched_life: Life) -> None:
    life = watched_life
    filled = {board: _values(board, life) for board in ("release.json", "fleet.json", "controller.json")}
    (now,) = [one for one in queries(filled) if str(one) == str(asked)]
    found = life.prometheus.range(now.expr, life.began, life.ended, EVERY)
    numbers = [value for series in found for _, value in series["values"] if value not in ("NaN", "+Inf", "-Inf")]
    assert numbers or str(asked) in WITHOUT_DATA, f"no data: {now.expr}"


def test_what_may_have_no_data_is_a_query_that_there_is() -> None:
    assert set(WITHOUT_DATA) <= {str(asked) for asked in queries()}


def test_traffic_moves_from_the_adapter_to_the_artifact_and_back(watched_life: Life) -> None:
    life = watched_life
    (asked,) = [a for a in queries({"release.json": _values("release.json", life)}) if "annotation" in a.panel]
    found = life.prometheus.range(asked.expr, life.began, life.ended, EVERY)
    assert {series["metric"]["backend"] for series in found} == {"Adapter", "Artifact"}
    sums = f'sum by (backend) (increase(adapterrelease_requests_total{{release="llm/{BOT}", code="200"}}[30m]))'
    answered = {
        s["metric"]["backend"].partition("-")[0]: float(s["value"][1])
        for s in life.prometheus.instant(sums, life.ended)
    }
    assert answered["adapter"] > 0 and answered["artifact"] > 0
