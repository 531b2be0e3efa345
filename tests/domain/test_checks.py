"""The verdict on an artifact and the reading of one sample: everything that is not a complete, good result."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.status import Counters
from controller.api.v1alpha1 import Observe, Validation
from controller.domain.checks import Verdict, judge, judge_alone, read_sample
from controller.domain.snapshot import EvaluateResult, SuiteResult

SOURCE = {"uri": "pvc://store/suites/support.jsonl"}


def suite(name: str = "support", **limits: str) -> dict[str, Any]:
    return {"name": name, "source": SOURCE} | limits


def validation(*suites: dict[str, Any], speedup: str = "0") -> Validation:
    wire = {"suites": list(suites) or [suite()], "benchmark": {"minSpeedup": speedup}}
    return Validation.model_validate(wire)


def scored(artifact: float, adapter: float = 0.9, name: str = "support", **more: Any) -> SuiteResult:
    facts: dict[str, Any] = {"samples": 100} | more
    return SuiteResult(name, adapter=adapter, artifact=artifact, **facts)


def result(*suites: SuiteResult, **more: Any) -> EvaluateResult:
    return EvaluateResult(suites or (scored(0.9),), **more)


def verdict(wanted: Validation, given: EvaluateResult | None, quantized: bool = True) -> Verdict:
    return judge(wanted, quantized, given).verdict


# -- without an adapter to compare with


def alone(artifact: float, **more: Any) -> SuiteResult:
    return SuiteResult("support", 100, None, artifact, None, **more)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (alone(0.8), Verdict.PASS),
        (alone(0.799999), Verdict.FAIL),
        (alone(math.nan), Verdict.INCONCLUSIVE),
        (alone(0.9, errors=1), Verdict.INCONCLUSIVE),
    ],
)
def test_without_an_adapter_every_suite_has_to_reach_its_min_score(given: SuiteResult, expected: Verdict) -> None:
    assert judge_alone(validation(suite(minScore="0.8")), EvaluateResult((given,))).verdict is expected


@pytest.mark.parametrize(
    "wanted",
    [
        validation(suite()),
        validation(suite(minScore="0")),
        validation(suite(minScore="0.8"), suite("chat")),
        validation(suite(minScore="0.8"), speedup="1.1"),
    ],
)
def test_without_an_adapter_and_without_min_score_nothing_is_proven(wanted: Validation) -> None:
    given = EvaluateResult((alone(1.0), SuiteResult("chat", 100, None, 1.0, None)))
    judgement = judge_alone(wanted, given)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.message.startswith("there is no live adapter to compare with: ")


def test_a_suite_that_was_not_scored_alone_is_inconclusive() -> None:
    assert judge_alone(validation(suite(minScore="0.8")), EvaluateResult()).verdict is Verdict.INCONCLUSIVE


def test_a_comparison_without_the_adapter_is_inconclusive() -> None:
    assert verdict(validation(suite(minScore="0.8")), EvaluateResult((alone(1.0),))) is Verdict.INCONCLUSIVE


# -- suites


def test_equal_scores_pass_and_the_message_has_them() -> None:
    judgement = judge(validation(), True, result(scored(0.9)))
    assert judgement.verdict is Verdict.PASS
    assert judgement.message == "suite support: adapter 0.9, artifact 0.9"


def test_a_better_artifact_passes() -> None:
    assert verdict(validation(), result(scored(1.0, adapter=0.2))) is Verdict.PASS


@pytest.mark.parametrize(
    ("adapter", "artifact", "limit"),
    [(0.995, 0.985, "0.01"), (0.3, 0.1, "0.2"), (0.7, 0.6, "0.1"), (1.0, 0.999, "0.001"), (0.29, 0.28, "0.01")],
)
def test_a_drop_of_exactly_the_limit_passes_whatever_floats_make_of_it(
    adapter: float, artifact: float, limit: str
) -> None:
    wanted = validation(suite(maxQuantizedScoreDrop=limit))
    assert verdict(wanted, result(scored(artifact, adapter))) is Verdict.PASS


@pytest.mark.parametrize("artifact", [0.0, 0.9])
def test_with_an_adapter_that_has_no_right_answer_nothing_can_be_compared(artifact: float) -> None:
    judgement = judge(validation(), True, result(scored(artifact, adapter=0.0)))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.message == (
        "suite support: the live adapter has no right answer, so nothing can be compared: "
        "look at its examples' expected answers and its scorer"
    )


def test_with_an_adapter_that_has_no_right_answer_an_artifact_below_min_score_fails_all_the_same() -> None:
    judgement = judge(validation(suite(minScore="0.8")), True, result(scored(0.1, adapter=0.0)))
    assert judgement.verdict is Verdict.FAIL
    assert judgement.message.endswith("below minScore 0.8")


def test_a_drop_just_over_the_limit_fails_and_the_message_says_by_what() -> None:
    judgement = judge(validation(), True, result(scored(0.984999, adapter=0.995)))
    assert judgement.verdict is Verdict.FAIL
    assert judgement.message == (
        "suite support: adapter 0.995, artifact 0.984999: a drop of 0.010001, and 0.01 is allowed"
    )


def test_an_unquantized_artifact_has_a_limit_of_its_own() -> None:
    dropped = result(scored(0.895))
    assert verdict(validation(), dropped, quantized=True) is Verdict.PASS
    assert verdict(validation(), dropped, quantized=False) is Verdict.FAIL


def test_a_score_at_min_score_passes_and_one_below_it_fails() -> None:
    wanted = validation(suite(minScore="0.8"))
    assert verdict(wanted, result(scored(0.8, adapter=0.8))) is Verdict.PASS
    below = judge(wanted, True, result(scored(0.799999, adapter=0.8)))
    assert below.verdict is Verdict.FAIL
    assert below.message.endswith("below minScore 0.8")


def test_no_result_at_all_is_inconclusive() -> None:
    assert judge(validation(), True, None).message == "the validation gave no result"
    assert verdict(validation(), None) is Verdict.INCONCLUSIVE


def test_a_result_without_suites_is_inconclusive() -> None:
    assert verdict(validation(), EvaluateResult()) is Verdict.INCONCLUSIVE


def test_a_suite_that_was_not_scored_is_inconclusive_even_beside_one_that_passed() -> None:
    judgement = judge(validation(suite(), suite("chat")), True, result(scored(0.9)))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.message == "suite chat was not scored"


def test_a_suite_that_nobody_asked_for_does_not_count() -> None:
    assert verdict(validation(), result(scored(0.9), scored(0.1, name="other"))) is Verdict.PASS
    assert verdict(validation(), result(scored(0.9, name="other"))) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("samples", [0, -1])
def test_an_empty_suite_is_inconclusive(samples: int) -> None:
    assert verdict(validation(), result(scored(0.9, samples=samples))) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, -math.inf, -0.1, 1.1])
def test_a_score_that_is_no_share_is_inconclusive_on_either_side(nonsense: float) -> None:
    assert verdict(validation(), result(scored(nonsense))) is Verdict.INCONCLUSIVE
    assert verdict(validation(), result(scored(0.9, adapter=nonsense))) is Verdict.INCONCLUSIVE


def test_one_request_without_an_answer_is_inconclusive_and_counted() -> None:
    judgement = judge(validation(), True, result(scored(0.9, errors=1)))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.message == "suite support: 1 requests had no answer, so there is no score"


def test_fail_outweighs_inconclusive() -> None:
    both = result(scored(0.1), scored(math.nan, name="chat"))
    judgement = judge(validation(suite(), suite("chat")), True, both)
    assert judgement.verdict is Verdict.FAIL
    assert "chat" not in judgement.message


def test_every_failure_is_named() -> None:
    judgement = judge(validation(suite(), suite("chat")), True, result(scored(0.1), scored(0.2, name="chat")))
    assert judgement.message.count("a drop of") == 2


def test_a_validation_without_suites_proves_nothing() -> None:
    """The API server refuses it; somebody may have got around it."""
    empty = validation().model_copy(update={"suites": []})
    assert verdict(empty, result(scored(0.9))) is Verdict.INCONCLUSIVE


# -- speed


@pytest.mark.parametrize(
    ("speedup", "expected"),
    [
        (1.2, Verdict.PASS),
        (1.19999999999, Verdict.PASS),  # 1.2, as far as the API can say
        (1.1999, Verdict.FAIL),
        (0.0, Verdict.FAIL),
        (None, Verdict.INCONCLUSIVE),
        (math.nan, Verdict.INCONCLUSIVE),
        (math.inf, Verdict.INCONCLUSIVE),
    ],
)
def test_speed_is_judged_where_a_min_speedup_is_set(speedup: float | None, expected: Verdict) -> None:
    assert verdict(validation(speedup="1.2"), result(speedup=speedup)) is expected


def test_a_benchmark_with_errors_has_no_speedup() -> None:
    assert verdict(validation(speedup="1"), result(speedup=5.0, benchmark_errors=1)) is Verdict.INCONCLUSIVE


def test_without_a_min_speedup_the_speed_is_only_reported() -> None:
    assert verdict(validation(), result(speedup=0.1)) is Verdict.PASS
    assert verdict(validation(), result(speedup=None)) is Verdict.PASS


# -- whatever comes

numbers = st.floats(allow_nan=True, allow_infinity=True) | st.floats(0, 1)
suites = st.lists(
    st.builds(
        SuiteResult,
        name=st.sampled_from(["support", "chat", "other"]),
        samples=st.integers(-2, 3),
        adapter=numbers,
        artifact=numbers,
        agreement=numbers,
        errors=st.integers(-1, 2),
    ),
    max_size=3,
    unique_by=lambda s: s.name,
).map(tuple)
results = st.none() | st.builds(
    EvaluateResult, suites=suites, speedup=st.none() | numbers, benchmark_errors=st.integers(0, 1)
)


@given(results, st.sampled_from(["0", "0.5"]), st.booleans())
def test_only_a_complete_finite_good_result_passes(
    given: EvaluateResult | None, min_speedup: str, quantized: bool
) -> None:
    wanted = validation(suite(minScore="0.5"), suite("chat"), speedup=min_speedup)
    if verdict(wanted, given, quantized) is not Verdict.PASS:
        return
    assert given is not None
    by_name = {s.name: s for s in given.suites}
    for name in ("support", "chat"):
        one = by_name[name]
        assert one.samples > 0 and one.errors == 0
        assert 0 < one.adapter <= 1 and 0 <= one.artifact <= 1
        assert one.adapter - one.artifact <= (0.01 if quantized else 0.001) + 1e-6
    assert by_name["support"].artifact >= 0.5 - 1e-6
    if min_speedup != "0":
        assert given.speedup is not None and given.speedup >= 0.4999 and not given.benchmark_errors


@given(suites.filter(bool), st.sampled_from(["samples", "errors", "adapter", "artifact", "name"]))
def test_breaking_one_field_of_a_good_result_takes_the_pass_away(drawn: tuple[SuiteResult, ...], field: str) -> None:
    broken: dict[str, Any] = {"samples": 0, "errors": 1, "adapter": math.nan, "artifact": math.nan, "name": "other"}
    good = scored(0.9)
    assert verdict(validation(), result(good)) is Verdict.PASS
    others = tuple(s for s in drawn if s.name == "chat")
    changed: dict[str, Any] = {field: broken[field]}
    assert verdict(validation(), result(replace(good, **changed), *others)) is not Verdict.PASS


# -- one sample


def counters(requests: int = 0, errors: int = 0, milliseconds: int = 0, pods: str = "m1/0") -> Counters:
    return Counters(
        pods=pods.split(),
        requests=requests,
        errors=errors,
        latency_milliseconds=milliseconds,
        latency_count=requests - errors,
    )


def observe(**limits: Any) -> Observe:
    return Observe.model_validate(limits)


def test_a_good_sample_says_what_it_measured() -> None:
    reading = read_sample(observe(), "0.2", counters(100, 0, 10_000), counters(300, 1, 40_000))
    assert (reading.requests, reading.error_rate, reading.failure) == (200, Decimal("0.0050"), "")
    assert reading.latency_seconds == Decimal("0.1508")
    assert reading.has_data


@pytest.mark.parametrize(("errors", "fails"), [(1, False), (2, True)])
def test_an_error_rate_at_the_limit_passes_and_one_over_it_fails(errors: int, fails: bool) -> None:
    reading = read_sample(observe(maxErrorRate="0.01"), "", counters(), counters(100, errors))
    assert bool(reading.failure) is fails
    if fails:
        assert reading.failure == "error rate 0.0200 is over maxErrorRate 0.01"


@pytest.mark.parametrize(("milliseconds", "fails"), [(20_000, False), (20_100, True)])
def test_latency_is_compared_with_the_adapters(milliseconds: int, fails: bool) -> None:
    reading = read_sample(observe(maxLatencyRatio="2"), "0.1000", counters(), counters(100, 0, milliseconds))
    assert bool(reading.failure) is fails
    if fails:
        assert reading.failure == "mean latency 0.2010 s is over 2 times the adapter's 0.1000 s"


@pytest.mark.parametrize("unknown", ["", "0", "0.0000", "nan", "inf"])
def test_without_a_usable_latency_of_the_adapter_there_is_nothing_to_compare(unknown: str) -> None:
    assert read_sample(observe(), unknown, counters(), counters(100, 0, 900_000)).failure == ""


def test_a_latency_ratio_of_zero_checks_nothing() -> None:
    assert read_sample(observe(maxLatencyRatio="0"), "0.1", counters(), counters(100, 0, 900_000)).failure == ""


@pytest.mark.parametrize(("requests", "data"), [(0, False), (9, False), (10, True)])
def test_fewer_requests_than_min_requests_are_missing_data(requests: int, data: bool) -> None:
    reading = read_sample(observe(minRequests=10), "", counters(), counters(requests, requests))
    assert (reading.requests, reading.has_data) == (requests, data)


def test_a_container_that_is_gone_is_a_failure_whatever_the_counters_say() -> None:
    reading = read_sample(observe(), "", counters(100, pods="m1/0 m2/0"), counters(500, pods="m1/0 m2/1"))
    assert reading.failure == "a container of the merged model is gone or was restarted: m2/0"
    assert reading.has_data


def test_a_container_that_was_added_is_none() -> None:
    assert read_sample(observe(), "", counters(0), counters(100, pods="m1/0 m2/0")).failure == ""


def test_counters_that_ran_backwards_are_missing_data() -> None:
    reading = read_sample(observe(), "", counters(500), counters(3))
    assert (reading.requests, reading.has_data) == (0, False)


counts = st.integers(0, 1000)


@given(counts, counts, counts, counts, st.sampled_from(["", "0.1", "nan", "0"]))
def test_a_sample_without_a_failure_stayed_within_its_limits(a: int, b: int, e: int, ms: int, latency: str) -> None:
    last, current = counters(a), counters(a + b, min(e, b), ms)
    reading = read_sample(observe(maxErrorRate="0.1"), latency, last, current)
    if not reading.failure and reading.error_rate is not None:
        assert min(e, b) / b <= 0.1 + 1e-4
        assert reading.has_data
