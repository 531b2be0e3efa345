"""What a report says, before it is a page or Markdown. What is not known is None or empty, and is named in `missing`.

Must not know where the facts come from, nor how they are shown.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.job.evaluation import ChangedExample, Count, Curves, Outcomes


@dataclass(frozen=True)
class Verdict:
    """`word`: Pass, Fail or Inconclusive; empty: nobody has judged. `by` says who has, `why` says why."""

    word: str = ""
    why: str = ""
    by: str = ""


@dataclass(frozen=True)
class Detail:
    """One line of the provenance. `is_code`: a digest, a path, an id."""

    label: str
    value: str
    is_code: bool = False


@dataclass(frozen=True)
class Suite:
    """Scores are shares of `samples`; `adapter` None: the artifact was measured alone."""

    name: str
    samples: int
    adapter: float | None
    artifact: float
    agreement: float | None = None
    errors: int = 0
    scorer: str = ""
    outcomes: Outcomes | None = None


@dataclass(frozen=True)
class Side:
    """Of the benchmark, one of the two. None: not known."""

    tokens_per_second: float | None = None
    requests_per_second: float | None = None
    mean_seconds: float | None = None
    p95_seconds: float | None = None
    errors: int | None = None


@dataclass(frozen=True)
class Speed:
    adapter: Side | None
    artifact: Side
    speedup: float | None = None
    concurrency: int | None = None
    requests: int | None = None
    curves: Curves | None = None


@dataclass(frozen=True)
class Size:
    label: str
    count: int


@dataclass(frozen=True)
class Stage:
    """`job`: Build or Validation."""

    job: str
    name: str
    seconds: float


@dataclass(frozen=True)
class Examples:
    """Those that changed and are kept, and how many changed."""

    changed: tuple[ChangedExample, ...]
    counts: tuple[Count, ...]


@dataclass(frozen=True)
class Earlier:
    """Another evaluation of the same artifact."""

    finished: str
    suites: tuple[Suite, ...]
    speedup: float | None


@dataclass(frozen=True)
class Source:
    """A document that the report was made of."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Report:
    name: str
    artifact_id: str
    release: str = ""
    standing: str = ""  # where the release stands, in a sentence
    evaluated: str = ""  # when the evaluation ended
    verdict: Verdict = Verdict()
    provenance: tuple[Detail, ...] = ()
    suites: tuple[Suite, ...] = ()
    speed: Speed | None = None
    sizes: tuple[Size, ...] = ()
    stages: tuple[Stage, ...] = ()
    examples: Examples | None = None
    earlier: tuple[Earlier, ...] = ()
    missing: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
