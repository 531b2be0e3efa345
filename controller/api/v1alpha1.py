"""AdapterRelease v1alpha1: the spec that people write; source of manifests/crd.yaml and `kubectl explain`.

Must not know: how anything is carried out. The status half is in `status.py`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from controller.api.status import AdapterReleaseStatus
from controller.api.types import (
    DNS_SUBDOMAIN_PATTERN,
    LIST_MAP_BY_NAME,
    ApiModel,
    Digest,
    DnsLabel,
    Duration,
    Fraction,
    rule,
    validated,
)

GROUP = "adapterrelease.dev"
VERSION = "v1alpha1"
KIND = "AdapterRelease"
PLURAL = "adapterreleases"
API_VERSION = f"{GROUP}/{VERSION}"

# The label on a base pod: `loaded.adapterrelease.dev/<release>: <first 8 of the digest>`.
LOADED_LABEL_PREFIX = "loaded.adapterrelease.dev/"
# Beside it: the pod may have clients, whatever version it holds just now. The route of a base with the engine plugin
# selects it, so that an update changes no label that the route selects.
ROUTED_LABEL_PREFIX = "routed.adapterrelease.dev/"
RELEASE_LABEL = f"{GROUP}/release"
ARTIFACT_LABEL = f"{GROUP}/artifact"
FINALIZER = f"{GROUP}/unload"
RETRY_ANNOTATION = f"{GROUP}/retry"
STORE_ANNOTATION = f"{GROUP}/store-volume"


class Stage(StrEnum):
    """Where the adapter stands in its own life."""

    EXPERIMENTAL = "Experimental"
    STABLE = "Stable"


class QuantizationMethod(StrEnum):
    AWQ = "AWQ"
    GPTQ = "GPTQ"
    FP8 = "FP8"
    INT8 = "INT8"
    NONE = "None"


class QuantizationScheme(StrEnum):
    """Bits of weights and activations. No defaults here: the API server would fill them in for every method."""

    W4A16 = "W4A16"
    W4A16_ASYM = "W4A16_ASYM"
    FP8_DYNAMIC = "FP8_DYNAMIC"
    W8A8 = "W8A8"


class Scorer(StrEnum):
    EXACT_MATCH = "ExactMatch"
    CONTAINS = "Contains"


class NoDataOutcome(StrEnum):
    """What an observation without data ends with."""

    KEEP = "Keep"
    ROLL_BACK = "RollBack"


_FOUR_BITS = "self.method in ['AWQ', 'GPTQ']"
_DATA_FREE = "self.method in ['FP8', 'None']"

SOURCE_URI = r"^(pvc|https)://[^\s]+$"
_NO_TRAVERSAL = rule(
    "!self.matches('(^|/)\\\\.\\\\.(/|$)') && !self.contains('%2e') && !self.contains('%2E')",
    "must not contain '..': name the directory itself",
)
_NO_USERINFO = rule(
    "!self.startsWith('https://') || !self.substring(8).split('/')[0].contains('@')",
    "must not carry credentials: put them into a Secret and name it in secretRef",
)
_PVC_NAMES_CLAIM = rule(
    "!self.startsWith('pvc://') || self.matches('^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/.+$')",
    "a pvc:// source is pvc://CLAIM/PATH, with the claim in the release's namespace",
)
# The API server shows the type of a refused string, not the string: the message has to.
_IS_SHARE = rule(
    "double(self) <= 1.0",
    "must be between 0 and 1",
    messageExpression="'must be between 0 and 1, and is ' + self",
)
_LASTS = rule(
    "duration(self) >= duration('1s')",
    "must be at least 1s",
    messageExpression="'must be at least 1s, and is ' + self",
)
Share = Annotated[Fraction, Field(json_schema_extra=validated(_IS_SHARE))]
Deadline = Annotated[Duration, Field(json_schema_extra=validated(_LASTS))]
# Names of HTTPRoutes may have dots.
RouteName = Annotated[str, Field(pattern=DNS_SUBDOMAIN_PATTERN, min_length=1, max_length=253)]
SourceUri = Annotated[
    str,
    Field(
        pattern=SOURCE_URI,
        max_length=2048,
        json_schema_extra=validated(_NO_TRAVERSAL, _NO_USERINFO, _PVC_NAMES_CLAIM),
        description="Where the files are: pvc://CLAIM/PATH (a claim in this namespace) or https://HOST/PATH.",
    ),
]


class SecretRef(ApiModel):
    """A Secret in the release's namespace, with key `token`, or `username` and `password`."""

    name: DnsLabel = Field(description="Name of the Secret.")


