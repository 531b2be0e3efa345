"""What rounds say about the plugin's cost, with confidence intervals by bootstrap. Pure."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

RESAMPLES = 4000
FEWEST_ROUNDS = 8  # a bootstrap of fewer is too sure of itself
THROUGHPUT, FIRST_TOKEN, FIRST_TOKEN_RATIO = 0.98, 0.001, 1.02
"""Acceptance: throughput within 2 %, time to first token within 1 ms or 2 %."""


@dataclass(frozen=True)
class Block:
    """Some requests to one port."""

    seconds: float
    """How long `concurrency` workers would have taken that do nothing else."""
    tokens: int
    first: tuple[float, ...]
    """Seconds to the first token, of each request."""

    @property
    def throughput(self) -> float:
        return self.tokens / self.seconds

    @property
    def first_token(self) -> float:
        return statistics.fmean(self.first)


@dataclass(frozen=True)
class Round:
    """A block each, of the same moments, so that what else the machine does hits all alike."""

    bare: Block
    again: Block
    plugin: Block

    @property
    def bare_throughput(self) -> float:
        return math.sqrt(self.bare.throughput * self.again.throughput)

    @property
    def bare_first_token(self) -> float:
        return (self.bare.first_token + self.again.first_token) / 2


@dataclass(frozen=True)
class Spent:
    """Seconds of processor time for a token."""

    api_server: float
    """By the process that speaks HTTP: the plugin runs in it and in no other."""
    server: float
    """By all processes of the server."""


@dataclass(frozen=True)
class Work:
    """A port at a time."""

    bare: Spent
    again: Spent
    plugin: Spent

    def over_bare(self, spent: Spent) -> float:
        return 1 + (spent.api_server - self.bare.api_server) / self.bare.server


@dataclass(frozen=True)
class Estimate:
    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> Estimate:
        return Estimate(self.value * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True)
class Cost:
    """`again_*`: the bare port against itself, the noise.

    Requests of the three ports run at the same time, and what one costs the server the others wait for as well. So
    `work`, the ratio of the whole server's processor time, is held against the limit of throughput, too: a server whose
    cores are all busy loses as much as that. What changes is read of the API server alone, because the engine's
    processes never see the plugin and their time scatters by more than all that the plugin takes.
    """

    rounds: int
    first_rounds: int
    throughput: Estimate
    again_throughput: Estimate
    first_token: float
    later: Estimate
    again_later: Estimate
    work: Estimate | None = None
    again_work: Estimate | None = None

    @property
    def verdict(self) -> str:
        """Met or not by the whole interval; open, if that or the noise is wider than the limit, or rounds are few."""
        allowed = max(FIRST_TOKEN, (FIRST_TOKEN_RATIO - 1) * self.first_token)
        if min(self.rounds, self.first_rounds) < FEWEST_ROUNDS:
            return "open: too few rounds"
        noise = max(1 - self.again_throughput.low, self.again_throughput.high - 1)
        if noise > 1 - THROUGHPUT or max(-self.again_later.low, self.again_later.high) > allowed:
            return "open: the noise is larger than the limit"
        work = self.work or Estimate(1, 1, 1)
        if self.throughput.low >= THROUGHPUT and work.high <= 1 / THROUGHPUT and self.later.high <= allowed:
            return "met"
        if self.throughput.high < THROUGHPUT or work.low > 1 / THROUGHPUT or self.later.low > allowed:
            return "not met"
        return "open: the interval is too wide"


def cost(rounds: Sequence[Round], works: Sequence[Work] = (), *, firsts: Sequence[Round] = ()) -> Cost:
    """Paired by round: ratios of throughput and of processor time, differences of the mean time to first token.

    The plugin is held against the mean of the two bare ports. `firsts`: rounds for the time to the first token alone;
    none: `rounds` tell it, too."""
    firsts = firsts or rounds
    return Cost(
        rounds=len(rounds),
        first_rounds=len(firsts),
        throughput=estimate([math.log(r.plugin.throughput / r.bare_throughput) for r in rounds], math.exp),
        again_throughput=estimate([math.log(r.again.throughput / r.bare.throughput) for r in rounds], math.exp),
        first_token=statistics.fmean(r.bare_first_token for r in firsts),
        later=estimate([r.plugin.first_token - r.bare_first_token for r in firsts]),
        again_later=estimate([r.again.first_token - r.bare.first_token for r in firsts]),
        work=estimate([w.over_bare(w.plugin) for w in works]) if works else None,
        again_work=estimate([w.over_bare(w.again) for w in works]) if works else None,
    )


def estimate(values: Sequence[float], told: Callable[[float], float] = float) -> Estimate:
    """The mean, and between which bounds 95 % of the means of resampled values lie; `told` turns them into the unit."""
    choice = random.Random(0)
    means = sorted(statistics.fmean(choice.choices(values, k=len(values))) for _ in range(RESAMPLES))
    low, high = means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]
    return Estimate(told(statistics.fmean(values)), told(low), told(high))


def table(costs: dict[int, Cost]) -> str:
    """Markdown, a line for each concurrency."""
    heads = (
        "concurrent",
        "rounds",
        "throughput, plugin over bare",
        "(bare over itself)",
        "rounds",
        "time to first token, bare",
        "later with the plugin",
        "(bare over itself)",
        "processor time, plugin over bare",
        "(bare over itself)",
        "",
    )
    lines = [heads, ("---",) * len(heads)]
    lines += [_cells(concurrency, found) for concurrency, found in costs.items()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(concurrency: int, found: Cost) -> tuple[str, ...]:
    return (
        str(concurrency),
        str(found.rounds),
        _interval(found.throughput, 4),
        _interval(found.again_throughput, 4),
        str(found.first_rounds),
        f"{found.first_token * 1000:.2f} ms",
        _interval(found.later.scaled(1000), 3) + " ms",
        _interval(found.again_later.scaled(1000), 3) + " ms",
        _interval(found.work, 4) if found.work else "",
        _interval(found.again_work, 4) if found.again_work else "",
        found.verdict,
    )


def _interval(found: Estimate, digits: int) -> str:
    return f"{found.value:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"
