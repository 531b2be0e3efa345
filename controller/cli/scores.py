"""Prints what an evaluation measured, and asks the domain for the verdict.

Must not know how it was measured.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal

from controller.api.types import FRACTION_PATTERN
from controller.api.v1alpha1 import Source, Suite, Validation
from controller.domain.checks import Judgement, judge, judge_alone
from controller.errors import PermanentError
from controller.job.reasons import Reason
from controller.job.scores import shown_share
from controller.job.summary import EvaluateResult, Throughput
from controller.reconcile.measured import measured


def limits(suites: Sequence[str], max_score_drop: str, min_score: str | None) -> Validation:
    """The same limits for each suite. Raises PermanentError for what is no share."""
    for option, share in (("--max-score-drop", max_score_drop), ("--min-score", min_score)):
        if share is not None and not _is_share(share):
            raise PermanentError(f"{option} {share}: give a share from 0 to 1", reason=Reason.INVALID_ARGUMENT)
    given = {"max_score_drop": max_score_drop, "max_quantized_score_drop": max_score_drop, "min_score": min_score}
    named = [Suite(name=name, source=Source(uri=f"pvc://local/{name}"), **given) for name in suites]
    return Validation(suites=named)


def _is_share(text: str) -> bool:
    return re.fullmatch(FRACTION_PATTERN, text) is not None and Decimal(text) <= 1


def verdict(validation: Validation, result: EvaluateResult, *, alone: bool) -> Judgement:
    """The verdict that the controller would give; `alone`: of a candidate that was compared with nothing."""
    found = measured(result)
    return judge_alone(validation, found) if alone else judge(validation, True, found)


def report(result: EvaluateResult, judgement: Judgement, as_json: bool) -> str:
    """For people, or for programs."""
    if as_json:
        document = json.loads(result.to_json())
        return json.dumps(document | {"verdict": str(judgement.verdict), "message": judgement.message})
    lines = [
        f"{s.name}: reference {shown_share(s.reference)}, candidate {shown_share(s.candidate)},"
        f" same answer {shown_share(s.agreement)}"
        f" ({s.samples} samples, {s.errors} errors)"
        for s in result.suites
    ]
    if result.benchmark is not None:
        if result.benchmark.reference is not None:
            lines.append(_line("reference", result.benchmark.reference))
        lines.append(_line("candidate", result.benchmark.candidate))
        speedup = result.benchmark.speedup
        lines.append(f"speedup: {speedup:.2f}" if speedup is not None else "speedup: not measured")
    return "\n".join([*lines, f"verdict: {judgement.verdict}: {judgement.message}"])


def _line(name: str, t: Throughput) -> str:
    return (
        f"{name}: {t.output_tokens_per_second:.1f} tokens/s, {t.requests_per_second:.2f} requests/s,"
        f" mean {t.mean_latency_seconds:.3f} s, p95 {t.p95_latency_seconds:.3f} s, {t.errors} errors"
    )