class Source(ApiModel):
    """Where files come from."""

    uri: SourceUri
    secret_ref: SecretRef | None = Field(
        None,
        description="Credentials for an https:// source: a Secret with key token, or username and password.",
    )

    model_config = ApiModel.model_config | {
        "json_schema_extra": validated(
            rule(
                "!has(self.secretRef) || self.uri.startsWith('https://')",
                "secretRef is for https:// sources: a pvc:// source is mounted and needs no credentials",
            )
        )
    }


class BaseRef(ApiModel):
    """The Deployment that serves the base model."""

    name: DnsLabel = Field(
        description="Name of a Deployment in this namespace that runs vLLM with --enable-lora. "
        "Its model, LoRA limits, port, key and store volume are read from its pod template."
    )


class Adapter(ApiModel):
    """One LoRA adapter, as PEFT wrote it."""

    name: DnsLabel = Field(description="Names the adapter in the store and in artifacts. Immutable.")
    version: str = Field(
        min_length=1,
        max_length=63,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
        description="Version of the adapter, as your training names it. Recorded, never compared: the digest decides.",
    )
    source: Source = Field(description="Where the adapter's files are.")
    digest: Digest | None = Field(
        None,
        description="Pins the content: an import whose digest differs is refused. "
        "Without it the digest is recorded in status.",
    )
    training_run: str | None = Field(
        None,
        max_length=512,
        description="The run that trained it, for provenance, as in mlflow:/runs/4711.",
    )


class Merge(ApiModel):
    """How adapter and base are merged."""

    dtype: Literal["bfloat16", "float16", "float32"] = Field(
        "bfloat16", description="Data type of the merged weights: bfloat16, float16 or float32."
    )
    device: Literal["auto", "cpu"] = Field("auto", description="Where the merge computes: auto or cpu.")


class Calibration(ApiModel):
    """Data that the quantization looks at."""

    source: Source = Field(description="A JSONL file: one {messages: [...]} or {text: ...} a line.")
    samples: int = Field(256, ge=8, le=8192, description="How many samples are used.")
    sequence_length: int = Field(2048, ge=16, le=131072, description="Longest sample, in tokens.")


