"""AdapterRelease v1alpha1: the status, the controller's memory. Everything in it survives a restart.

Decisions are written here before they are carried out (see domain/plan.py).
Times are RFC 3339 in UTC with whole seconds.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field, field_serializer

from controller.api.types import LIST_ATOMIC, LIST_MAP_BY_NAME, ApiModel


class ConditionType(StrEnum):
    ADAPTER_IMPORTED = "AdapterImported"
    ADAPTER_LOADED = "AdapterLoaded"
    ARTIFACT_BUILT = "ArtifactBuilt"
    VALIDATED = "Validated"
    PROMOTED = "Promoted"
    GAP_FREE = "GapFree"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    STALLED = "Stalled"
    READY = "Ready"


class Condition(ApiModel):
    """metav1.Condition."""

    type: str = Field(description="Which of the release's conditions this is.")
    status: str = Field(description="True, False or Unknown.", pattern="^(True|False|Unknown)$")
    observed_generation: int = Field(0, description="metadata.generation that this was decided for.")
    last_transition_time: datetime = Field(description="When status last changed.")
    reason: str = Field(description="CamelCase reason; each is explained in docs/reasons.md.")
    message: str = Field("", description="What is the case and what to do.")

    @field_serializer("last_transition_time")
    def _time(self, value: datetime) -> str:
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")


class BackendKind(StrEnum):
    """Who answers for a release."""

    ADAPTER = "Adapter"  # the base's pods that hold the adapter; id is its digest
    ARTIFACT = "Artifact"  # a merged Deployment; id is the artifact's


class Backend(ApiModel):
    """What can answer for a release. Two backends are the same when kind and id are."""

    kind: BackendKind = Field(description="Adapter or Artifact.")
    id: str = Field(description="Digest of the adapter, or id of the artifact.")


class Timed(ApiModel):
    @field_serializer("*", mode="wrap")
    def _times(self, value: Any, handler: Any) -> Any:
        return value.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else handler(value)


class Serving(Timed):
    """What the route was last proven to reach."""

    backend: Backend = Field(description="What answers.")
    revision: int = Field(description="Its entry in history.")
    since: datetime = Field(description="When the route was proven to reach it.")
    settle_at: datetime | None = Field(
        None, description="Artifacts: when the adapter behind it may be unloaded (rollbackWindow)."
    )
    unavailable_since: datetime | None = Field(None, description="Artifacts: since when no pod of it answers.")


class HistoryEntry(Timed):
    """A backend that has served."""

    revision: int = Field(description="Counts up from 1.")
    backend: Backend = Field(description="What served.")
    since: datetime = Field(description="When it began to serve.")
    reason: str = Field(description="Why: FirstLoad, AdapterUpdated, Promoted, RolledBack, RolledBackByUser.")
    version: str = Field("", description="Version of the adapter, as the spec named it then.")
    adapter_digest: str = Field("", description="The adapter's digest, also behind an artifact.")
    merge_only: bool = Field(False, description="Artifacts: vLLM cannot serve the adapter in it dynamically.")
    unobserved: bool = Field(False, description="Artifacts: no observation of it has ended well yet.")


class PodState(ApiModel):
    """The adapter on one base pod."""

    name: str = Field(description="Name of the pod.")
    state: str = Field(description="Loaded, Loading, Failed, NotReady.")
    message: str = Field("", description="vLLM's own words where it failed.")


class AdapterStatus(ApiModel):
    """The imported adapter."""

    digest: str = Field(description="sha256 over the adapter's files.")
    version: str = Field(description="Version that the spec named when it was imported.")
    inputs: str = Field(description="Hash of the spec fields that it was imported for.")
    rank: int = Field(0, description="Its largest LoRA rank.")
    path: str = Field(description="Directory in the store, as vLLM sees it.")
    size_bytes: int = Field(0, description="Size of its files in bytes.")
    training_run: str = Field("", description="The run that trained it.")
    merge_only: str = Field(
        "", description="What of it vLLM cannot serve dynamically: it is merged only, and never loaded. Empty for most."
    )
    pods: list[PodState] = Field(
        default_factory=list, description="The adapter on each base pod.", json_schema_extra=LIST_MAP_BY_NAME
    )


class SuiteScore(ApiModel):
    """One suite's scores; fractions as strings with 4 digits."""

    name: str = Field(description="Name of the suite.")
    samples: int = Field(description="Examples that were scored.")
    adapter: str = Field(description="Score of the live adapter; empty: there is none.")
    artifact: str = Field(description="Score of the artifact.")
    agreement: str = Field("", description="Share of answers that are the same.")


