"""A small cluster that `plan` can be tried on: pods, jobs, Deployments, one Service, time, and all their misfortune.

It carries out actions with the same guards as reconcile/act.py and checks the design's invariants at each of them
(`Broken` is raised where one does not hold). It lies as vLLM and Kubernetes do: late, twice, or not at all.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from controller.api.status import AdapterReleaseStatus, Backend, BackendKind, Counters, Step
from controller.api.types import parse_duration
from controller.api.v1alpha1 import AdapterRelease
from controller.domain import actions as act
from controller.domain.inputs import spec_inputs
from controller.domain.plan import Plan, plan
from controller.domain.snapshot import (
    BaseFacts,
    BuildResult,
    EvaluateResult,
    ImportResult,
    JobFacts,
    JobState,
    LoadFailure,
    MergedFacts,
    PodFacts,
    Problem,
    RouteFacts,
    Snapshot,
    SuiteResult,
    artifact_label,
    hex_of,
)
from tests.builders import T0, base, release


class Broken(AssertionError):
    """An invariant of the design does not hold."""


def digest_of(*parts: str) -> str:
    return "sha256:" + hashlib.sha256("|".join(parts).encode()).hexdigest()


@dataclass
class BasePod:
    name: str
    ready: bool = True
    deleting: bool = False
    container: int = 0
    adapters: dict[str, str] = field(default_factory=dict)
    label: str | None = None
    unrouted_at: datetime | None = None
    mute: bool = False  # /v1/models does not answer
    refuses: set[str] = field(default_factory=set)  # digests (hex) that this server will not load
    failure: LoadFailure | None = None


@dataclass
class Merged:
    artifact_id: str
    uid: str
    available: bool = False
    gone_since: datetime | None = None
    container: int = 0
    requests: int = 0
    errors: int = 0


@dataclass
class Job:
    kind: act.JobKind
    inputs: str
    about: str  # digest or artifact id that it works on
    facts: JobFacts


class World:
    def __init__(self, pods: int = 2, slots: int = 4) -> None:
        self.now = T0
        self.builder = release()
        self.version = 1
        self.generation = 1
        self.revision = 1
        self.finalizer = True
        self.deleted_at: str | None = None
        self.status = AdapterReleaseStatus()
        self.slots = slots
        self.base: BaseFacts | None = base(max_cpu_loras=slots)
        self.pods: dict[str, BasePod] = {f"pod-{i}": BasePod(f"pod-{i}") for i in range(pods)}
        self.counter = pods
        self.jobs: dict[tuple[act.JobKind, str], Job] = {}
        self.merged: dict[str, Merged] = {}
        self.selector: dict[str, str] | None = None
        self.built: dict[str, int] = {}
        self.passed: set[str] = set()  # artifacts that a validation found good
        self.left_route_at: dict[str, datetime] = {}
        self.lost_requests: list[str] = []
        self.spec_rejections: set[tuple[str, str]] = set()

    # -- what is true
    def release(self) -> AdapterRelease:
        self.builder.metadata(
            generation=self.generation,
            resourceVersion=str(self.revision),
            finalizers=["adapterrelease.dev/unload"] if self.finalizer else [],
            deletionTimestamp=self.deleted_at,
        )
        return self.builder.build().model_copy(update={"status": self.status})

    def edit(self, **spec: Any) -> None:
        self.builder.spec(**spec)
        self.generation += 1
        self.revision += 1

    def set_version(self, number: int) -> None:
        self.version = number
        self.builder.version(f"v{number}")
        self.generation += 1
        self.revision += 1

    def root(self, pod: BasePod) -> str | None:
        return pod.adapters.get("support-bot")

    def routed_pods(self, selector: dict[str, str] | None = None) -> list[str]:
        """Ready pods that the Service reaches."""
        selector = self.selector if selector is None else selector
        if not selector:
            return []
        if "adapterrelease.dev/artifact" in selector:
            wanted = selector["adapterrelease.dev/artifact"]
            return [
                f"merged-{m.uid}"
                for m in self.merged.values()
                if artifact_label(m.artifact_id) == wanted and m.available
            ]
        wanted = selector["loaded.adapterrelease.dev/support-bot"]
        return [p.name for p in self.pods.values() if p.ready and not p.deleting and p.label == wanted]

    def snapshot(self) -> Snapshot:
        release = self.release()
        seen = Snapshot(
            release=release,
            base=self.base,
            base_pods=tuple(self._pod_facts(p) for p in self.pods.values()),
            merged=tuple(self._merged_facts(m) for m in self.merged.values()),
            jobs=tuple(j.facts for j in self.jobs.values()),
        )
        return replace(seen, route=self._route_facts(seen))

    def _pod_facts(self, p: BasePod) -> PodFacts:
        answers = p.ready and not p.deleting and not p.mute
        return PodFacts(
            name=p.name,
            uid=p.name,
            ip="10.0.0.1",
            ready=p.ready,
            deleting=p.deleting,
            container_id=f"{p.name}/{p.container}",
            loaded_label=p.label,
            unrouted_at=p.unrouted_at,
            adapters=dict(p.adapters) if answers else None,
            load_failure=p.failure,
        )

    def _merged_facts(self, m: Merged) -> MergedFacts:
        pod = PodFacts(name=f"merged-{m.uid}", uid=m.uid, ready=m.available, container_id=f"{m.uid}/{m.container}")
        counters = Counters(pods=[pod.container_id], requests=m.requests, errors=m.errors) if m.available else None
        return MergedFacts(
            name=f"support-bot-merged-{m.artifact_id[7:15]}",
            uid=m.uid,
            artifact_id=m.artifact_id,
            replicas=1,
            available=int(m.available),
            pods=(pod,),
            unavailable_since=None if m.available else m.gone_since,
            counters=counters,
        )

    def _route_facts(self, seen: Snapshot) -> RouteFacts | None:
        if self.selector is None:
            return None
        pods = self.routed_pods()
        answer = None
        if pods and pods[0] in self.pods:
            answer = self.root(self.pods[pods[0]])
        elif pods:
            answer = (
                next(
                    seen.base.artifact_path(m.artifact_id)  # type: ignore[union-attr]
                    for m in self.merged.values()
                    if f"merged-{m.uid}" == pods[0] and seen.base
                )
                if seen.base
                else None
            )
        return RouteFacts(owned=True, selector=dict(self.selector), endpoints=frozenset(pods), answered_root=answer)

    # -- what the controller does
    def do(self, action: act.Action, seen: Snapshot) -> None:
        handler: Callable[[Any, Snapshot], None] = getattr(self, "_" + type(action).__name__)
        handler(action, seen)

    def stale(self, seen: Snapshot) -> bool:
        return seen.release.metadata.resource_version != str(self.revision)

    def write_status(self, status: AdapterReleaseStatus, seen: Snapshot) -> bool:
        if self.stale(seen):
            return False
        if status != self.status:
            self._check_memory(self.status, status)
            self.status = status
            self.revision += 1
        return True

    def _check_memory(self, old: AdapterReleaseStatus, new: AdapterReleaseStatus) -> None:
        if new.rollout.step is not Step.IDLE and new.rollout.deadline is None:
            raise Broken(f"6: step {new.rollout.step} has no deadline")
        if old.serving is not None and new.serving is None:
            raise Broken("1: what serves was forgotten")
        if new.serving != old.serving and new.serving is not None and not self.was_proven(new.serving.backend):
            raise Broken(f"1: {new.serving.backend} is said to serve, but never answered")
        key = spec_inputs(self.release())
        self.spec_rejections |= {(r.id, key) for r in new.rollout.rejected if r.id and r.inputs == key}

    def was_proven(self, backend: Backend) -> bool:
        return backend.id in self.passed if backend.kind is BackendKind.ARTIFACT else backend.id in self.proven_adapters

    @property
    def proven_adapters(self) -> set[str]:
        return self.__dict__.setdefault("_proven", set())

    def _AddFinalizer(self, action: act.AddFinalizer, seen: Snapshot) -> None:
        self.finalizer = True

    def _RemoveFinalizer(self, action: act.RemoveFinalizer, seen: Snapshot) -> None:
        self.finalizer = False

    def _EnsureJob(self, action: act.EnsureJob, seen: Snapshot) -> None:
        key = (action.kind, action.inputs)
        if key in self.jobs:
            return
        if action.kind is act.JobKind.BUILD:
            self.built[action.inputs] = self.built.get(action.inputs, 0) + 1
        status = seen.release.status
        about = status.adapter.digest if action.kind is act.JobKind.BUILD and status.adapter else ""
        if action.kind is act.JobKind.IMPORT:
            about = seen.release.spec.adapters[0].version
        if action.kind is act.JobKind.VALIDATE and status.artifact:
            about = status.artifact.id
        self.jobs[key] = Job(
            action.kind,
            action.inputs,
            about,
            JobFacts(action.kind, f"{action.kind}-{action.inputs[:8]}", action.inputs, JobState.ACTIVE),
        )

    def end_job(self, key: tuple[act.JobKind, str], outcome: str) -> None:
        job = self.jobs[key]
        if outcome == "fails":
            facts = replace(job.facts, state=JobState.FAILED, failure=Problem("Broken", "it broke"))
        else:
            facts = replace(job.facts, state=JobState.SUCCEEDED, result=self._result(job, outcome))
        self.jobs[key] = replace(job, facts=facts)

    def _result(self, job: Job, outcome: str) -> Any:
        if job.kind is act.JobKind.IMPORT:
            digest = digest_of("adapter", job.about)
            return ImportResult(digest, f"/store/adapters/finetune/{hex_of(digest)}", rank=8)
        if job.kind is act.JobKind.BUILD:
            artifact_id = digest_of("artifact", job.about, job.inputs)
            return BuildResult(artifact_id, f"/store/artifacts/{hex_of(artifact_id)}")
        scores = {"good": 0.99, "bad": 0.4, "nan": math.nan}
        if outcome == "empty":
            return EvaluateResult()
        if outcome == "no result":
            return None
        errors = 3 if outcome == "errors" else 0
        if outcome == "good":
            self.passed.add(job.about)
        result = SuiteResult("support", 100, 0.99, scores.get(outcome, 0.99), errors=errors)
        return EvaluateResult((result,), speedup=1.5, adapter_latency_seconds=0.1, artifact_latency_seconds=0.1)

    def _pod(self, name: str) -> BasePod | None:
        pod = self.pods.get(name)
        return pod if pod is not None and pod.ready and not pod.deleting and not pod.mute else None

    def _load(self, pod: BasePod, name: str, digest: str, path: str) -> bool:
        if hex_of(digest) not in path:
            raise Broken("7: a version is loaded from a path that is not its own")
        if len(pod.adapters) >= self.slots and name not in pod.adapters:
            raise Broken(f"a load on {pod.name} would evict another adapter")
        if hex_of(digest) in pod.refuses:
            pod.failure = LoadFailure(digest, "no", True, self.now)
            return False
        pod.adapters.setdefault(name, path)
        return True

    def _LoadAdapter(self, action: act.LoadAdapter, seen: Snapshot) -> None:
        if pod := self._pod(action.pod):
            if action.engine_name not in pod.adapters and len(pod.adapters) >= (
                self.base.max_cpu_loras if self.base else 0
            ):
                return
            self._load(pod, action.engine_name, action.digest, action.path)

    def _StageAdapter(self, action: act.StageAdapter, seen: Snapshot) -> None:
        if (pod := self._pod(action.pod)) and len(pod.adapters) < self.slots:
            self._load(pod, action.engine_name, action.digest, action.path)

    def _ReplaceAdapter(self, action: act.ReplaceAdapter, seen: Snapshot) -> None:
        pod = self._pod(action.pod)
        if pod is None or self.stale(seen):
            return
        healthy = [p for p in self.pods.values() if p.ready and not p.deleting]
        if len([p for p in seen.base_pods if p.usable]) > 1 and len(healthy) > 1:
            raise Broken("1: the version on a pod was replaced in place although there are others")
        if action.staging_name not in pod.adapters:
            return
        pod.adapters[action.engine_name] = action.path
        pod.label = action.label
        pod.unrouted_at = None
        self.proven_adapters.add(action.digest)
        pod.adapters.pop(action.staging_name)

    def _ProbeAndLabel(self, action: act.ProbeAndLabel, seen: Snapshot) -> None:
        pod = self._pod(action.pod)
        if pod is None or pod.adapters.get(action.engine_name) != action.path:
            return
        pod.label, pod.unrouted_at = action.label, None
        self.proven_adapters.add(action.digest)

    def _RemoveLabel(self, action: act.RemoveLabel, seen: Snapshot) -> None:
        pod = self.pods.get(action.pod)
        if pod is None or pod.label is None:
            return
        facts = next((p for p in seen.base_pods if p.name == action.pod), None)
        honest = facts is not None and facts.usable and (seen.held_digest(facts) or "x")[:8] == facts.loaded_label
        if honest and self.deleted_at is None and not self.stale(seen):
            others = [p for p in self.routed_pods() if p != pod.name]
            if pod.name in self.routed_pods() and not others:
                raise Broken("4: the last pod that serves was taken out of the route")
        pod.label, pod.unrouted_at = None, self.now

    def _UnloadAdapter(self, action: act.UnloadAdapter, seen: Snapshot) -> None:
        pod = self._pod(action.pod)
        if pod is None or self.stale(seen):
            return
        if pod.label is not None and "@" not in action.engine_name:
            return  # act's guard
        if (
            pod.unrouted_at is not None
            and "@" not in action.engine_name
            and self.now - pod.unrouted_at < timedelta(seconds=5)
        ):
            raise Broken("4: unloaded before the delay was over")
        pod.adapters.pop(action.engine_name, None)

    def _EnsureAdapterService(self, action: act.EnsureAdapterService, seen: Snapshot) -> None:
        pass

    def _EnsureMerged(self, action: act.EnsureMerged, seen: Snapshot) -> None:
        if action.artifact_id in self.merged:
            return
        if (action.artifact_id, spec_inputs(seen.release)) in self.spec_rejections and not self.stale(seen):
            served = self.status.serving is not None and self.status.serving.backend.id == action.artifact_id
            if not served and self.release().spec.rollback is None:
                raise Broken("5: a rejected artifact is tried again")
        self.counter += 1
        self.merged[action.artifact_id] = Merged(action.artifact_id, f"m{self.counter}", gone_since=self.now)

    def _DeleteMerged(self, action: act.DeleteMerged, seen: Snapshot) -> None:
        merged = self.merged.get(action.artifact_id)
        if merged is None or merged.uid != action.uid or self.stale(seen):
            return
        label = (self.selector or {}).get("adapterrelease.dev/artifact")
        if label == artifact_label(action.artifact_id):
            raise Broken("4: the routed Deployment was deleted")
        left = self.left_route_at.get(action.artifact_id)
        delay = parse_duration(self.release().spec.rollout.scale_down_delay)
        if left is not None and self.now - left < delay:
            raise Broken("4: a Deployment was deleted before scaleDownDelay was over")
        del self.merged[action.artifact_id]

    def _SwitchRoute(self, action: act.SwitchRoute, seen: Snapshot) -> None:
        if self.stale(seen):
            return
        backend, selector = action.backend, seen.selector_for(action.backend)
        if backend.kind is BackendKind.ARTIFACT:
            if backend.id not in self.passed:
                raise Broken("2/3: traffic to an artifact without a Pass verdict")
            rejected = (backend.id, spec_inputs(self.release())) in self.spec_rejections
            already = self.status.serving is not None and self.status.serving.backend == backend
            if rejected and not already and self.release().spec.rollback is None:
                raise Broken("5: traffic to a rejected artifact")
        elif backend.id not in self.proven_adapters:
            raise Broken("1: the route points at an adapter that never answered")
        if (
            self.selector
            and self.routed_pods()
            and not self.routed_pods(selector)
            and not self._just_died(seen, backend)
        ):
            raise Broken("1: the route was moved from a backend that answers to one that does not")
        if self.selector and (old := self.selector.get("adapterrelease.dev/artifact")) and self.selector != selector:
            for artifact_id in self.merged:
                if artifact_label(artifact_id) == old:
                    self.left_route_at[artifact_id] = self.now
        if backend.kind is BackendKind.ARTIFACT:
            self.left_route_at.pop(backend.id, None)
        self.selector = selector

    # -- what happens to it
    def crash_container(self, name: str) -> None:
        pod = self.pods[name]
        pod.ready, pod.adapters, pod.failure = False, {}, None
        pod.container += 1

    def heal(self) -> None:
        for pod in self.pods.values():
            pod.ready, pod.mute, pod.refuses = True, False, set()
            pod.failure = None
        for name in [n for n, p in self.pods.items() if p.deleting]:
            del self.pods[name]
        if not self.pods:
            self.add_pod()
        for merged in self.merged.values():
            merged.available, merged.gone_since = True, None

    def add_pod(self) -> None:
        self.counter += 1
        self.pods[f"pod-{self.counter}"] = BasePod(f"pod-{self.counter}")


@dataclass
class Controller:
    """One controller process, stopped between any two writes."""

    world: World
    seen: Snapshot | None = None
    plan: Plan | None = None
    todo: list[act.Action] = field(default_factory=list)

    def look(self) -> None:
        self.seen = self.world.snapshot()
        self.plan = plan(self.seen, self.world.now)
        self.todo = list(self.plan.actions)

    def step(self) -> bool:
        """One write. False when there was nothing to write."""
        if self.plan is None or self.seen is None:
            self.look()
            return True
        if self.todo:
            self.world.do(self.todo.pop(0), self.seen)
            return True
        self.world.write_status(self.plan.status, self.seen)
        self.plan = None
        return True

    def crash(self) -> None:
        self.plan, self.todo = None, []

    def reconcile(self) -> Plan:
        self.look()
        done = self.plan
        assert done is not None
        while self.plan is not None:
            self.step()
        return done


def run(world: World, rounds: int = 60, tick: float = 1.0, finish: str = "good") -> Iterator[Plan]:
    """Let one controller work in a world where everything goes well: jobs end, Deployments come up, time passes."""
    controller = Controller(world)
    for _ in range(rounds):
        yield controller.reconcile()
        for key, job in list(world.jobs.items()):
            if job.facts.state is JobState.ACTIVE:
                world.end_job(key, finish)
        for merged in world.merged.values():
            merged.available = True
            merged.requests += 10
        world.now += timedelta(seconds=tick)


def settle(world: World, rounds: int = 60, tick: float = 1.0, finish: str = "good") -> World:
    for _ in run(world, rounds, tick, finish):
        pass
    return world
