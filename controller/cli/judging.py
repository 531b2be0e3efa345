"""The verdict on what is kept of an evaluation, by the tolerances in a release's file: the controller's own judgement.

Must not know how a report looks.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import yaml
from pydantic import ValidationError

from controller.api.v1alpha1 import AdapterRelease
from controller.domain.checks import judge, judge_alone
from controller.errors import PermanentError
from controller.job.provenance import parse_artifact
from controller.job.reasons import Reason
from controller.reconcile.measured import measured
from controller.report.documents import Documents, evaluation_of
from controller.report.facts import Report, Verdict


def judged_by(path: Path, report: Report, documents: Documents, evaluation: str | None) -> Report:
    """`report` with the verdict that the controller would give. Raises PermanentError for a file that is no release."""
    release = _read(path)
    said = evaluation_of(documents, evaluation)
    if said is None or release.spec.validation is None:
        lacks = "it was not measured" if said is None else f"{path.name} has no spec.validation"
        return replace(report, verdict=Verdict(why=f"There is nothing to judge by: {lacks}."))
    quantized = parse_artifact(documents.artifact).inputs.get("quantization") is not None
    alone = all(s.reference is None for s in said.suites)
    validation, found = release.spec.validation, measured(said)
    judgement = judge_alone(validation, found) if alone else judge(validation, quantized, found)
    by = f"the tolerances in {path.name}, as the controller would"
    return replace(report, verdict=Verdict(str(judgement.verdict), judgement.message, by))


def _read(path: Path) -> AdapterRelease:
    try:
        return AdapterRelease.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError, ValueError) as e:
        raise PermanentError(f"{path} is no AdapterRelease: {e}", reason=Reason.INVALID_RELEASE) from e