class ArtifactStatus(Timed):
    """The artifact that was built last."""

    id: str = Field(description="Digest of everything that went in.")
    inputs: str = Field(description="Hash of the spec fields that it was built for.")
    name: str = Field("", description="merged-BASE-BASEVERSION-adapter-NAME-VERSION.")
    path: str = Field(description="Directory in the store, as vLLM sees it.")
    digest: str = Field("", description="sha256 over its files, but for artifact.json and README.md.")
    size_bytes: int = Field(0, description="Size of its files in bytes.")
    adapter_digest: str = Field(description="The adapter in it.")
    merge_only: bool = Field(
        False, description="vLLM cannot serve that adapter dynamically: the artifact is judged by minScore alone."
    )
    reused: bool = Field(False, description="It was there already: the same inputs are never built twice.")
    quantized: bool = Field(False, description="Its weights are quantized.")
    provenance: dict[str, str] = Field(
        default_factory=dict,
        description="What it was made from and with; artifact.json in the store has all of it.",
    )
    build_seconds: dict[str, str] = Field(
        default_factory=dict, description="Seconds that each stage of its build took, also where it was reused."
    )
    verdict: str = Field(
        "",
        description="Pass, Fail or Inconclusive; empty: not validated yet.",
        pattern="^(Pass|Fail|Inconclusive)?$",
    )
    validation_inputs: str = Field(
        "",
        description="Hash of what the verdict is for; the scores are in the store, in PATH.evaluations/HASH.json.",
    )
    scores: list[SuiteScore] = Field(
        default_factory=list, description="Scores by suite.", json_schema_extra=LIST_MAP_BY_NAME
    )
    speedup: str = Field("", description="Output tokens per second over the adapter's, under the same load.")
    adapter_tokens_per_second: str = Field("", description="Output tokens a second of the adapter in the benchmark.")
    artifact_tokens_per_second: str = Field("", description="Output tokens a second of the artifact in the benchmark.")
    adapter_latency_seconds: str = Field("", description="Mean latency of a request to the adapter in the benchmark.")
    artifact_latency_seconds: str = Field("", description="Mean latency of a request to the artifact in the benchmark.")


class Step(StrEnum):
    """What the rollout is doing. Each step but Idle has a deadline."""

    IDLE = "Idle"
    IMPORTING = "Importing"
    LOADING = "Loading"
    BUILDING = "Building"
    STARTING = "Starting"
    VALIDATING = "Validating"
    SHIFTING = "Shifting"
    SWITCHING = "Switching"
    OBSERVING = "Observing"
    ROLLING_BACK = "RollingBack"


class Rejected(ApiModel):
    """Something that is not tried again until the spec changes."""

    inputs: str = Field(description="Hash of the spec fields that it was tried with.")
    step: Step = Field(description="Where it failed.")
    id: str = Field("", description="The artifact's id, if there was one.")
    reason: str = Field(description="Reason, as in the conditions.")
    message: str = Field("", description="What was wrong and what to do.")


class Draining(Timed):
    """A backend that lost the route."""

    backend: Backend = Field(description="What lost the route.")
    until: datetime = Field(description="It is kept at least until then.")


class Sample(Timed):
    """One look at the new backend; counters are totals over its pods since the observation began."""

    at: datetime = Field(description="When.")
    verdict: str = Field(description="Pass, Fail or NoData.")
    requests: int = Field(0, description="Requests since the last sample.")
    error_rate: str = Field("", description="Share of them answered with 5xx.")
    latency_seconds: str = Field("", description="Their mean latency.")
    message: str = Field("", description="What failed.")


