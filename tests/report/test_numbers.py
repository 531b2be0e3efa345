"""Numbers for people."""

from __future__ import annotations

import pytest

from controller.report.numbers import counted, nice_top, percent, points, rate, seconds, size, times


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (percent(0.945), "94.5 %"),
        (points(0.005), "+0.5"),
        (points(-0.01), "−1.0"),
        (points(-0.0001), "0.0"),
        (size(999), "999 B"),
        (size(999_960_000), "1.0 GB"),
        (size(5_700_000_000), "5.7 GB"),
        (seconds(0.32), "320 ms"),
        (seconds(0.9996), "1.0 s"),
        (seconds(59.97), "1 min 00 s"),
        (seconds(1912), "31 min 52 s"),
        (seconds(7380), "2 h 03 min"),
        (rate(0.523), "0.52"),
        (rate(54.32), "54.3"),
        (rate(1204.4), "1204"),
        (times(1.418), "1.42×"),
        (times(None), ""),
        (counted(1, "request", "requests"), "1 request"),
        (counted(1204, "request", "requests"), "1,204 requests"),
    ],
)
def test_a_number_is_short_and_says_its_unit(shown: str, wanted: str) -> None:
    assert shown == wanted


@pytest.mark.parametrize(("value", "top"), [(0, 1), (0.72, 0.8), (1.0, 1), (137, 150), (0.0051, 0.006), (99, 100)])
def test_an_axis_ends_at_a_round_number(value: float, top: float) -> None:
    assert nice_top(value) == pytest.approx(top)
