"""What an evaluation keeps beside its scores, so that a report can be made of it later, by any version.

Two documents: the statement (`statement.py`), which has the counts and the curves, and the file of examples that it
names, which has the words. Imports pydantic and the standard library only. Must not know how anything is asked, judged
or shown.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from controller.job.attestation import Descriptor, Part, Statement
from controller.job.document import Digest, Finite
from controller.job.strict_json import parse_object
from controller.job.summary import Share

PREDICATE_TYPE = "https://adapterrelease.dev/evaluation/v1alpha1"
EXAMPLES_TYPE = "application/jsonl"
EXAMPLES_SUFFIX = ".examples.jsonl"
MAX_EXAMPLES_BYTES = 8 << 20


class Change(StrEnum):
    """What became of an example, the most important first. All others are right in the same words, or wrong twice."""

    FAILED = "Failed"  # one of the two gave no answer
    LOST = "Lost"  # the adapter is right, the artifact is not
    GAINED = "Gained"  # the artifact is right, the adapter is not
    WRONG = "Wrong"  # the artifact is wrong, and there is no adapter to compare with
    REWORDED = "Reworded"  # both are right, in other words


Whole = Annotated[int, Field(ge=0, le=2**53)]  # somebody else wrote it: beyond that nothing can be computed of it


class Outcomes(Part):
    """Of one suite: how often both, one or none of the two was right; `reworded` of those where both were."""

    both_right: Whole
    only_reference: Whole
    only_candidate: Whole
    both_wrong: Whole
    reworded: Whole = 0


class Turn(Part):
    """What one endpoint did in one round of the benchmark."""

    seconds: Finite
    requests: Whole
    output_tokens: Whole
    errors: Whole


class Round(Part):
    reference: Turn | None = None
    candidate: Turn


_Levels = Annotated[tuple[Finite, ...], Field(max_length=101)]


class Quantiles(Part):
    """Seconds that a request took, at most, in 0, 1, ... 100 % of them; empty without an answer."""

    reference: _Levels | None = None
    candidate: _Levels


class Curves(Part):
    rounds: tuple[Round, ...] = Field(max_length=100)
    latency_quantiles: Quantiles


class Text(Part):
    """Words, and how many characters of them were left out at the end."""

    text: str
    left_out: Whole = 0


class Message(Text):
    role: str


class Said(Text):
    """An answer; `error` where there is none."""

    tokens: Whole = 0
    error: str = ""


class ChangedExample(Part):
    """One line of the file of examples. `number` is that of the example in its suite, from 1."""

    suite: str
    number: Whole
    change: Change
    messages: tuple[Message, ...]
    expected: Text
    reference: Said | None = None
    candidate: Said


class Count(Part):
    """How many examples of a suite changed so, those that are not in the file among them."""

    suite: str
    change: Change
    count: Whole


class ExamplesHeader(Part):
    """The first line of the file of examples."""

    api_version: Literal["evaluation.adapterrelease.dev/v1alpha1"] = "evaluation.adapterrelease.dev/v1alpha1"
    kind: Literal["Examples"] = "Examples"
    artifact: Digest
    inputs: str
    counts: tuple[Count, ...] = ()


class SuiteScore(Part):
    """A suite as the statement has it. Statements of earlier versions have no outcomes."""

    name: str
    samples: Whole
    reference: Share | None = None
    candidate: Share
    agreement: Share | None = None
    errors: Whole = 0
    scorer: str = ""
    max_tokens: int | None = None
    data_digest: str = ""
    outcomes: Outcomes | None = None


class Speed(Part):
    requests_per_second: Finite
    output_tokens_per_second: Finite
    mean_latency_seconds: Finite
    p95_latency_seconds: Finite
    errors: Whole = 0


class Timed(Part):
    """The benchmark as the statement has it. Statements of earlier versions have no curves."""

    concurrency: Whole = 0
    requests: Whole = 0
    reference: Speed | None = None
    candidate: Speed
    speedup: Finite | None = None
    curves: Curves | None = None


class Released(Part):
    namespace: str = ""
    name: str = ""


class Evaluation(Part):
    """The predicate of an evaluation's statement, as far as a report reads it."""

    release: Released = Released()
    inputs: str = ""
    suites: tuple[SuiteScore, ...]
    benchmark: Timed | None = None
    started_on: str = ""
    finished_on: str
    seconds: dict[str, Finite] | None = None
    examples: Descriptor | None = None


class EvaluationStatement(Statement[Descriptor, Evaluation]):
    predicate_type: Literal["https://adapterrelease.dev/evaluation/v1alpha1"]


def parse_examples(content: bytes) -> tuple[ExamplesHeader, list[ChangedExample]]:
    """Raises ValueError for what is no such file."""
    first, *others = content.splitlines() or [b""]
    header = ExamplesHeader.model_validate(parse_object(first, "line 1"))
    return header, [
        ChangedExample.model_validate(parse_object(line, f"line {number}")) for number, line in enumerate(others, 2)
    ]