class Quantization(ApiModel):
    """How the merged weights are quantized.

    What depends on the method has no default: the API server fills defaults in before it holds the rules against the
    object, and would refuse what it has written itself. The job knows them (controller/job/contract.py).
    """

    method: QuantizationMethod = Field(
        QuantizationMethod.AWQ,
        description="AWQ or GPTQ: 4-bit weights. FP8: 8-bit floats, weights and activations, without calibration. "
        "INT8: 8-bit integers, weights and activations. None: the merged weights are served as they are.",
    )
    scheme: QuantizationScheme | None = Field(
        None,
        description="W4A16 (symmetric) or W4A16_ASYM; default: W4A16_ASYM for AWQ, W4A16 for GPTQ. "
        "FP8 has FP8_DYNAMIC only, and INT8 W8A8.",
    )
    group_size: int | None = Field(
        None,
        json_schema_extra={"enum": [32, 64, 128]},
        description="For AWQ and GPTQ: weights that share a scale, 32, 64 or 128; default: 128. "
        "It must divide the input size of every linear layer.",
    )
    calibration: Calibration | None = Field(None, description="Required for AWQ, GPTQ and INT8; FP8 needs none.")

    model_config = ApiModel.model_config | {
        "json_schema_extra": validated(
            rule(
                f"!has(self.scheme) || ({_FOUR_BITS} ? self.scheme in ['W4A16', 'W4A16_ASYM'] : "
                "self.method == 'FP8' ? self.scheme == 'FP8_DYNAMIC' : "
                "self.method == 'INT8' && self.scheme == 'W8A8')",
                "scheme does not fit the method: AWQ and GPTQ have W4A16 and W4A16_ASYM, FP8 has FP8_DYNAMIC, "
                "INT8 has W8A8, None has none",
            ),
            rule(
                f"!has(self.groupSize) || {_FOUR_BITS}",
                "groupSize is for AWQ and GPTQ: the other methods have no groups, remove it",
            ),
            rule(
                f"has(self.calibration) || {_DATA_FREE}",
                "AWQ, GPTQ and INT8 need calibration data: set calibration.source, or method: FP8 or None",
            ),
            rule(
                f"!has(self.calibration) || !({_DATA_FREE})",
                "FP8 and None look at no calibration data: remove calibration, or choose AWQ, GPTQ or INT8",
            ),
        )
    }


