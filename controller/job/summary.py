"""What a job says when it ends: its result or its failure, within the 4 KiB of the termination message.

Imports pydantic and the standard library only, because the controller's process reads these.
Must not know how any stage works.
"""

from __future__ import annotations

from bisect import bisect_left
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from controller.job.document import API_VERSION, ApiVersion, Digest, Document, Finite
from controller.job.reasons import Reason

TERMINATION_MESSAGE_BYTES = 4096  # the kubelet cuts there, and JSON cut in the middle says nothing
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class ImportResult(Document):
    kind: Literal["Import"] = "Import"
    digest: Digest
    rank: int
    path: str
    size_bytes: int
    files: tuple[str, ...]
    base_model: str | None = None
    reused: bool = False
    merge_only: tuple[str, ...] = ()  # what vLLM cannot serve dynamically, as sentences


class AdapterProvenance(Document):
    name: str
    version: str
    digest: str
    training_run: str | None = None
    weight: Finite = 1.0


class Provenance(Document):
    """What went into an artifact."""

    base_name: str
    base_revision: str | None = None
    base_digest: str
    adapters: tuple[AdapterProvenance, ...]
    dtype: str
    quantization: str | None = None
    calibration_digest: str | None = None
    tools: dict[str, str] = Field(default_factory=dict)


class BuildResult(Document):
    kind: Literal["Build"] = "Build"
    artifact_id: str
    path: str
    name: str
    digest: str
    size_bytes: int
    reused: bool
    seconds: dict[str, float]
    provenance: Provenance


class SuiteResult(Document):
    """Scores are shares of all samples; an answer that failed counts as wrong and as an error.

    `reference` and `agreement` are absent where the candidate was asked alone.
    """

    name: str
    samples: int = Field(ge=1)
    reference: Share | None = None
    candidate: Share
    agreement: Share | None = None
    errors: int = Field(ge=0)


class Throughput(Document):
    requests_per_second: Finite
    output_tokens_per_second: Finite
    mean_latency_seconds: Finite
    p95_latency_seconds: Finite
    errors: int = Field(ge=0)


class BenchmarkResult(Document):
    """`speedup` is candidate over reference in output tokens a second; absent when either made none, or is absent."""

    reference: Throughput | None = None
    candidate: Throughput
    speedup: Finite | None = None


class EvaluateResult(Document):
    kind: Literal["Evaluate"] = "Evaluate"
    suites: tuple[SuiteResult, ...]
    benchmark: BenchmarkResult | None = None


Result = Annotated[ImportResult | BuildResult | EvaluateResult, Field(discriminator="kind")]


class FailureKind(StrEnum):
    TRANSIENT = "Transient"
    PERMANENT = "Permanent"


class Failure(Document):
    """`reason` is the first of `reasons`; all of them are CamelCase and documented."""

    kind: FailureKind
    reason: str
    message: str
    reasons: tuple[str, ...] = ()


class Summary(Document):
    """The termination message of a job, or of the container that verifies an artifact (which has no result)."""

    api_version: ApiVersion = API_VERSION
    kind: Literal["Import", "Build", "Evaluate", "Verify", "Unknown"]
    result: Result | None = None
    failure: Failure | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Summary:
        if (self.result is None) == (self.failure is None):
            raise ValueError("a summary has either a result or a failure")
        return self


def parse_summary(text: str | bytes) -> Summary:
    """The summary in a termination message. Raises ValueError if it is none: a killed pod leaves it empty."""
    return Summary.model_validate_json(text)


def termination_message(summary: Summary) -> str:
    """`summary` as JSON of at most 4096 bytes: whole, or with its long texts cut, never cut in the middle."""
    text = summary.to_json()
    if len(text.encode()) <= TERMINATION_MESSAGE_BYTES:
        return text
    if summary.failure is not None:
        return _with_short_message(summary, summary.failure)
    if isinstance(summary.result, BuildResult):
        short = summary.result.provenance.model_copy(update={"tools": {}})
        result = summary.result.model_copy(update={"provenance": short})
        text = summary.model_copy(update={"result": result}).to_json()
    elif isinstance(summary.result, ImportResult):
        base = (summary.result.base_model or "")[:256] or None
        only = tuple(text[:128] for text in summary.result.merge_only[:8])
        cut = summary.result.model_copy(update={"files": (), "base_model": base, "merge_only": only})
        text = summary.model_copy(update={"result": cut}).to_json()
    if len(text.encode()) > TERMINATION_MESSAGE_BYTES:
        failure = Failure(
            kind=FailureKind.PERMANENT,
            reason=Reason.RESULT_TOO_LONG,
            message="the result does not fit into the termination message: use fewer suites or adapters",
        )
        return Summary(kind=summary.kind, failure=failure).to_json()
    return text


def _with_short_message(summary: Summary, failure: Failure) -> str:
    """As much of the message as fits; escapes make JSON longer than its texts, so it is tried."""

    def cut(length: int) -> str:
        short = {"message": failure.message[:length] + " ...", "reasons": tuple(r[:64] for r in failure.reasons[:16])}
        return summary.model_copy(update={"failure": failure.model_copy(update=short)}).to_json()

    lengths = range(len(failure.message))
    too_long = bisect_left(lengths, True, key=lambda n: len(cut(n).encode()) > TERMINATION_MESSAGE_BYTES)
    return cut(max(too_long - 1, 0))
