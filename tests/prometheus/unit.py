"""A case as a file of promtool's unit tests: one test in which the alert fires, and others in which it does not."""

from __future__ import annotations

from typing import Any

from tests.prometheus.cases import Case, Series
from tests.prometheus.rules import DIRECTORY, FILES, rules

Json = dict[str, Any]


def document(case: Case) -> Json:
    tests = [_test(case, case.fires, [_expected(case)]), *(_test(case, series, []) for series in case.silent)]
    return {
        "rule_files": [str(DIRECTORY / file) for file in FILES],
        "evaluation_interval": "1m",
        "fuzzy_compare": True,
        "tests": tests,
    }


def _test(case: Case, series: Series, expected: list[Json]) -> Json:
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"alertname": case.alert, "eval_time": case.at, "exp_alerts": expected}],
    }


def _expected(case: Case) -> Json:
    (rule,) = (rule for rule in rules("alerts.yaml") if rule["alert"] == case.alert)
    return {
        "exp_labels": {**case.labels, "severity": rule["labels"]["severity"]},
        "exp_annotations": {**rule["annotations"], "summary": case.summary},
    }