class Build(ApiModel):
    """How the artifact is made. Used once the stage is Stable."""

    merge: Merge = Field(default_factory=Merge, description="How adapter and base are merged.")
    quantization: Quantization = Field(description="How the merged weights are quantized.")
    deadline: Deadline = Field("2h", description="A build that takes longer has failed.")
    pod_template: dict[str, Any] | None = Field(
        None,
        description="Merged into the job's pod template: labels and annotations (of the Job too), nodeSelector, "
        "tolerations, affinity, topologySpreadConstraints, priorityClassName, schedulerName, runtimeClassName, "
        "imagePullSecrets; resources and env of container job. Anything else is left out: "
        "security settings cannot be loosened here.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )


class Suite(ApiModel):
    """Held-out examples with the answers that are right."""

    name: DnsLabel = Field(description="Names the suite in status and in metrics.")
    source: Source = Field(description='A JSONL file: one {"messages": [...], "expected": "..."} a line.')
    scorer: Scorer = Field(
        Scorer.CONTAINS, description="ExactMatch: the answer is the expected text. Contains: it contains it."
    )
    max_score_drop: Share = Field(
        "0.001", description="Largest drop against the live adapter that passes, for an unquantized artifact."
    )
    max_quantized_score_drop: Share = Field(
        "0.01", description="Largest drop against the live adapter that passes, for a quantized artifact."
    )
    min_score: Share | None = Field(
        None,
        description="The artifact's score must be at least this. Needed, and over 0, for an adapter that vLLM cannot "
        "serve dynamically: there is no live adapter to compare with.",
    )
    max_tokens: int = Field(64, ge=1, le=4096, description="Longest answer, in tokens.")


class Benchmark(ApiModel):
    """Adapter and artifact under the same load, in turns."""

    concurrency: int = Field(8, ge=1, le=256, description="Requests in flight.")
    requests: int = Field(64, ge=8, le=10000, description="Requests to each of the two.")
    min_speedup: Fraction = Field(
        "0",
        description="The artifact's output tokens per second over the adapter's must be at least this; "
        "0: reported only.",
    )


class Validation(ApiModel):
    """What proves that the artifact may have traffic."""

    suites: list[Suite] = Field(
        min_length=1,
        max_length=16,
        description="Scored on both live endpoints, adapter and artifact.",
        json_schema_extra=LIST_MAP_BY_NAME,
    )
    benchmark: Benchmark = Field(default_factory=Benchmark, description="Throughput of both under the same load.")
    deadline: Deadline = Field(
        "30m", description="A validation that takes longer has no verdict, and no verdict is no pass."
    )


class Observe(ApiModel):
    """What is watched after the swap."""

    duration: Deadline = Field("10m", description="How long the new backend is watched before it counts as promoted.")
    interval: Deadline = Field("10s", description="Time between two samples.")
    max_error_rate: Share = Field("0.01", description="Largest share of requests answered with 5xx in a sample.")
    max_latency_ratio: Fraction = Field(
        "2",
        description="Largest mean request latency of a sample over the adapter's in the benchmark; 0: not checked.",
    )
    min_requests: int = Field(1, ge=1, description="A sample with fewer requests is missing data.")
    failure_limit: int = Field(0, ge=0, le=100, description="Samples that may fail before the release rolls back.")
    on_missing_data: NoDataOutcome = Field(
        NoDataOutcome.KEEP, description="Outcome of a whole observation without data: Keep or RollBack."
    )

    model_config = ApiModel.model_config | {
        "json_schema_extra": validated(
            rule(
                "duration(self.interval) <= duration(self.duration)",
                "observe.interval must not be longer than observe.duration: no sample would be taken",
            )
        )
    }


class Settle(ApiModel):
    """What becomes of the base once nothing needs it."""

    scale_base_to: int | None = Field(
        None,
        ge=0,
        le=0,
        description="0: after rollbackWindow the base is scaled to zero, if every release on it says so and has "
        "settled, too, and no Service selects its pods. Whatever needs it brings it back first. Default: it stays up.",
    )


class CanaryStep(ApiModel):
    """A share of the traffic for the candidate, and how long it is watched with it."""

    weight: int = Field(ge=1, le=100, description="Percent of the HTTPRoute's requests that the candidate gets.")
    pause: Deadline | None = Field(
        None,
        description="How long the candidate is watched at this weight, at least. "
        "Without it the step waits for a person: see approved.",
    )


class CanaryApproval(ApiModel):
    """What a person has seen and lets go on."""

    artifact: Digest = Field(
        description="Id of the artifact that was seen (status.artifact.id). Another one is not approved by it."
    )
    weight: int = Field(
        ge=1,
        le=100,
        description="Pauses up to this weight are over; 100: all of them. A check still has to pass at each step.",
    )


class Canary(ApiModel):
    """More and more of an HTTPRoute's traffic for the candidate, before all of it is swapped."""

    http_route: RouteName = Field(
        description="Name of your HTTPRoute in this namespace. Rules with a backendRef to the Service named after the "
        "release get a second one, to NAME-preview, for as long as the canary lasts; the rest of it is left as it is."
    )
    steps: list[CanaryStep] = Field(
        min_length=1,
        max_length=20,
        description="In this order, each once a check has passed at the one before (see observe). "
        "A check that fails takes all weight from the candidate. After the last step all traffic is swapped.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["weight"]},
    )
    approved: CanaryApproval | None = Field(
        None, description="Ends pauses of one artifact's canary, those that wait for a person and others."
    )
    approval_deadline: Deadline = Field(
        "24h", description="A step that waits for a person longer than this goes back: no answer is no approval."
    )

    model_config = ApiModel.model_config | {
        "json_schema_extra": validated(
            rule("self.steps.map(s, s.weight).isSorted()", "canary.steps must rise: give each a higher weight")
        )
    }


class Rollout(ApiModel):
    """How traffic moves to the artifact and back."""

    strategy: Literal["BlueGreen", "Canary"] = Field(
        "BlueGreen",
        description="BlueGreen: all traffic at once, the old backend stays for scaleDownDelay. "
        "Canary: by weights of an HTTPRoute first, then the same.",
    )
    canary: Canary | None = Field(None, description="The steps of strategy Canary; needs the Gateway API.")
    replicas: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Replicas of the merged Deployment when it is made; default: as many as the base has then. "
        "It is made once: scale it by kubectl scale or an autoscaler afterwards.",
    )
    preview_replicas: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Replicas of the merged Deployment while it is judged; it gets all of them before the switch. "
        "The benchmark measures with these. Default: all from the start.",
    )
    progress_deadline: Deadline = Field("15m", description="A candidate that is not available by then is rejected.")
    observe: Observe = Field(default_factory=Observe, description="What is watched after the swap.")
    scale_down_delay: Duration = Field(
        "60s", description="How long a merged Deployment that lost its traffic stays up."
    )
    drain_timeout: Deadline = Field(
        "60s",
        description="How long a request may go on in a merged pod that is being stopped: streams of that length end. "
        "preStop, --shutdown-timeout and terminationGracePeriodSeconds of new merged pods are computed from it.",
    )
    rollback_window: Duration = Field("24h", description="How long the adapter stays loaded behind the merged model.")
    settle: Settle = Field(default_factory=Settle, description="What becomes of the base once nothing needs it.")
    revision_history_limit: int = Field(3, ge=1, le=20, description="Entries kept in status.history.")

    model_config = ApiModel.model_config | {
        "json_schema_extra": validated(
            rule(
                "has(self.canary) == (self.strategy == 'Canary')",
                "strategy Canary needs rollout.canary, and rollout.canary needs strategy Canary: set both or neither",
            )
        )
    }