class Counters(ApiModel):
    """Counters of a backend's pods, summed, at one moment."""

    pods: list[str] = Field(
        default_factory=list, description="Containers that were counted.", json_schema_extra=LIST_ATOMIC
    )
    requests: int = Field(0, description="Requests answered.")
    errors: int = Field(0, description="Of them with 5xx.")
    latency_milliseconds: int = Field(0, description="Sum of their latencies.")
    latency_count: int = Field(0, description="Requests in that sum.")


class CanaryStatus(Timed):
    """The weights of an HTTPRoute that are the controller's for now. Kept until they are given back."""

    http_route: str = Field(description="Name of the HTTPRoute.")
    artifact: str = Field(description="Id of the artifact that is the candidate.")
    weight: int = Field(description="Percent that the candidate should get; 0: the HTTPRoute is given back.")
    since: datetime | None = Field(
        None, description="Since when the gateway was seen to have this weight; absent: not yet."
    )


class RolloutStatus(Timed):
    """Where the release stands on its way."""

    step: Step = Field(Step.IDLE, description="What is being done.")
    target: Backend | None = Field(None, description="Where the route is going.")
    origin: Backend | None = Field(None, description="Where the route came from; the way back.")
    reason: str = Field("", description="Why the step was begun.")
    inputs: str = Field("", description="Hash of what the step is for.")
    started_at: datetime | None = Field(None, description="When the step began.")
    deadline: datetime | None = Field(None, description="When the step ends with its default outcome.")
    draining: list[Draining] = Field(
        default_factory=list,
        description="Backends that lost the route and are kept until their delay is over.",
        json_schema_extra=LIST_ATOMIC,
    )
    counters: Counters | None = Field(None, description="Counters at the last sample.")
    failures: int = Field(0, description="Samples that failed.")
    measured: int = Field(0, description="Samples with data.")
    samples: list[Sample] = Field(default_factory=list, description="The last samples.", json_schema_extra=LIST_ATOMIC)
    progress: str = Field("", description="Progress of the running job, as in merge 40 %.")
    paused: bool = Field(
        False, description="The canary's step goes on when a person sets spec.rollout.canary.approved."
    )
    canary: CanaryStatus | None = Field(
        None, description="The canary's weights; absent: no HTTPRoute has anything of this release's doing."
    )
    rejected: list[Rejected] = Field(
        default_factory=list,
        description="What is not tried again until the spec changes.",
        json_schema_extra=LIST_ATOMIC,
    )


class ScaledBase(ApiModel):
    """What this release has done to the replicas of its base (rollout.settle)."""

    state: str = Field(description="ScalingDown, ScaledDown, ScalingUp, or Overruled: somebody scaled it up again.")
    replicas: int = Field(description="Replicas that it had, and gets back.")
    revision: int = Field(description="The revision that served when it was scaled down, or up again by somebody.")


class AdapterReleaseStatus(ApiModel):
    """The controller's memory of one release."""

    observed_generation: int = Field(
        0, description="metadata.generation that this status was decided for; -1: no controller has looked yet."
    )
    observed_retry: str | None = Field(
        None, description="Value of the annotation adapterrelease.dev/retry that this status was decided for."
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        description="AdapterImported, AdapterLoaded, ArtifactBuilt, Validated, Promoted, GapFree, Progressing, "
        "Degraded, Stalled, Ready.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    serving: Serving | None = Field(None, description="What the route was last proven to reach.")
    adapter: AdapterStatus | None = Field(None, description="The imported adapter.")
    artifact: ArtifactStatus | None = Field(None, description="The artifact that was built last.")
    rollout: RolloutStatus = Field(default_factory=RolloutStatus, description="Where the release stands on its way.")
    base: ScaledBase | None = Field(None, description="A base that this release has scaled to zero.")
    history: list[HistoryEntry] = Field(
        default_factory=list,
        description="Backends that have served, newest first.",
        json_schema_extra=LIST_ATOMIC,
    )

    def condition(self, kind: ConditionType) -> Condition | None:
        return next((c for c in self.conditions if c.type == kind), None)
