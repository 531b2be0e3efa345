"""How sure a score and a difference of scores are, from counts alone: no random numbers, so two reports agree.

Must not know what was counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

LEVEL = 0.95
_Z = 1.959963984540054  # of the normal distribution, for 95 % between -z and z
_STEPS = 80  # halvings: beyond what a float can tell apart


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


def share(right: int, samples: int) -> Interval:
    """The exact interval of Clopper and Pearson (1934) for a share of `right` in `samples`.

    It holds the true share in at least 95 % of all suites of that size, whatever the share is.
    """
    if not 0 <= right <= samples or samples == 0:
        raise ValueError(f"{right} of {samples} is no share")
    tail = (1 - LEVEL) / 2
    low = 0.0 if right == 0 else _solve(lambda p: _beta(p, right, samples - right + 1) - tail)
    high = 1.0 if right == samples else _solve(lambda p: _beta(p, right + 1, samples - right) - (1 - tail))
    return Interval(low, high)


def paired_difference(gained: int, lost: int, samples: int) -> Interval:
    """Tango's score interval (1998) for (gained - lost) / samples, where both answered the same examples.

    A bootstrap of examples none of which changed says "no difference" for certain; this one does not.
    """
    if min(gained, lost) < 0 or gained + lost > samples or samples == 0:
        raise ValueError(f"{gained} and {lost} of {samples} are no shares")
    found = (gained - lost) / samples
    low = -1.0 if lost == samples else _solve(lambda d: _Z - _score(gained, lost, samples, d), -1.0, found)
    high = 1.0 if gained == samples else _solve(lambda d: -_Z - _score(gained, lost, samples, d), found, 1.0)
    return Interval(low, high)


def _score(gained: int, lost: int, samples: int, difference: float) -> float:
    """How far the counts are from a true `difference`, in standard deviations. Falls as the difference grows."""
    distance = gained - lost - samples * difference
    a = 2 * samples
    b = -gained - lost + (2 * samples - gained + lost) * difference
    c = -lost * difference * (1 - difference)
    of_lost = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = samples * (2 * of_lost + difference * (1 - difference))
    if variance <= 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def _solve(rising: Callable[[float], float], low: float = 0.0, high: float = 1.0) -> float:
    """Where `rising` crosses zero."""
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if rising(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _beta(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function, by Lentz's continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    tiny = 1e-300
    f, c, d = 1.0, 1.0, 0.0
    for i in range(5000):
        m = i // 2
        if i == 0:
            term = 1.0
        elif i % 2 == 0:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1 / (1 + term * d or tiny)
        c = 1 + term / c or tiny
        f *= c * d
        if i and abs(c * d - 1) < 1e-14:
            break
    return front * (f - 1) / a
