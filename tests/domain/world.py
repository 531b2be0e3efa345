"""A small cluster that `plan` can be tried on: pods, jobs, Deployments, one Service, time, and all their misfortune.

What the controller does to it is in deeds.py, which checks the design's invariants at each action. It lies as vLLM
and Kubernetes do: late, twice, or not at all. Must not know: how a plan is made.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from controller.api.status import AdapterReleaseStatus, Backend, BackendKind, Counters, HistoryEntry
from controller.api.v1alpha1 import FINALIZER, AdapterRelease
from controller.domain.canary import Sighting
from controller.domain.snapshot import (
    BaseFacts,
    BuildResult,
    EvaluateResult,
    ImportResult,
    JobFacts,
    JobKind,
    JobState,
    LoadFailure,
    MergedFacts,
    PluginFacts,
    PodFacts,
    Problem,
    RouteFacts,
    Snapshot,
    SuiteResult,
    artifact_label,
    hex_of,
)
from tests.builders import BUILD, T0, VALIDATION, base, release

ROUTE = "support-bot"
ARTIFACT = "adapterrelease.dev/artifact"
LOADED = "loaded.adapterrelease.dev/support-bot"
ROUTED = "routed.adapterrelease.dev/support-bot"
# A release on the base that wants the same model name came first.
RIVAL = "support-bot-2025"


class Broken(AssertionError):
    """An invariant of the design does not hold."""


def digest_of(*parts: str) -> str:
    return "sha256:" + hashlib.sha256("|".join(parts).encode()).hexdigest()


def adapter_digest(version: int) -> str:
    """Digest of what the importer finds for version `v<version>`."""
    return digest_of("adapter", f"v{version}")


@dataclass
class BasePod:
    name: str
    ready: bool = True
    deleting: bool = False
    container: int = 0
    adapters: dict[str, str] = field(default_factory=dict)  # by engine name
    label: str | None = None
    routed: bool = False  # the other label
    unrouted_at: datetime | None = None
    mute: bool = False  # /v1/models does not answer
    refuses: set[str] = field(default_factory=set)  # digests (hex) that this server will not load
    replacing_fails: bool = False  # it loads beside what serves, but not in its place
    failure: LoadFailure | None = None
    # with the engine plugin
    plugin: bool = False
    alias: str | None = None  # engine name that clients get
    remembered: tuple[str, str] | None = None  # its annotation: engine name and path
    told_away_at: datetime | None = None
    running: dict[str, int] = field(default_factory=dict)  # requests by engine name
    loses_writes: bool = False  # the flip is done, and its label is not written

    @property
    def up(self) -> bool:
        return self.ready and not self.deleting

    @property
    def listed(self) -> dict[str, str]:
        """What /v1/models shows: the plugin shows the alias in place of its target."""
        if self.alias not in self.adapters:
            return dict(self.adapters)
        return {ROUTE if name == self.alias else name: path for name, path in self.adapters.items()}

    def restart(self) -> None:
        """The container dies. The plugin loads what the annotation says before the server is ready."""
        self.ready, self.adapters, self.failure, self.replacing_fails = False, {}, None, False
        self.alias, self.told_away_at, self.running = None, None, {}
        self.container += 1
        if self.plugin and self.remembered is not None:
            self.alias, self.adapters = self.remembered[0], dict([self.remembered])


@dataclass
class Merged:
    artifact_id: str
    uid: str
    available: bool = False
    replicas: int = 1
    container: int = 0
    requests: int = 0
    errors: int = 0
    milliseconds: int = 0
    trouble: str = ""
    refused: Problem | None = None  # its pods find the artifact changed
    never_starts: bool = False
    port: int = 8000  # that of the base when it was made
    unreadable: bool = False  # its /metrics does not answer
    plugin: bool = False
    told_away_at: datetime | None = None
    running: int = 0
    unheard: bool = False  # its plugin does not answer


@dataclass
class Job:
    kind: JobKind
    inputs: str
    about: str  # version, digest or artifact id that it works on
    facts: JobFacts


class World:
    def __init__(self, pods: int = 2, slots: int = 4, merge_only: tuple[int, ...] = (), plugin: bool = False) -> None:
        """`merge_only`: versions that vLLM cannot serve dynamically. `plugin`: the base has the engine plugin."""
        self.now = T0
        self.merge_only = {adapter_digest(number) for number in merge_only}
        self.builder = release()
        self._written: AdapterRelease | None = None  # what the builder made; anew after each edit
        self.version = 1
        self.generation = 1
        self.revision = 1
        self.finalizer = True
        self.deleted_at: str | None = None
        self.status = AdapterReleaseStatus()
        self.slots = slots
        self.plugin = plugin
        self.base: BaseFacts | None = base(max_cpu_loras=slots, has_plugin=plugin)
        self.pods: dict[str, BasePod] = {f"pod-{i}": BasePod(f"pod-{i}", plugin=plugin) for i in range(pods)}
        self.counter = pods
        self.jobs: dict[tuple[JobKind, str], Job] = {}
        self.merged: dict[str, Merged] = {}
        self.selector: dict[str, str] | None = None
        self.target_port: int | None = None  # of the Service
        self.slow_endpoints: list[str] | None = None  # what the Service still reaches while endpoints lag behind
        self.endpoints_lag = False
        self.answers_wrong = False  # what is asked through the route answers with another root
        self.weight = 0  # percent for the candidate in the user's HTTPRoute
        self.accepted: int | None = 0  # by the gateway
        self.gateway_is_late = False
        self.http_route_is_frozen = False  # its API server refuses writes
        self.preview: str | None = None  # artifact that NAME-preview leads to
        self.services_taken: set[str] = set()
        self.rivals: tuple[str, ...] = ()
        self.latency: float | None = 0.1  # what the next validation measures at the adapter
        self.bits = 0  # other files come out of the next build of the same inputs
        # what the invariants are about
        self.started: dict[tuple[JobKind, str], int] = {}
        self.builds: dict[str, str] = {}  # what a build is made of -> its inputs
        self.passed: set[str] = set()  # artifacts that a validation found good
        self.proven_adapters: set[str] = set()
        self.left_route_at: dict[str, datetime] = {}
        self.spec_rejections: set[tuple[str, str]] = set()
        self.base_had: int | None = None  # replicas, before the controller took them away

    # -- the user
    def release(self) -> AdapterRelease:
        written = self._written or self.builder.build()
        self._written = written
        changed: dict[str, Any] = {
            "generation": self.generation,
            "resource_version": str(self.revision),
            "finalizers": [FINALIZER] if self.finalizer else [],
            "deletion_timestamp": self.deleted_at,
        }
        metadata = written.metadata.model_copy(update=changed)
        return written.model_copy(update={"metadata": metadata, "status": self.status})

    def edit(self, **spec: Any) -> World:
        self.builder.spec(**spec)
        self._written = None
        self.generation += 1
        self.revision += 1
        return self

    def promote(self) -> World:
        return self.edit(stage="Stable", build=BUILD, validation=VALIDATION)

    def set_version(self, number: int) -> World:
        self.version = number
        self.builder.version(f"v{number}")
        return self.edit()

    def annotate(self, **annotations: str) -> World:
        self.builder.metadata(annotations={f"adapterrelease.dev/{k}": v for k, v in annotations.items()})
        self._written = None
        self.revision += 1
        return self

    def delete(self) -> World:
        """kubectl delete."""
        if self.deleted_at is None:
            self.deleted_at = self.now.strftime("%Y-%m-%dT%H:%M:%SZ")
            self.revision += 1
        return self

    # -- what is true
    @property
    def served(self) -> Backend | None:
        return self.status.serving.backend if self.status.serving else None

    def is_refused(self) -> bool:
        """vLLM cannot serve what the spec asks for, and nothing could be proven of its artifact."""
        spec = self.release().spec
        suites = spec.validation.suites if spec.validation else []
        wanting = spec.stage == "Experimental" or any(s.min_score is None for s in suites)
        return adapter_digest(self.version) in self.merge_only and wanting

    @property
    def history(self) -> list[HistoryEntry]:
        return self.status.history

    def condition(self, kind: str) -> tuple[str, str, str]:
        """Status, reason, message."""
        found = next(c for c in self.status.conditions if c.type == kind)
        return found.status, found.reason, found.message

    def reason(self, kind: str) -> tuple[str, str]:
        return self.condition(kind)[:2]

    def was_proven(self, backend: Backend) -> bool:
        known = self.passed if backend.kind is BackendKind.ARTIFACT else self.proven_adapters
        return backend.id in known

    def root(self, pod: BasePod) -> str | None:
        return pod.listed.get(ROUTE)

    def routed_pods(self, selector: dict[str, str] | None = None) -> list[str]:
        """Ready pods that the Service selects."""
        selector = self.selector if selector is None else selector
        if not selector:
            return []
        if ARTIFACT in selector:
            ours = [m for m in self.merged.values() if artifact_label(m.artifact_id) == selector[ARTIFACT]]
            return [f"merged-{m.uid}" for m in ours if m.available]
        if ROUTED in selector:
            return [p.name for p in self.pods.values() if p.up and p.routed]
        return [p.name for p in self.pods.values() if p.up and p.label == selector[LOADED]]

    def answering(self) -> list[str]:
        """Routed pods that give right answers: those that hold what their label says, and listen at the port."""
        routed = [p for p in self.routed_pods() if self.port_of(p) == self.target_port]
        return [p for p in routed if p not in self.pods or self._tells_the_truth(self.pods[p])]

    def port_of(self, name: str) -> int | None:
        """Where vLLM listens in that pod."""
        if name in self.pods:
            return self.base.port if self.base else None
        return next((m.port for m in self.merged.values() if f"merged-{m.uid}" == name), None)

    def _tells_the_truth(self, pod: BasePod) -> bool:
        """It holds what its label says; where one label stands for both versions of an update, one of the two."""
        held = (self.root(pod) or "").rpartition("/")[2]
        if self.selector and ROUTED in self.selector:
            rollout = self.status.rollout
            known = [self.served, rollout.target, rollout.origin]
            return held in {hex_of(b.id) for b in known if b is not None and b.kind is BackendKind.ADAPTER}
        return held[:8] == pod.label

    def lies(self, pod: BasePod) -> bool:
        """Anybody who asks can see it."""
        return pod.up and not pod.mute and pod.label is not None and not self._tells_the_truth(pod)

    def endpoints(self) -> list[str]:
        """Pods behind the Service; they may lag behind its selector."""
        if self.slow_endpoints is None:
            return self.routed_pods()
        alive = {p.name for p in self.pods.values() if p.up} | {f"merged-{m.uid}" for m in self.merged.values()}
        return [p for p in self.slow_endpoints if p in alive]

    def base_services(self) -> tuple[str, ...]:
        """Those that select its pods: the route, and NAME-adapter."""
        return (ROUTE,) if any(p.label or p.routed for p in self.pods.values()) else ()

    # -- what the controller sees
    def snapshot(self) -> Snapshot:
        seen = Snapshot(
            release=self.release(),
            base=self.base,
            base_pods=tuple(self._pod_facts(p) for p in self.pods.values()) if self.base else (),
            merged=tuple(self._merged_facts(m) for m in self.merged.values()),
            jobs=tuple(j.facts for j in self.jobs.values()),
            rivals=self.rivals,
            base_services=self.base_services(),
            services_taken=tuple(sorted(self.services_taken)),
        )
        return replace(seen, route=self._route_facts(), **self._canary_facts())

    def _canary_facts(self) -> dict[str, Any]:
        canary = self.status.rollout.canary
        if canary is None:
            return {}
        ready = [f"merged-{m.uid}" for m in self.merged.values() if m.artifact_id == self.preview and m.available]
        return {
            "http_route": Sighting(weight=self.accepted, clean=self.weight == 0),
            "preview_endpoints": frozenset(ready),
        }

    def _pod_facts(self, p: BasePod) -> PodFacts:
        return PodFacts(
            name=p.name,
            uid=p.name,
            ip="10.0.0.1",
            ready=p.ready,
            deleting=p.deleting,
            container_id=f"{p.name}/{p.container}",
            loaded_label=p.label,
            routed_label=p.routed,
            unrouted_at=p.unrouted_at,
            adapters=p.listed if p.up and not p.mute else None,
            load_failure=p.failure,
            ask_problem="no answer" if p.mute else "",
            plugin=self._plugin_facts(p) if p.plugin and (p.up or p.deleting) and not p.mute else None,
        )

    def _plugin_facts(self, p: BasePod) -> PluginFacts:
        return PluginFacts(
            "p1",
            target=p.alias,
            is_declared=p.alias is not None,
            is_routed=p.told_away_at is None,
            departed_seconds=self._seconds_since(p.told_away_at),
            in_flight=dict(p.running),
        )

    def _seconds_since(self, when: datetime | None) -> float:
        return (self.now - when).total_seconds() if when else 0.0

    def _merged_facts(self, m: Merged) -> MergedFacts:
        away, seconds = m.told_away_at is not None, self._seconds_since(m.told_away_at)
        running = {ROUTE: m.running} if m.running else {}
        plugin = (
            PluginFacts("p1", None, True, not away, seconds, running)
            if m.plugin and m.available and not m.unheard
            else None
        )
        pod = PodFacts(
            name=f"merged-{m.uid}",
            uid=m.uid,
            ready=m.available,
            container_id=f"{m.uid}/{m.container}",
            plugin=plugin,
            ask_problem="no answer" if m.unheard else "",
        )
        counters = Counters(
            pods=[pod.container_id],
            requests=m.requests,
            errors=m.errors,
            latency_milliseconds=m.milliseconds,
            latency_count=m.requests,
        )
        return MergedFacts(
            name=f"support-bot-merged-{m.artifact_id[7:15]}",
            uid=m.uid,
            artifact_id=m.artifact_id,
            replicas=m.replicas,
            root=f"/store/artifacts/{hex_of(m.artifact_id)}",
            port=m.port,
            available=int(m.available),
            pods=(pod,) if m.replicas else (),
            counters=counters if m.available and not m.unreadable else None,
            trouble=m.trouble,
            refused=m.refused,
        )

    def _route_facts(self) -> RouteFacts | None:
        if self.selector is None:
            return None
        pods = self.endpoints()
        answer = self._answer_of(pods[0]) if pods else None
        if self.answers_wrong and answer is not None:
            answer = "/store/models/base"
        return RouteFacts(
            owned=True,
            selector=dict(self.selector),
            target_port=self.target_port,
            endpoints=frozenset(pods),
            answered_root=answer,
            answer_problem="" if answer else "nothing answers",
        )

    def _answer_of(self, name: str) -> str | None:
        if self.port_of(name) != self.target_port:
            return None
        if name in self.pods:
            return self.root(self.pods[name])
        merged = next(m for m in self.merged.values() if f"merged-{m.uid}" == name)
        return f"/store/artifacts/{hex_of(merged.artifact_id)}" if merged.available else None

    # -- what happens to it
    def end_job(self, key: tuple[JobKind, str], outcome: str) -> None:
        job = self.jobs[key]
        if outcome == "fails":
            facts = replace(job.facts, state=JobState.FAILED, failure=Problem("Broken", "it broke"))
        else:
            facts = replace(job.facts, state=JobState.SUCCEEDED, result=self._result(job, outcome))
        self.jobs[key] = replace(job, facts=facts)

    def _result(self, job: Job, outcome: str) -> ImportResult | BuildResult | EvaluateResult | None:
        if outcome == "no result":
            return None
        if job.kind is JobKind.IMPORT:
            digest = digest_of("adapter", job.about)
            only = "DoRA (use_dora=True)" if digest in self.merge_only else ""
            return ImportResult(digest, f"/store/adapters/finetune/{hex_of(digest)}", rank=8, merge_only=only)
        if job.kind is JobKind.BUILD:
            artifact_id = digest_of("artifact", job.about)
            path, digest = f"/store/artifacts/{hex_of(artifact_id)}", digest_of("files", job.about, str(self.bits))
            return BuildResult(artifact_id, path, name="merged-tiny-llama", digest=digest)
        return self._scores(job.about, outcome)

    def _scores(self, artifact_id: str, outcome: str) -> EvaluateResult:
        if outcome == "empty":
            return EvaluateResult()
        if outcome == "good":
            self.passed.add(artifact_id)
        errors = 3 if outcome == "errors" else 0
        score = {"bad": 0.4, "nan": math.nan}.get(outcome, 0.99)
        latency = math.nan if outcome == "nan" else self.latency
        if artifact_id in {digest_of("artifact", digest) for digest in self.merge_only}:
            alone = SuiteResult("support", 100, None, min(score, 0.05) if outcome == "bad" else score, None, errors)
            return EvaluateResult((alone,), artifact_latency_seconds=latency)
        result = SuiteResult("support", 100, 0.99, score, errors=errors)
        return EvaluateResult((result,), speedup=1.5, adapter_latency_seconds=latency, artifact_latency_seconds=latency)

    def crash_container(self, name: str) -> None:
        self.pods[name].restart()

    def merged_goes(self, artifact_id: str, available: bool) -> None:
        self.merged[artifact_id].available = available

    def scale(self, artifact_id: str, replicas: int) -> None:
        """kubectl scale deployment, or an autoscaler."""
        merged = self.merged[artifact_id]
        merged.replicas, merged.available = replicas, merged.available and replicas > 0

    def add_pod(self) -> BasePod:
        self.counter += 1
        self.pods[f"pod-{self.counter}"] = BasePod(f"pod-{self.counter}", plugin=self.plugin)
        return self.pods[f"pod-{self.counter}"]

    def lose_deployment(self, artifact_id: str) -> None:
        """kubectl delete deployment."""
        self.merged.pop(artifact_id, None)

    def base_is_deleted(self) -> None:
        self.base, self.pods, self.base_had = None, {}, None

    def person_scales_base(self, replicas: int) -> None:
        """Or an autoscaler. What is at zero already is nobody's news."""
        if replicas or (self.base and self.base.replicas):
            self.base_had = None
        self.scale_base(replicas)

    def scale_base(self, replicas: int) -> None:
        """The pods follow."""
        if self.base is None:
            return
        self.base = replace(self.base, replicas=replicas)
        for pod in list(self.pods.values())[replicas:]:
            pod.deleting, pod.ready = True, False
        for _ in range(replicas - sum(not p.deleting for p in self.pods.values())):
            self.add_pod()

    def base_comes_back(self, pods: int = 1) -> None:
        port, replicas = (self.base.port, self.base.replicas) if self.base else (8000, 2)
        self.base = base(max_cpu_loras=self.slots, port=port, has_plugin=self.plugin, replicas=replicas)
        if not replicas:
            return
        for _ in range(pods - len(self.pods)):
            self.add_pod()

    def base_gets_another_port(self) -> None:
        """Its pods are made anew, all at once."""
        if self.base is not None:
            self.base = replace(self.base, port=17000 - self.base.port)
            pods, self.pods = len(self.pods), {}
            for _ in range(pods):
                self.add_pod()

    def base_gets_the_plugin(self) -> None:
        """`enable`, or its opposite: a rolling update, one new pod up, the old ones still there."""
        if self.base is not None:
            self.plugin = not self.plugin
            self.base = replace(self.base, has_plugin=self.plugin)
            self.add_pod()

    def let_endpoints_catch_up(self) -> None:
        self.endpoints_lag, self.slow_endpoints = False, None

    def heal(self) -> None:
        """The misfortune ends."""
        self.base_comes_back()
        memory = self.status.base.state if self.status.base else "Overruled"
        if self.base is not None and self.base.replicas == 0 and (memory == "Overruled" or self.base_had is None):
            self.person_scales_base(2)  # who has taken it away by hand brings it back
        for pod in self.pods.values():
            pod.ready, pod.mute, pod.refuses, pod.replacing_fails, pod.failure = True, False, set(), False, None
            pod.running, pod.loses_writes, pod.deleting = {}, False, pod.deleting or pod.plugin is not self.plugin
            for name in [n for n in pod.adapters if not n.startswith(ROUTE)]:
                del pod.adapters[name]
        for name in [n for n, p in self.pods.items() if p.deleting]:
            del self.pods[name]
        while self.base and self.base.replicas and len(self.pods) < (2 if self.slots == 1 else 1):
            self.add_pod()  # one pod with one slot can never be updated
        for merged in self.merged.values():
            merged.replicas, merged.available, merged.never_starts, merged.unreadable = 1, True, False, False
            merged.refused, merged.running, merged.unheard = None, 0, False
        self.let_endpoints_catch_up()
        self.gateway_is_late, self.http_route_is_frozen, self.accepted = False, False, self.weight
        self.answers_wrong, self.services_taken, self.rivals = False, set(), ()

    def pass_time(self, seconds: float) -> World:
        self.now += timedelta(seconds=seconds)
        return self
