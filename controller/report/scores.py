"""The scores of a report with their confidence, as numbers: what page and Markdown both show.

Must not know how they are shown.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.report.confidence import Interval, paired_difference, share
from controller.report.facts import Suite

METHOD = (
    "Intervals hold the true value with 95 % confidence, if the examples are a fair sample of your requests: of a "
    "score the exact interval of Clopper and Pearson, of a difference Tango's score interval for pairs, since both "
    "answered the same examples."
)


@dataclass(frozen=True)
class Score:
    """`interval` None: the share is none of so many examples, so nothing can be said of it."""

    share: float
    interval: Interval | None


@dataclass(frozen=True)
class Scored:
    """`difference` is artifact minus adapter; its interval needs to know which examples changed."""

    suite: Suite
    adapter: Score | None
    artifact: Score
    difference: float | None
    sure: Interval | None


def scored(suite: Suite) -> Scored:
    adapter = _score(suite.adapter, suite.samples) if suite.adapter is not None else None
    artifact = _score(suite.artifact, suite.samples)
    return Scored(
        suite=suite,
        adapter=adapter,
        artifact=artifact,
        difference=artifact.share - adapter.share if adapter else None,
        sure=_sure(suite),
    )


def _score(value: float, samples: int) -> Score:
    """Scores in a status have four digits: the count is the nearest one, if it is near."""
    right = round(value * samples)
    if samples <= 0 or not 0 <= right <= samples or abs(right / samples - value) > 1e-4:
        return Score(value, None)
    return Score(right / samples, share(right, samples))


def _sure(suite: Suite) -> Interval | None:
    found = suite.outcomes
    return paired_difference(found.only_candidate, found.only_reference, suite.samples) if found else None


def worst(found: list[Scored]) -> Scored | None:
    """The suite that lost most; without an adapter the one with the lowest score."""
    compared = [s for s in found if s.difference is not None]
    if compared:
        return min(compared, key=lambda s: s.difference or 0.0)
    return min(found, key=lambda s: s.artifact.share, default=None)
