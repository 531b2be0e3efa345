"""Actions on Kubernetes objects: finalizer, jobs, merged Deployments, Services, the route.

Each can be repeated, and none takes over an object that is somebody else's. Must not know: when any of it is right.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from controller.api.status import Backend, BackendKind
from controller.api.v1alpha1 import ARTIFACT_LABEL, FINALIZER, RELEASE_LABEL
from controller.domain.actions import (
    AddFinalizer,
    DeleteMerged,
    EndJob,
    EnsureJob,
    EnsureMerged,
    EnsurePluginObjects,
    PointPreview,
    RemoveFinalizer,
    SetWeight,
    SwitchRoute,
)
from controller.domain.backends import artifact_backend
from controller.domain.snapshot import JobKind, artifact_label
from controller.errors import (
    AdapterReleaseError,
    AlreadyExists,
    Conflict,
    LeadershipLost,
    NotFound,
    PermanentError,
    TransientError,
)
from controller.job.contract import KeepExamples
from controller.reconcile.act_capacity import CapacityActions
from controller.reconcile.act_engine import EngineObjects
from controller.reconcile.act_pods import StillRouted
from controller.reconcile.caches import RELEASES
from controller.reconcile.jobs import JOB_NAME_LABEL, is_active, job_facts
from controller.reconcile.objects.budget import BUDGETS, budget
from controller.reconcile.objects.httproute import HTTP_ROUTES, backends_of, weight_patch
from controller.reconcile.objects.jobs import contract_map, job, owned_by_job
from controller.reconcile.objects.merged import merged_deployment
from controller.reconcile.objects.metadata import is_made_for, is_ours
from controller.reconcile.objects.pod_template import PodTemplate
from controller.reconcile.objects.services import adapter_service, preview_service, route
from controller.reconcile.objects.verify import ArtifactCheck, Verification
from controller.reconcile.pods import condition
from controller.reconcile.turn import Fence, StaleRelease, Turn
from controller.runtime.client import KubeClient
from controller.runtime.resources import CONFIGMAPS, DEPLOYMENTS, JOBS, PODS, SERVICES, Resource

Json = dict[str, Any]

log = logging.getLogger(__name__)


class ServiceNameTaken(PermanentError):  # noqa: N818 - the reason that users read
    default_reason = "ServiceNameTaken"


class NameInUse(TransientError):  # noqa: N818
    """An object of somebody else, or of a release of the same name that is just being collected."""

    default_reason = "NameInUse"


class TargetNotReady(TransientError):  # noqa: N818
    """Refused: the route would lead nowhere."""

    default_reason = "TargetNotReady"


class ObjectActions:
    def __init__(
        self,
        client: KubeClient,
        fence: Fence,
        job_image: str,
        job_service_account: str = "",
        artifact_check: ArtifactCheck = ArtifactCheck.DIGESTS,
        keep_examples: KeepExamples = "Changed",
        *,
        engine_objects: EngineObjects,
        of_all_jobs: PodTemplate | None = None,
    ) -> None:
        self._client = client
        self._fence = fence
        self._job_image = job_image
        self._job_service_account = job_service_account
        self._of_all_jobs = of_all_jobs
        self._verification = Verification(job_image, artifact_check)
        self._keep_examples = keep_examples
        self._engine_objects = engine_objects
        self.capacity = CapacityActions(client, fence)

    def add_finalizer(self, action: AddFinalizer, turn: Turn) -> None:
        self._set_finalizers(turn, [*turn.snapshot.release.metadata.finalizers, FINALIZER])

    def remove_finalizer(self, action: RemoveFinalizer, turn: Turn) -> None:
        with suppress(NotFound):
            self._set_finalizers(turn, [f for f in turn.snapshot.release.metadata.finalizers if f != FINALIZER])

    def ensure_job(self, action: EnsureJob, turn: Turn) -> None:
        """The Job, then the contract that goes with it: its pod waits for that."""
        if action.kind is JobKind.VALIDATE:
            self._point_at_what_is_compared(turn)
        contract = contract_map(action.kind, action.inputs, turn.snapshot, turn.base, self._keep_examples)
        asked = (action.kind, action.inputs, turn.snapshot, turn.base)
        wanted = job(*asked, self._job_image, self._job_service_account, self._of_all_jobs)
        made = self._create(turn, JOBS, wanted)
        if self._lost_its_result(made):
            self._delete(JOBS, turn, made["metadata"]["name"], made["metadata"]["uid"])
        else:
            self._create(turn, CONFIGMAPS, owned_by_job(contract, made))

    def end_job(self, action: EndJob, turn: Turn) -> None:
        """One that has ended meanwhile is left: its result may be of use."""
        self._fence.check(turn)
        with suppress(NotFound):
            known = self._client.get(JOBS.path(turn.key.namespace, action.job))
            if is_ours(known, turn.snapshot.release) and is_active(known):
                self._delete(JOBS, turn, action.job, known["metadata"]["uid"])

    def ensure_plugin_objects(self, action: EnsurePluginObjects, turn: Turn) -> None:
        """What pods with the engine plugin mount: without the ConfigMap they do not start."""
        self._engine_objects.ensure(turn.key.namespace)

    def ensure_merged(self, action: EnsureMerged, turn: Turn) -> None:
        """Once made it is not changed again: a new base template must not restart what serves."""
        canary = turn.snapshot.release.status.rollout.canary
        self._engine_objects.ensure(turn.key.namespace)
        if canary is None or canary.artifact == action.artifact_id:  # else its clients would be sent here
            self._point_preview(turn, action.artifact_id)
        wanted = merged_deployment(turn.snapshot, turn.base, action.artifact_id, action.path, self._verification)
        made = self._create(turn, DEPLOYMENTS, wanted)
        self._create(turn, BUDGETS, budget(made))

    def point_preview(self, action: PointPreview, turn: Turn) -> None:
        self._point_preview(turn, action.artifact_id)

    def delete_merged(self, action: DeleteMerged, turn: Turn) -> None:
        self._fence.check(turn)
        with suppress(NotFound):
            service = self._client.get(SERVICES.path(*turn.key))
            selector = service["spec"].get("selector") or {}
            mine = {RELEASE_LABEL: turn.snapshot.name, ARTIFACT_LABEL: artifact_label(action.artifact_id)}
            if selector.items() >= mine.items():
                raise StillRouted(f"the route selects {action.deployment}: it is not deleted")
        self._delete(DEPLOYMENTS, turn, action.deployment, action.uid)

    def switch_route(self, action: SwitchRoute, turn: Turn) -> None:
        wanted = route(turn.snapshot, action.backend, turn.port_of(action.backend))
        self._limit_evictions(action.backend, turn)
        self._fence.check(turn)
        if not self._has_ready_pod(turn, wanted["spec"]["selector"]):
            what = "base pod with the adapter" if action.backend.kind is BackendKind.ADAPTER else "merged pod"
            raise TargetNotReady(f"no {what} is ready: the route stays where it is")
        self._point(turn, wanted)

    def _limit_evictions(self, backend: Backend, turn: Turn) -> None:
        """Its maker may have died before it made the budget. What has no budget can serve all the same."""
        merged = turn.snapshot.merged_for(backend.id) if backend.kind is BackendKind.ARTIFACT else None
        if merged is None:
            return
        try:
            with suppress(NotFound):
                self._client.get(BUDGETS.path(turn.key.namespace, merged.name))
                return
            made = self._client.get(DEPLOYMENTS.path(turn.key.namespace, merged.name))
            self._create(turn, BUDGETS, budget(made))
        except LeadershipLost:
            raise
        except AdapterReleaseError as error:
            log.warning("no PodDisruptionBudget for %s: %s", merged.name, error.message)

    def set_weight(self, action: SetWeight, turn: Turn) -> None:
        """Each try is made of what was read; who was faster wins, and the next pass reads again."""
        path = HTTP_ROUTES.path(turn.key.namespace, action.http_route)
        self._fence.check(turn)
        with suppress(NotFound):
            found = self._client.get(path)
            for _ in range(2):  # to give it back takes two
                patch = weight_patch(found, backends_of(turn.snapshot.release), action.weight)
                found = self._client.merge_patch(path, patch) if patch is not None else found

    def _point_at_what_is_compared(self, turn: Turn) -> None:
        """The Services that a validation asks. Nobody does it later: once its job is there, it has begun."""
        if (artifact := turn.snapshot.release.status.artifact) is None:
            return  # contract_map says so
        if not artifact.merge_only:  # else there is no live adapter
            self._point(turn, adapter_service(turn.snapshot, artifact.adapter_digest, turn.base.port))
        self._point_preview(turn, artifact.id)

    def _point_preview(self, turn: Turn, artifact_id: str) -> None:
        """Fenced: a canary, or a validation, of another artifact may have begun since."""
        self._fence.check(turn)
        port = turn.port_of(artifact_backend(artifact_id))
        self._point(turn, preview_service(turn.snapshot, artifact_id, port))

    def _set_finalizers(self, turn: Turn, finalizers: list[str]) -> None:
        patch = {"metadata": {"resourceVersion": turn.resource_version, "finalizers": finalizers}}
        try:
            answer = self._client.merge_patch(RELEASES.path(*turn.key), patch)
        except Conflict as error:
            raise StaleRelease(f"release {turn.key} has changed since it was observed") from error
        turn.resource_version = answer["metadata"]["resourceVersion"]

    def _create(self, turn: Turn, resource: Resource, wanted: Json) -> Json:
        """The object as it was created, or as it is there already, with the same owner."""
        namespace, name = turn.key.namespace, wanted["metadata"]["name"]
        try:
            return self._client.create(resource.path(namespace), wanted)
        except AlreadyExists:
            known = self._client.get(resource.path(namespace, name))
        (owner,) = wanted["metadata"]["ownerReferences"]
        if not is_made_for(known, owner["uid"]) or "deletionTimestamp" in known["metadata"]:
            raise NameInUse(f"{resource.kind} {name} belongs to somebody else, or is just being deleted")
        return known

    def _delete(self, resource: Resource, turn: Turn, name: str, uid: str) -> None:
        """Done, too, when there is none, or another one of that name."""
        with suppress(NotFound, Conflict):
            self._client.delete(resource.path(turn.key.namespace, name), uid=uid)

    def _point(self, turn: Turn, wanted: Json) -> None:
        """Make the Service, or change its selector and ports if it is ours."""
        namespace, name = turn.key.namespace, wanted["metadata"]["name"]
        path = SERVICES.path(namespace, name)
        try:
            known = self._client.get(path)
        except NotFound:
            self._create(turn, SERVICES, wanted)
            return
        if not is_ours(known, turn.snapshot.release):
            raise ServiceNameTaken(
                f"Service {name} in namespace {namespace} belongs to somebody else: rename it or the release"
            )
        if change := _change(known["spec"], wanted["spec"]):
            version = {name: known["metadata"][name] for name in ("uid", "resourceVersion")}
            self._client.merge_patch(path, {"metadata": version, "spec": change})

    def _has_ready_pod(self, turn: Turn, selector: dict[str, str]) -> bool:
        query = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
        pods, _ = self._client.list(PODS.path(turn.key.namespace), label_selector=query)
        return any(condition(p, "Ready") == "True" and "deletionTimestamp" not in p["metadata"] for p in pods)

    def _lost_its_result(self, known: Json) -> bool:
        """It succeeded, but its pods and with them the result are gone: only running it again brings that back."""
        if condition(known, "Complete") != "True":
            return False
        meta = known["metadata"]
        query = f"{JOB_NAME_LABEL}={meta['name']}"
        pods, _ = self._client.list(PODS.path(meta["namespace"]), label_selector=query)
        return job_facts(known, pods) is None


def _change(known: Json, wanted: Json) -> Json:
    """The merge patch to a Service's spec; empty when it is as wanted. Labels that are selected no more go."""
    change: Json = {}
    selector = known.get("selector") or {}
    if selector != wanted["selector"]:
        change["selector"] = {**dict.fromkeys(selector), **wanted["selector"]}
    ports = [{k: p.get(k) for k in ("name", "port", "targetPort")} for p in known.get("ports") or ()]
    if ports != [{k: p.get(k) for k in ("name", "port", "targetPort")} for p in wanted["ports"]]:
        change["ports"] = wanted["ports"]
    return change