class Rollback(ApiModel):
    """A revision from status.history that must serve, whatever the stage says."""

    revision: int = Field(ge=1, description="Revision to serve.")


class AdapterReleaseSpec(ApiModel):
    """The desired life of one adapter."""

    stage: Stage = Field(
        Stage.EXPERIMENTAL,
        description="Experimental: the adapter is served dynamically by the base's pods. "
        "Stable: it is merged into the base, quantized, validated and swapped in. Set it back to roll back.",
    )
    model_name: str | None = Field(
        None,
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$",
        description='What clients send as "model"; default: metadata.name. Immutable.',
    )
    base_ref: BaseRef = Field(description="The Deployment that serves the base model. Immutable.")
    adapters: list[Adapter] = Field(
        min_length=1,
        max_length=1,
        description="The adapter. (A list, because combining several comes later; today exactly one.)",
        json_schema_extra=LIST_MAP_BY_NAME,
    )
    build: Build | None = Field(None, description="How the artifact is made; required for stage Stable.")
    validation: Validation | None = Field(
        None, description="What proves that the artifact may have traffic; required for stage Stable."
    )
    rollout: Rollout = Field(default_factory=Rollout, description="How traffic moves to the artifact and back.")
    rollback: Rollback | None = Field(
        None,
        description="While set, the named revision serves and nothing else is promoted. Remove it to go on.",
    )

    model_config = ApiModel.model_config | {
        "json_schema_extra": validated(
            rule(
                "self.stage != 'Stable' || (has(self.build) && has(self.validation))",
                "stage Stable needs build and validation: without a proof nothing gets traffic",
            ),
            rule(
                "has(self.modelName) == has(oldSelf.modelName) && "
                "(!has(self.modelName) || self.modelName == oldSelf.modelName)",
                "modelName is immutable: clients depend on it; make a new release",
            ),
            rule("self.baseRef == oldSelf.baseRef", "baseRef is immutable: make a new release for another base"),
            rule(
                "self.adapters[0].name == oldSelf.adapters[0].name",
                "adapters[].name is immutable: its versions lie under it in the store; make a new release",
            ),
        )
    }


class ManagedFields(ApiModel):
    """Who has written a part of an object."""

    manager: str = ""


class ObjectMeta(ApiModel):
    """The part of Kubernetes' ObjectMeta that this project reads."""

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    annotations: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    finalizers: list[str] = Field(default_factory=list)
    managed_fields: list[ManagedFields] = Field(default_factory=list)


class AdapterRelease(ApiModel):
    """AdapterRelease takes one LoRA adapter from dynamic serving to a merged, proven model on vLLM."""

    metadata: ObjectMeta
    spec: AdapterReleaseSpec
    status: AdapterReleaseStatus = Field(default_factory=AdapterReleaseStatus)

    @property
    def model_name(self) -> str:
        """What clients send as "model"."""
        return self.spec.model_name or self.metadata.name
