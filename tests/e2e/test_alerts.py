"""Alerts in a real Prometheus, of a real cluster: each fires for its cause, and nothing fires without one.

Their `for` is divided by HURRY (tests/prometheus/rules.py), where one is waited for; otherwise it is what users have.
"""

from __future__ import annotations

import pytest

from tests.e2e.recorded import Life
from tests.e2e.watched_life import CAUSES

pytestmark = [pytest.mark.e2e, pytest.mark.prometheus]


@pytest.mark.parametrize("alert", CAUSES)
def test_an_alert_fires_for_its_real_cause(alert: str, watched_life: Life) -> None:
    assert watched_life.fired[alert] == ""


def test_while_all_is_well_only_the_adapter_that_was_refused_is_told_of(watched_life: Life) -> None:
    """An import, a build, a validation, a swap, under load."""
    assert watched_life.unhurried(until=watched_life.fails_at) <= {"AdapterReleaseImportFailed"}


def test_in_all_of_it_no_alert_fires_that_has_no_cause(watched_life: Life) -> None:
    assert watched_life.unhurried(until=watched_life.ended) <= set(CAUSES)
