"""What the controller saw, once, frozen. Not found is None.

`reconcile/observe.py` fills it; `plan` decides from it. Must not know: how anything is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from controller.api.status import Backend, BackendKind, Counters
from controller.api.v1alpha1 import (
    ARTIFACT_LABEL,
    LOADED_LABEL_PREFIX,
    RELEASE_LABEL,
    ROUTED_LABEL_PREFIX,
    AdapterRelease,
)
from controller.domain.canary import Sighting

_IN_THE_STORE = re.compile(r"/adapters/[^/]+/([0-9a-f]{64})$")
SHORT = 8  # characters of a digest in a label
ENGINE_SHORT = 12  # characters of a digest in an engine name


def hex_of(digest: str) -> str:
    """`sha256:ab..` -> `ab..`."""
    return digest.removeprefix("sha256:")


@dataclass(frozen=True)
class Problem:
    """Something that the user has to put right: a documented reason, and what is wrong, where, what to do."""

    reason: str
    message: str


@dataclass(frozen=True)
class BaseFacts:
    """The base Deployment, as its pod template says."""

    name: str
    model: str  # path or repository id, as vLLM got it
    served_names: tuple[str, ...]
    port: int
    store_claim: str
    store_path: str  # where the store is mounted in the base's pods and in jobs
    max_loras: int
    max_cpu_loras: int
    max_lora_rank: int
    replicas: int
    selector: Mapping[str, str]
    template: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    container: str = "vllm"
    api_key_secret: tuple[str, str] | None = None  # Secret name and key
    api_key_is_plain: bool = False  # it stands in the pod template itself
    has_plugin: bool = False  # its pods start with the engine plugin
    problems: tuple[Problem, ...] = ()

    def adapter_path(self, adapter_name: str, digest: str) -> str:
        """Where the importer puts that adapter."""
        return f"{self.store_path}/adapters/{adapter_name}/{hex_of(digest)}"

    def artifact_path(self, artifact_id: str) -> str:
        """Where the build job publishes that artifact."""
        return f"{self.store_path}/artifacts/{hex_of(artifact_id)}"

    def evaluations_path(self, artifact_id: str) -> str:
        """Where validations keep what they measured of that artifact."""
        return f"{self.artifact_path(artifact_id)}.evaluations"


@dataclass(frozen=True)
class LoadFailure:
    """What vLLM answered to the last load or probe in this very container."""

    digest: str
    message: str
    permanent: bool
    at: datetime


@dataclass(frozen=True)
class PluginFacts:
    """What the engine plugin in a server says, about this release."""

    version: str
    target: str | None = None  # engine name that clients of the model name get
    is_declared: bool = False  # it knows the release: counts its requests, and can be told where the route is
    is_routed: bool = True  # it was not told that the route points elsewhere
    departed_seconds: float = 0.0  # since it was told so
    in_flight: Mapping[str, int] = field(default_factory=dict)  # running requests by engine name
    restore_failure: str = ""  # why the version before a restart could not be loaded again


@dataclass(frozen=True)
class PodFacts:
    """One pod that runs vLLM."""

    name: str
    uid: str
    ip: str = ""
    ready: bool = False
    deleting: bool = False
    container_id: str = ""
    loaded_label: str | None = None  # value of loaded.adapterrelease.dev/<release>
    routed_label: bool = False  # routed.adapterrelease.dev/<release> is there
    unrouted_at: datetime | None = None  # when the controller took the label off to update the pod
    adapters: Mapping[str, str] | None = None  # name -> root, from /v1/models; None: it could not be asked
    load_failure: LoadFailure | None = None
    plugin: PluginFacts | None = None  # None: it has none, or could not be asked
    ask_problem: str = ""  # why it could not be asked

    @property
    def usable(self) -> bool:
        return self.ready and not self.deleting

    @property
    def lacks_plugin(self) -> bool:
        """It answers, and has none: it started from an older pod template."""
        return self.usable and self.adapters is not None and self.plugin is None


class JobKind(StrEnum):
    IMPORT = "import"
    BUILD = "build"
    VALIDATE = "validate"


class JobState(StrEnum):
    ACTIVE = "Active"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True)
class ImportResult:
    digest: str
    path: str
    rank: int = 0
    size_bytes: int = 0
    merge_only: str = ""  # what vLLM cannot serve dynamically


@dataclass(frozen=True)
class BuildResult:
    artifact_id: str
    path: str
    name: str = ""
    digest: str = ""
    size_bytes: int = 0
    reused: bool = False
    provenance: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)  # by stage, of the build that made it


@dataclass(frozen=True)
class SuiteResult:
    """Scores are shares of right answers, 0 to 1; errors are requests without an answer. No adapter: none was asked."""

    name: str
    samples: int
    adapter: float | None
    artifact: float
    agreement: float | None = 0.0
    errors: int = 0


@dataclass(frozen=True)
class EvaluateResult:
    suites: tuple[SuiteResult, ...] = ()
    _: KW_ONLY
    speedup: float | None = None
    adapter_tokens_per_second: float | None = None
    artifact_tokens_per_second: float | None = None
    adapter_latency_seconds: float | None = None
    artifact_latency_seconds: float | None = None
    benchmark_errors: int = 0


@dataclass(frozen=True)
class StageFacts:
    """How far a running job is, in the stage's own units (bytes, layers, answers); total 0: not known."""

    name: str
    done: float
    total: float
    bytes: float


@dataclass(frozen=True)
class JobFacts:
    """A job of this release; `inputs` is the key that it was made for."""

    kind: JobKind
    name: str
    inputs: str
    state: JobState
    result: ImportResult | BuildResult | EvaluateResult | None = None
    failure: Problem | None = None
    progress: str = ""
    made_of: str = ""  # builds: hash of what goes into the artifact; "" where the job does not say
    stage: StageFacts | None = field(default=None, compare=False)  # only told to people; None: it says none


