"""All reads about one release, into a frozen Snapshot. Not found is None; a server that cannot be asked is None.

The release itself is read from the API server every time, because its status is our memory; all else comes from the
informers' caches. vLLM is asked on each pod: a label is never taken for a proof. Must not know: what follows from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from controller.api.status import BackendKind, Counters, Step
from controller.api.v1alpha1 import RELEASE_LABEL, AdapterRelease
from controller.domain.canary import Sighting
from controller.domain.snapshot import BaseFacts, JobFacts, MergedFacts, PodFacts, Problem, RouteFacts, Snapshot
from controller.errors import ApiError, NotFound
from controller.reconcile.act_engine import EngineObjects
from controller.reconcile.base import base_facts, services_of_base
from controller.reconcile.caches import RELEASES, SERVICE_NAME_LABEL, Caches
from controller.reconcile.engines import ApiKeyNotReadable, Engines
from controller.reconcile.failures import LoadFailures
from controller.reconcile.jobs import JOB_NAME_LABEL, Progress, has_begun, is_active, job_facts
from controller.reconcile.merged import merged_facts, sum_counters
from controller.reconcile.objects.httproute import HTTP_ROUTES, backends_of, sight
from controller.reconcile.objects.metadata import (
    ARTIFACT_ANNOTATION,
    adapter_service_name,
    is_ours,
    preview_service_name,
)
from controller.reconcile.pods import is_running, living, pod_facts
from controller.reconcile.route import Answer, address_of, ask_route, ready_endpoints, route_facts
from controller.reconcile.servers import Servers
from controller.runtime.client import KubeClient
from controller.runtime.resources import CONFIGMAPS, DEPLOYMENTS, Key

Json = Mapping[str, Any]

_PROVING = (Step.SWITCHING, Step.ROLLING_BACK)


def read_release(client: KubeClient, key: Key) -> AdapterRelease | None:
    """The release as the API server has it now; None: there is none."""
    try:
        return AdapterRelease.model_validate(client.get(RELEASES.path(key.namespace, key.name)))
    except NotFound:
        return None


class Observer:
    """Takes snapshots. Safe to use from many threads, for different releases."""

    def __init__(
        self,
        client: KubeClient,
        caches: Caches,
        engines: Engines,
        failures: LoadFailures,
        progress: Progress,
        engine_objects: EngineObjects,
    ) -> None:
        self._client = client
        self._caches = caches
        self._engines = engines
        self._failures = failures
        self._progress = progress
        self._engine_objects = engine_objects

    def observe(self, key: Key) -> Snapshot | None:
        """None: there is no such release."""
        release = read_release(self._client, key)
        if release is None:
            return None
        base, api_key = self._base(release)
        has_plugin = base is not None and base.has_plugin
        return Snapshot(
            release=release,
            base=base,
            base_pods=self._base_pods(release, base, api_key),
            jobs=self._jobs(release),
            merged=self._merged(release),
            route=self._route(release, api_key),
            base_users=self._base_users(release),
            base_services=self._base_services(release),
            http_route=self._http_route(release),
            preview_endpoints=self._preview_endpoints(release),
            rivals=self._rivals(release),
            services_taken=self._services_taken(release),
            plugin_version=self._engine_objects.version,
            lacks_plugin_objects=has_plugin and not self._engine_objects.are_there(key.namespace),
        )

    def _base(self, release: AdapterRelease) -> tuple[BaseFacts | None, str | None]:
        """The facts and the API key of its servers."""
        namespace = release.metadata.namespace
        deployment = self._base_deployment(release)
        if deployment is None:
            return None, None
        base = base_facts(deployment)
        try:
            return base, self._engines.key_of(namespace, base)
        except ApiKeyNotReadable as error:
            problem = Problem(error.reason, error.message)
            return replace(base, problems=(*base.problems, problem)), None

    def _base_deployment(self, release: AdapterRelease) -> Json | None:
        """Read afresh while the release remembers that it has scaled it: who takes an old number of replicas for the
        one there is forgets that the base is at zero."""
        namespace, name = release.metadata.namespace, release.spec.base_ref.name
        if release.status.base is None:
            return self._caches.deployments.get(namespace, name)
        try:
            return self._client.get(DEPLOYMENTS.path(namespace, name))
        except NotFound:
            return None

    def _base_pods(self, release: AdapterRelease, base: BaseFacts | None, api_key: str | None) -> tuple[PodFacts, ...]:
        key = Key(release.metadata.namespace, release.metadata.name)
        if base is None or not base.selector:
            return ()
        found = living(self._caches.pods.list(key.namespace, base.selector))
        pods = [self._remember(key, pod_facts(p, base.container, key.name)) for p in found]
        return Servers(self._engines, base, key.namespace, release.model_name, api_key).with_adapters(pods)

    def _remember(self, key: Key, pod: PodFacts) -> PodFacts:
        return replace(pod, load_failure=self._failures.last(key, pod.uid, pod.container_id))

    def _jobs(self, release: AdapterRelease) -> tuple[JobFacts, ...]:
        """All jobs that were made for this release, old ones included; which one counts is for the plan to say."""
        namespace = release.metadata.namespace
        facts = []
        for job in self._caches.jobs.list(namespace, {RELEASE_LABEL: release.metadata.name}):
            if is_ours(job, release) and "deletionTimestamp" not in job["metadata"]:
                pods = self._caches.pods.list(namespace, {JOB_NAME_LABEL: job["metadata"]["name"]})
                if is_active(job) and not has_begun(pods) and not self._has_contract(job):
                    continue  # its maker died between the two: it is as good as not made
                facts.append(self._job(job, pods) if is_active(job) else job_facts(job, pods))
        return tuple(sorted((f for f in facts if f is not None), key=lambda f: f.name))

    def _job(self, job: Json, pods: Sequence[Json]) -> JobFacts | None:
        """One that is under way."""
        return job_facts(job, pods, self._progress.of(job, pods), self._progress.stage_of(job, pods))

    def _has_contract(self, job: Json) -> bool:
        try:
            self._client.get(CONFIGMAPS.path(job["metadata"]["namespace"], job["metadata"]["name"]))
        except NotFound:
            return False
        return True

    def _merged(self, release: AdapterRelease) -> tuple[MergedFacts, ...]:
        """All from the Deployments' own pod templates: the base may have changed since, or be gone."""
        namespace, watched = release.metadata.namespace, _watched_artifact(release)
        facts = []
        for deployment in self._merged_deployments(release):
            server = base_facts(deployment)
            pods = living(self._caches.pods.list(namespace, deployment["spec"]["selector"]["matchLabels"]))
            asked = Servers(self._engines, server, namespace, release.model_name)
            known = asked.with_clients([pod_facts(p, server.container, release.metadata.name) for p in pods])
            counters = None
            if _artifact_of(deployment) == watched:
                running = [
                    k for p, k in zip(pods, known, strict=True) if is_running(p, server.container) and not k.deleting
                ]
                counters = self._counters(running, server.port, self._key_of(namespace, server))
            facts.append(merged_facts(deployment, server, pods, known, counters))
        return tuple(facts)

    def _merged_deployments(self, release: AdapterRelease) -> list[Json]:
        found = self._caches.deployments.list(release.metadata.namespace, {RELEASE_LABEL: release.metadata.name})
        mine = [d for d in found if is_ours(d, release) and "deletionTimestamp" not in d["metadata"]]
        return sorted(mine, key=lambda d: str(d["metadata"]["name"]))

    def _counters(self, pods: Sequence[PodFacts], port: int, api_key: str | None) -> Counters | None:
        questions = [self._engines.at(p.ip, port, api_key).counters for p in pods]
        return sum_counters(pods, self._engines.of_all(questions))

    def _key_of(self, namespace: str, server: BaseFacts) -> str | None:
        """Without a key that is needed, the server gives no answers."""
        try:
            return self._engines.key_of(namespace, server)
        except ApiKeyNotReadable:
            return None

    def _route(self, release: AdapterRelease, api_key: str | None) -> RouteFacts | None:
        namespace, name = release.metadata.namespace, release.metadata.name
        service = self._caches.services.get(namespace, name)
        if service is None:
            return None
        slices = self._caches.endpoint_slices.list(namespace, {SERVICE_NAME_LABEL: name})
        address = address_of(service)
        answer = Answer()
        if release.status.rollout.step in _PROVING and address is not None and is_ours(service, release):
            key = self._target_key(release, api_key)
            answer = ask_route(self._engines.at(*address, key), release.model_name)
        return route_facts(release, service, slices, answer)

    def _http_route(self, release: AdapterRelease) -> Sighting | None:
        """Read afresh, and only while a canary has anything to do with it: most clusters have no Gateway API."""
        if (canary := release.status.rollout.canary) is None:
            return None
        try:
            found = self._client.get(HTTP_ROUTES.path(release.metadata.namespace, canary.http_route))
        except NotFound:
            found = None
        except ApiError as error:
            return Sighting(problem=f"HTTPRoute {canary.http_route} cannot be read: {error.message}")
        return sight(found, canary.http_route, backends_of(release))

    def _preview_endpoints(self, release: AdapterRelease) -> frozenset[str]:
        if release.status.rollout.canary is None:
            return frozenset()
        service = {SERVICE_NAME_LABEL: preview_service_name(release)}
        return ready_endpoints(self._caches.endpoint_slices.list(release.metadata.namespace, service))

    def _target_key(self, release: AdapterRelease, base_key: str | None) -> str | None:
        """The API key of what the route is going to."""
        target = release.status.rollout.target
        known = {_artifact_of(d): d for d in self._merged_deployments(release)}
        deployment = known.get(target.id) if target is not None else None
        return base_key if deployment is None else self._key_of(release.metadata.namespace, base_facts(deployment))

    def _base_users(self, release: AdapterRelease) -> tuple[AdapterRelease, ...]:
        if not _may_scale_base(release):
            return ()
        meta = release.metadata
        others = [r for r in self._caches.releases.list(meta.namespace) if r["metadata"]["name"] != meta.name]
        same = [r for r in others if r["spec"]["baseRef"]["name"] == release.spec.base_ref.name]
        return tuple(AdapterRelease.model_validate(r) for r in same)

    def _base_services(self, release: AdapterRelease) -> tuple[str, ...]:
        namespace = release.metadata.namespace
        base = self._caches.deployments.get(namespace, release.spec.base_ref.name)
        if base is None or not _may_scale_base(release):
            return ()
        pods = self._caches.pods.list(namespace, base["spec"]["selector"].get("matchLabels") or {})
        return tuple(services_of_base(base, pods, self._caches.services.list(namespace)))

    def _rivals(self, release: AdapterRelease) -> tuple[str, ...]:
        """Older releases with the same base and model name: two cannot have one name in one server."""
        mine = (release.metadata.creation_timestamp, release.metadata.name)
        return tuple(
            sorted(
                other["metadata"]["name"]
                for other in self._caches.releases.list(release.metadata.namespace)
                if other["spec"]["baseRef"]["name"] == release.spec.base_ref.name
                and (other["spec"].get("modelName") or other["metadata"]["name"]) == release.model_name
                and (other["metadata"].get("creationTimestamp", ""), other["metadata"]["name"]) < mine
            )
        )

    def _services_taken(self, release: AdapterRelease) -> tuple[str, ...]:
        names = (release.metadata.name, adapter_service_name(release), preview_service_name(release))
        found = [(n, self._caches.services.get(release.metadata.namespace, n)) for n in names]
        return tuple(n for n, service in found if service is not None and not is_ours(service, release))


def _may_scale_base(release: AdapterRelease) -> bool:
    return release.spec.rollout.settle.scale_base_to is not None or release.status.base is not None


def _artifact_of(deployment: Json) -> str:
    return str(deployment["metadata"]["annotations"][ARTIFACT_ANNOTATION])


def _watched_artifact(release: AdapterRelease) -> str | None:
    """Id of the artifact under observation."""
    rollout = release.status.rollout
    if rollout.step not in (Step.SHIFTING, Step.OBSERVING) or rollout.target is None:
        return None
    return rollout.target.id if rollout.target.kind is BackendKind.ARTIFACT else None
