"""Judging: is the artifact as good as the adapter, and does the new backend behave? Pure functions.

No verdict is not a pass: an error, an empty suite, a missing suite or NaN is never Pass
(Argo Rollouts #4479, #1329, #2158, #3850: errored analyses were reported Successful).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from controller.api.status import Counters
from controller.api.v1alpha1 import Observe, Suite, Validation
from controller.domain.snapshot import EvaluateResult, SuiteResult


class Verdict(StrEnum):
    PASS = "Pass"  # noqa: S105
    FAIL = "Fail"
    INCONCLUSIVE = "Inconclusive"


@dataclass(frozen=True)
class Judgement:
    verdict: Verdict
    message: str


def judge(validation: Validation, quantized: bool, result: EvaluateResult | None) -> Judgement:
    """The verdict on one artifact that was compared with the live adapter."""
    if result is None:
        return Judgement(Verdict.INCONCLUSIVE, "the validation gave no result")

    def one(suite: Suite, scored: SuiteResult) -> Judgement:
        return _judge_suite(suite, quantized, scored)

    return _of_all([*_judge_suites(validation, result, one), *_judge_speed(validation, result)])


def judge_alone(validation: Validation, result: EvaluateResult) -> Judgement:
    """The verdict on one artifact whose adapter vLLM cannot serve: every suite has to reach its minScore."""
    if lacking := lacks_to_judge_alone(validation):
        return Judgement(Verdict.INCONCLUSIVE, lacking)
    return _of_all(list(_judge_suites(validation, result, _judge_suite_alone)))


def lacks_to_judge_alone(validation: Validation) -> str:
    """What the validation lacks where there is no live adapter to compare with, and what to do; "" for nothing.

    A minScore of 0 is none: everything reaches it.
    """
    wanted = []
    if lacking := [s.name for s in validation.suites if Decimal(s.min_score or 0) == 0]:
        wanted.append(f"set minScore over 0 in each suite ({', '.join(lacking)})")
    if Decimal(validation.benchmark.min_speedup) != 0:
        wanted.append("take benchmark.minSpeedup out, since a speedup over the adapter cannot be measured")
    return f"there is no live adapter to compare with: {'; '.join(wanted)}" if wanted else ""


def _of_all(findings: Sequence[Judgement]) -> Judgement:
    """Fail, where anything failed, outweighs Inconclusive."""
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE):
        if messages := [f.message for f in findings if f.verdict is verdict]:
            return Judgement(verdict, "; ".join(messages))
    return Judgement(Verdict.PASS, "; ".join(f.message for f in findings))


def _judge_suites(
    validation: Validation, result: EvaluateResult, one: Callable[[Suite, SuiteResult], Judgement]
) -> Iterator[Judgement]:
    if not validation.suites:  # the API server refuses this; somebody got around it
        yield Judgement(Verdict.INCONCLUSIVE, "the validation has no suite")
    scored = {s.name: s for s in result.suites}
    for suite in validation.suites:
        if suite.name not in scored:
            yield Judgement(Verdict.INCONCLUSIVE, f"suite {suite.name} was not scored")
        else:
            yield one(suite, scored[suite.name])


def _judge_suite(suite: Suite, quantized: bool, scored: SuiteResult) -> Judgement:
    adapter, artifact = _score(scored.adapter), _score(scored.artifact)
    if scored.samples <= 0 or adapter is None or artifact is None:
        return Judgement(Verdict.INCONCLUSIVE, f"suite {suite.name} has no usable score")
    if scored.errors:
        return _without_answers(suite, scored)
    allowed = Decimal(suite.max_quantized_score_drop if quantized else suite.max_score_drop)
    says = f"suite {suite.name}: adapter {adapter}, artifact {artifact}"
    if adapter - artifact > allowed:
        return Judgement(Verdict.FAIL, f"{says}: a drop of {adapter - artifact}, and {allowed} is allowed")
    judged = _judge_score(suite, artifact, says)
    if judged.verdict is Verdict.PASS and adapter == 0:
        says = f"suite {suite.name}: the live adapter has no right answer, so nothing can be compared"
        return Judgement(Verdict.INCONCLUSIVE, f"{says}: look at its examples' expected answers and its scorer")
    return judged


def _judge_suite_alone(suite: Suite, scored: SuiteResult) -> Judgement:
    artifact = _score(scored.artifact)
    if scored.samples <= 0 or artifact is None or suite.min_score is None:
        return Judgement(Verdict.INCONCLUSIVE, f"suite {suite.name} has no usable score")
    if scored.errors:
        return _without_answers(suite, scored)
    return _judge_score(suite, artifact, f"suite {suite.name}: artifact {artifact}, without an adapter to compare with")


def _without_answers(suite: Suite, scored: SuiteResult) -> Judgement:
    return Judgement(
        Verdict.INCONCLUSIVE, f"suite {suite.name}: {scored.errors} requests had no answer, so there is no score"
    )


def _judge_score(suite: Suite, artifact: Decimal, says: str) -> Judgement:
    if suite.min_score is not None and artifact < Decimal(suite.min_score):
        return Judgement(Verdict.FAIL, f"{says}: below minScore {suite.min_score}")
    return Judgement(Verdict.PASS, says)


def _judge_speed(validation: Validation, result: EvaluateResult) -> Iterator[Judgement]:
    wanted = Decimal(validation.benchmark.min_speedup)
    if wanted == 0:
        return
    if result.speedup is None or not math.isfinite(result.speedup) or result.benchmark_errors:
        yield Judgement(Verdict.INCONCLUSIVE, "the benchmark gave no speedup")
    elif (speedup := Decimal(str(round(result.speedup, 4)))) < wanted:
        yield Judgement(Verdict.FAIL, f"speedup {speedup} is below minSpeedup {wanted}")


def _score(value: float | None) -> Decimal | None:
    """A share, rounded to what the API can say (six digits); None for anything that is no share."""
    if value is None or not math.isfinite(value) or not 0 <= value <= 1:
        return None
    return round(Decimal(value), 6).normalize() + Decimal(0)


@dataclass(frozen=True)
class Reading:
    """What one sample says. `restarted` names containers that are gone since the last one."""

    requests: int = 0
    error_rate: Decimal | None = None
    latency_seconds: Decimal | None = None
    failure: str = ""

    @property
    def has_data(self) -> bool:
        return bool(self.failure) or self.error_rate is not None


def read_sample(observe: Observe, adapter_latency: str, last: Counters, current: Counters) -> Reading:
    """Compare two readings of the counters of the new backend's pods. Latency in seconds."""
    if gone := sorted(set(last.pods) - set(current.pods)):
        return Reading(failure=f"a container of the merged model is gone or was restarted: {gone[0]}")
    requests = current.requests - last.requests
    if requests < observe.min_requests:
        return Reading(requests=max(requests, 0))
    error_rate = round(Decimal(current.errors - last.errors) / requests, 4)
    timed = current.latency_count - last.latency_count
    latency = (
        round(Decimal(current.latency_milliseconds - last.latency_milliseconds) / timed / 1000, 4)
        if timed > 0
        else None
    )
    return Reading(requests, error_rate, latency, _failure(observe, adapter_latency, error_rate, latency))


def _failure(observe: Observe, adapter_latency: str, error_rate: Decimal, latency: Decimal | None) -> str:
    if error_rate > Decimal(observe.max_error_rate):
        return f"error rate {error_rate} is over maxErrorRate {observe.max_error_rate}"
    ratio, known = Decimal(observe.max_latency_ratio), Decimal(adapter_latency or 0)
    if not ratio or latency is None or not known or not known.is_finite():
        return ""
    if latency > ratio * known:
        return f"mean latency {latency} s is over {ratio} times the adapter's {adapter_latency} s"
    return ""
