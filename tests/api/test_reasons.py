"""Every reason that a user can meet is explained in docs/reasons.md."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from controller.api.explanations import CONDITIONS, REASONS
from controller.api.job_failures import JOB_FAILURES
from controller.api.reasons import Reason
from controller.api.status import ConditionType, Step
from controller.job import findings

JOB = Path(findings.__file__).parent


def reasons_given_by_jobs() -> Iterator[str]:
    """Strings behind `reason=` in controller/job, and the findings of the adapter check."""
    yield from (str(reason) for reason in findings.Reason)
    for source in JOB.glob("*.py"):
        for call in ast.walk(ast.parse(source.read_text())):
            if isinstance(call, ast.Call):
                for keyword in call.keywords:
                    if keyword.arg == "reason" and isinstance(keyword.value, ast.Constant):
                        yield str(keyword.value.value)


def test_every_reason_of_a_condition_is_explained_once() -> None:
    explained = Counter(reason for section in REASONS.values() for reason in section)
    assert set(explained) == set(Reason)
    assert set(explained.values()) == {1}


def test_every_condition_is_explained() -> None:
    assert set(CONDITIONS) == set(ConditionType)


def test_every_step_is_a_reason_of_the_condition_progressing() -> None:
    assert {str(step) for step in Step} <= {str(reason) for reason in Reason}


def test_every_reason_of_a_failed_job_is_explained() -> None:
    assert sorted(set(reasons_given_by_jobs()) - set(JOB_FAILURES)) == []
