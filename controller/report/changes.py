"""The examples that changed, in groups with names for people: what page and Markdown both show.

Must not know how they are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from controller.job.evaluation import Change, ChangedExample
from controller.report.facts import Examples, Report

_TITLES = {
    Change.FAILED: ("No answer", "One of the two gave no answer, so that the suite has no score."),
    Change.LOST: ("Right before, wrong now", "The adapter is right, and the artifact is not."),
    Change.GAINED: ("Wrong before, right now", "The artifact is right, and the adapter is not."),
    Change.WRONG: ("Wrong", "The artifact is wrong; there was no adapter to compare with."),
    Change.REWORDED: ("Right in other words", "Both are right, and do not say the same."),
}


@dataclass(frozen=True)
class Group:
    """`count` is how many changed so; `shown` are those that are kept."""

    change: Change
    title: str
    meaning: str
    count: int
    shown: Sequence[ChangedExample]


def groups(examples: Examples) -> list[Group]:
    found = []
    for change, (title, meaning) in _TITLES.items():
        shown = [e for e in examples.changed if e.change is change]
        count = max(len(shown), sum(c.count for c in examples.counts if c.change is change))
        if count:
            found.append(Group(change, title, meaning, count, shown))
    return found


@dataclass(frozen=True)
class Tally:
    """Of one suite: how its examples changed."""

    suite: str
    both_right: int
    lost: int
    gained: int
    both_wrong: int
    reworded: int


TALLY_HEADS = ("Suite", "Both right", "Only adapter right", "Only artifact right", "Both wrong", "Right in other words")


def tallies(report: Report) -> list[Tally]:
    return [
        Tally(s.name, o.both_right, o.only_reference, o.only_candidate, o.both_wrong, o.reworded)
        for s in report.suites
        if (o := s.outcomes) is not None
    ]
