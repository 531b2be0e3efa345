"""Exponential backoff with jitter: how long to wait before the next try of one thing.

Computes durations only; knows no clock and does not sleep.
"""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Delays grow from `initial` by `factor` up to `maximum`; `reset` after a success.

    Each delay is spread over [delay, delay * (1 + jitter)], so that many clients of a server that has
    just come back do not all arrive at once. The defaults are those of client-go's reflector.
    """

    def __init__(
        self,
        initial: float = 0.8,
        maximum: float = 30.0,
        factor: float = 2.0,
        jitter: float = 1.0,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._initial = initial
        self._maximum = maximum
        self._factor = factor
        self._jitter = jitter
        self._uniform = uniform
        self._current = initial

    def next(self) -> float:
        """Seconds to wait now; the following delay is longer."""
        delay = self._current
        self._current = min(self._current * self._factor, self._maximum)
        return delay * self._uniform(1.0, 1.0 + self._jitter)

    def reset(self) -> None:
        self._current = self._initial