@dataclass(frozen=True)
class MergedFacts:
    """A merged Deployment of this release."""

    name: str
    uid: str
    artifact_id: str
    replicas: int
    root: str  # of its model in /v1/models
    port: int  # of vLLM in its pods
    available: int = 0
    pods: tuple[PodFacts, ...] = ()
    counters: Counters | None = None  # only read while it is observed; None: not readable
    trouble: str = ""  # why its pods do not start, in the kubelet's words
    refused: Problem | None = None  # why they must not start: the artifact is not what was published


@dataclass(frozen=True)
class RouteFacts:
    """The Service named after the release, and what answers through it."""

    owned: bool  # made by this controller for this very release
    selector: Mapping[str, str]
    target_port: int | None  # where requests to its port go; None: nowhere that we sent them
    endpoints: frozenset[str] = frozenset()  # names of the ready pods behind it, from EndpointSlices
    answered_root: str | None = None  # `root` of our model, asked through the Service; None: no right answer
    answer_problem: str = ""


@dataclass(frozen=True)
class Snapshot:
    """Everything that a decision about one release needs."""

    release: AdapterRelease
    base: BaseFacts | None = None
    base_pods: tuple[PodFacts, ...] = ()
    jobs: tuple[JobFacts, ...] = ()
    merged: tuple[MergedFacts, ...] = ()
    route: RouteFacts | None = None
    base_users: tuple[AdapterRelease, ...] = ()  # the other releases on this base; only where it may be scaled
    base_services: tuple[str, ...] = ()  # Services that select the base's pods; likewise
    rivals: tuple[str, ...] = ()  # older releases on this base with the same model name
    http_route: Sighting | None = None  # only read while status.rollout.canary remembers it; None: not readable
    preview_endpoints: frozenset[str] = frozenset()  # names of the ready pods behind NAME-preview
    services_taken: tuple[str, ...] = ()  # Services of somebody else under names that the release needs
    plugin_version: str = ""  # of the plugin that this controller ships
    lacks_plugin_objects: bool = False  # the namespace has not got the plugin's ConfigMap or Secret yet

    @property
    def name(self) -> str:
        return self.release.metadata.name

    @property
    def model_name(self) -> str:
        return self.release.model_name

    @property
    def loaded_label(self) -> str:
        return LOADED_LABEL_PREFIX + self.name

    @property
    def routed_label(self) -> str:
        return ROUTED_LABEL_PREFIX + self.name

    @property
    def in_place(self) -> bool:
        """Can an update be one flip on each pod? Every server of the base has the plugin, and room for two versions."""
        if self.base is None or not self.base.has_plugin or self.base.max_cpu_loras < 2:
            return False
        return not any(p.lacks_plugin for p in self.base_pods)

    def engine_name(self, digest: str) -> str:
        """What a server calls that version: beside the one that serves, and, with the plugin, always."""
        return f"{self.model_name}@{hex_of(digest)[:ENGINE_SHORT]}"

    def job(self, kind: JobKind, inputs: str) -> JobFacts | None:
        """The job of that kind that was made for these inputs."""
        return next((j for j in self.jobs if j.kind is kind and j.inputs == inputs), None)

    def merged_for(self, artifact_id: str) -> MergedFacts | None:
        return next((m for m in self.merged if m.artifact_id == artifact_id), None)

    def selector_for(self, backend: Backend) -> dict[str, str]:
        """What the route selects when it points at the backend."""
        if backend.kind is BackendKind.ADAPTER:
            return self._routed_pods() if self.in_place else self.holders_of(backend.id)
        return {RELEASE_LABEL: self.name, ARTIFACT_LABEL: artifact_label(backend.id)}

    def holders_of(self, digest: str) -> dict[str, str]:
        """Selects the base's pods that hold this very version."""
        return {**(self.base.selector if self.base else {}), self.loaded_label: hex_of(digest)[:SHORT]}

    def _routed_pods(self) -> dict[str, str]:
        """Selects the base's pods that may have clients, whatever version they hold."""
        return {**(self.base.selector if self.base else {}), self.routed_label: "true"}

    def root_for(self, backend: Backend) -> str:
        """`root` in /v1/models when the backend answers; "" where nothing says it.

        A merged Deployment keeps what it was made with, whatever becomes of its base.
        """
        if backend.kind is BackendKind.ARTIFACT and (merged := self.merged_for(backend.id)):
            return merged.root
        if self.base is None:
            return ""
        if backend.kind is BackendKind.ADAPTER:
            return self.base.adapter_path(self.release.spec.adapters[0].name, backend.id)
        return self.base.artifact_path(backend.id)

    def port_for(self, backend: Backend) -> int | None:
        """Of vLLM in the backend's pods; None where nothing says it."""
        if backend.kind is BackendKind.ARTIFACT and (merged := self.merged_for(backend.id)):
            return merged.port
        return self.base.port if self.base else None

    def held_digest(self, pod: PodFacts) -> str | None:
        """Hex of the digest that the pod serves under the client name; "" for a root that is not ours.

        Wherever the store is mounted: pods of an older template have it elsewhere, and still answer.
        """
        root = (pod.adapters or {}).get(self.model_name)
        if root is None:
            return None
        found = _IN_THE_STORE.search(root)
        return found.group(1) if found else ""


def artifact_label(artifact_id: str) -> str:
    """Label value for an artifact: it is cut, because a label holds 63 characters."""
    return hex_of(artifact_id)[:ENGINE_SHORT]
