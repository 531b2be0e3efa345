"""Intervals of scores and of their differences, against their definitions and by counting every possible suite."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.job.evaluation import Outcomes
from controller.report.confidence import Interval, paired_difference, share
from controller.report.facts import Suite
from controller.report.scores import scored, worst

paired = cache(paired_difference)


def at_least(right: int, samples: int, p: float) -> float:
    """Chance of `right` or more right answers, where each is right with chance `p`: exactly."""
    exact = Fraction(p)
    return float(
        sum(math.comb(samples, i) * exact**i * (1 - exact) ** (samples - i) for i in range(right, samples + 1))
    )


@pytest.mark.parametrize(("right", "samples"), [(1, 10), (10, 20), (19, 20), (99, 100), (188, 200), (3, 7)])
def test_a_score_further_out_than_its_interval_would_be_seen_in_one_suite_of_forty(right: int, samples: int) -> None:
    found = share(right, samples)
    assert at_least(right, samples, found.low) == pytest.approx(0.025, abs=1e-9)
    assert 1 - at_least(right + 1, samples, found.high) == pytest.approx(0.025, abs=1e-9)


def test_all_right_and_none_right_end_where_shares_end() -> None:
    assert share(20, 20) == Interval(pytest.approx(0.025 ** (1 / 20)), 1.0)
    assert share(0, 20) == Interval(0.0, pytest.approx(1 - 0.025 ** (1 / 20)))


@settings(deadline=None)  # the machine may be busy
@given(st.integers(1, 100_000), st.data())
def test_an_interval_holds_its_score_whatever_the_size(samples: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, samples))
    found = share(right, samples)
    assert 0 <= found.low <= right / samples <= found.high <= 1
    assert found.high - found.low < 5 / math.sqrt(samples)


@pytest.mark.parametrize("samples", [10, 25])
@pytest.mark.parametrize("lost", [0.0, 0.02, 0.1, 0.3])
@pytest.mark.parametrize("gained", [0.0, 0.02, 0.1, 0.3])
def test_the_true_difference_is_in_the_interval_of_nearly_all_suites(samples: int, lost: float, gained: float) -> None:
    """95 % is what a score interval comes near to, from both sides: every possible suite is counted here."""
    covered = 0.0
    for g in range(samples + 1):
        for b in range(samples + 1 - g):
            chance = math.comb(samples, g) * math.comb(samples - g, b)
            chance *= gained**g * lost**b * (1 - gained - lost) ** (samples - g - b)
            found = paired(g, b, samples)
            covered += chance * (found.low - 1e-9 <= gained - lost <= found.high + 1e-9)
    assert covered > 0.92


def test_a_suite_in_which_nothing_changed_does_not_prove_that_nothing_can() -> None:
    found = paired_difference(0, 0, 20)
    z2 = 1.959963984540054**2
    assert (found.low, found.high) == (pytest.approx(-z2 / (20 + z2)), pytest.approx(z2 / (20 + z2)))


@settings(deadline=None)  # the machine may be busy
@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 200))
def test_who_is_compared_with_whom_turns_the_interval_around(gained: int, lost: int, same: int) -> None:
    samples = gained + lost + same + 1
    one, other = paired_difference(gained, lost, samples), paired_difference(lost, gained, samples)
    assert one.low == pytest.approx(-other.high, abs=1e-9) and one.high == pytest.approx(-other.low, abs=1e-9)
    assert one.low <= (gained - lost) / samples <= one.high


def test_more_examples_make_it_surer() -> None:
    widths = [(i := paired_difference(n, 3 * n, 100 * n)).high - i.low for n in (1, 4, 16)]
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize(("right", "samples"), [(1, 0), (-1, 4), (5, 4)])
def test_what_is_no_share_is_refused(right: int, samples: int) -> None:
    with pytest.raises(ValueError, match="no share"):
        share(right, samples)
    with pytest.raises(ValueError, match="no shares"):
        paired_difference(right, 0, samples)


def test_the_difference_has_no_interval_where_nobody_counted_which_examples_changed() -> None:
    known = Suite(
        "s", 20, 0.9, 0.85, outcomes=Outcomes(both_right=17, only_reference=1, only_candidate=0, both_wrong=2)
    )
    unknown = Suite("s", 20, 0.9, 0.85)
    assert scored(known).sure is not None
    assert (scored(unknown).difference, scored(unknown).sure) == (pytest.approx(-0.05), None)


def test_a_score_of_four_digits_is_the_count_that_it_was_made_from() -> None:
    found = scored(Suite("s", 30, 0.9667, 0.9333)).artifact
    assert found.share == 28 / 30 and found.interval == share(28, 30)


def test_a_share_that_is_none_of_so_many_examples_has_no_interval() -> None:
    assert scored(Suite("s", 20, 0.9, 0.913)).artifact.interval is None


def test_the_worst_suite_is_the_one_that_lost_most() -> None:
    found = [scored(Suite(n, 10, a, b)) for n, a, b in (("a", 0.5, 0.5), ("b", 1.0, 0.9), ("c", 0.2, 0.3))]
    assert worst(found) is found[1]
    alone = [scored(Suite(n, 10, None, b)) for n, b in (("a", 0.9), ("b", 0.7))]
    assert worst(alone) is alone[1]
    assert worst([]) is None
