"""Every reason that a user can meet is explained in docs/reasons.md."""

from __future__ import annotations

from collections import Counter

from controller.api.explanations import CONDITIONS, REASONS
from controller.api.job_failures import JOB_FAILURES
from controller.api.reasons import Reason
from controller.api.status import ConditionType, Step
from controller.job.reasons import Reason as JobReason

# Given by the command line only: no condition carries them.
OFFLINE = {JobReason.INVALID_ARGUMENT, JobReason.INVALID_RELEASE}


def test_every_reason_of_a_condition_is_explained_once() -> None:
    explained = Counter(reason for section in REASONS.values() for reason in section)
    assert set(explained) == set(Reason)
    assert set(explained.values()) == {1}


def test_every_condition_is_explained() -> None:
    assert set(CONDITIONS) == set(ConditionType)


def test_every_step_is_a_reason_of_the_condition_progressing() -> None:
    assert {str(step) for step in Step} <= {str(reason) for reason in Reason}


def test_every_reason_of_a_failed_job_is_explained() -> None:
    assert {str(reason) for reason in set(JobReason) - OFFLINE} <= set(JOB_FAILURES)
