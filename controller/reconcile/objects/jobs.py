"""Jobs and the ConfigMaps that hold their contracts. A job is made once for its inputs and never changed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from controller.api.types import parse_duration
from controller.api.v1alpha1 import AdapterRelease
from controller.domain.inputs import build_inputs
from controller.domain.snapshot import BaseFacts, JobKind, Snapshot
from controller.job.contract import KeepExamples
from controller.reconcile.objects.contracts import contract_for
from controller.reconcile.objects.metadata import (
    INPUTS_ANNOTATION,
    INPUTS_LABEL,
    JOB_KIND_LABEL,
    MADE_OF_ANNOTATION,
    inputs_label,
    job_name,
    labels,
    metadata,
    owned_by,
)
from controller.reconcile.objects.mounts import Volumes, hub_env, job_volumes
from controller.reconcile.objects.pod_template import (
    JOB_CONTAINER,
    OF_BUILD,
    PodTemplate,
    merge_pod_template,
    pod_template,
)
from controller.reconcile.objects.security import container_security, pod_security

Json = dict[str, Any]

PROGRESS_PORT = 9402
_CONTRACT_DIRECTORY = "/contract"
_CONTRACT_FILE = "contract.json"
_EXIT_REJECTED = 2  # the job's exit code for input that no retry makes better
_RETRIES = 3
_KEPT_SECONDS = 86400
_IMPORT_DEADLINE = timedelta(minutes=10)
_REQUESTS = {
    JobKind.IMPORT: {"cpu": "50m", "memory": "128Mi"},
    JobKind.BUILD: {"cpu": "250m", "memory": "1Gi"},
    JobKind.VALIDATE: {"cpu": "50m", "memory": "128Mi"},
}


def contract_map(
    kind: JobKind, inputs: str, snapshot: Snapshot, base: BaseFacts, examples: KeepExamples = "Changed"
) -> Json:
    """The immutable ConfigMap with the job's contract; it gets its owner by `owned_by_job`."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(snapshot.release, kind, inputs),
        "immutable": True,
        "data": {_CONTRACT_FILE: contract_for(kind, inputs, snapshot, base, examples).to_json()},
    }


def owned_by_job(contract: Json, made: Json) -> Json:
    """The ConfigMap as it goes with the Job, as the API server has that."""
    owner = owned_by("batch/v1", "Job", made)
    return {**contract, "metadata": {**contract["metadata"], "ownerReferences": [owner]}}


def job(
    kind: JobKind,
    inputs: str,
    snapshot: Snapshot,
    base: BaseFacts,
    image: str,
    service_account: str = "",
    of_all_jobs: PodTemplate | None = None,
) -> Json:
    """The Job. `service_account` lives in the release's namespace; empty: its default one, without a token.

    What `of_all_jobs` wishes is not counted in the job's name: a job that is there is not made again for it.
    """
    release = snapshot.release
    volumes = job_volumes(kind, release, base)
    name = job_name(release, kind, inputs)
    volumes.add({"name": "contract", "configMap": {"name": name}}, _CONTRACT_DIRECTORY, read_only=True)
    made = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata_of_job(kind, inputs, snapshot, base),
        "spec": {
            "backoffLimit": _RETRIES,
            "activeDeadlineSeconds": int(_deadline(kind, release).total_seconds()),
            "ttlSecondsAfterFinished": _KEPT_SECONDS,
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {
                            "containerName": JOB_CONTAINER,
                            "operator": "In",
                            "values": [_EXIT_REJECTED],
                        },
                    },
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]
            },
            "template": {
                "metadata": {"labels": labels(release, "job", **_own_labels(kind, inputs))},
                "spec": _pod_spec(kind, base, volumes, image, service_account),
            },
        },
    }
    templates = [of_all_jobs] if of_all_jobs else []
    build = release.spec.build
    if kind is JobKind.BUILD and build is not None and build.pod_template:
        templates.append(pod_template(build.pod_template, OF_BUILD))
    return merge_pod_template(made, *templates) if templates else made


def _pod_spec(kind: JobKind, base: BaseFacts, volumes: Volumes, image: str, service_account: str) -> Json:
    container = {
        "name": JOB_CONTAINER,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["adapterrelease", "job"],
        "args": ["--contract", f"{_CONTRACT_DIRECTORY}/{_CONTRACT_FILE}", "--progress-port", str(PROGRESS_PORT)],
        "env": [{"name": "HOME", "value": "/tmp"}, *hub_env(base)],  # noqa: S108 - a path in the pod
        "ports": [{"name": "progress", "containerPort": PROGRESS_PORT}],
        "resources": {"requests": dict(_REQUESTS[kind])},
        "securityContext": container_security(read_only_root=True),
        "terminationMessagePolicy": "File",
        "volumeMounts": list(volumes.mounts.values()),
    }
    account = {"serviceAccountName": service_account} if service_account else {}
    secrets = base.template["spec"].get("imagePullSecrets")  # often the same registry has vLLM's image and ours
    return {
        **account,
        **({"imagePullSecrets": secrets} if secrets else {}),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 30,
        "securityContext": pod_security(base.template, base.container),
        "containers": [container],
        "volumes": list(volumes.volumes.values()),
    }


def _metadata(release: AdapterRelease, kind: JobKind, inputs: str) -> Json:
    meta = metadata(release, job_name(release, kind, inputs), "job", _own_labels(kind, inputs))
    return {**meta, "annotations": {INPUTS_ANNOTATION: inputs}}


def _metadata_of_job(kind: JobKind, inputs: str, snapshot: Snapshot, base: BaseFacts) -> Json:
    meta, adapter = _metadata(snapshot.release, kind, inputs), snapshot.release.status.adapter
    if kind is JobKind.BUILD and adapter is not None:
        meta["annotations"][MADE_OF_ANNOTATION] = build_inputs(snapshot.release, base, adapter.digest)
    return meta


def _own_labels(kind: JobKind, inputs: str) -> dict[str, str]:
    return {JOB_KIND_LABEL: str(kind), INPUTS_LABEL: inputs_label(inputs)}


def _deadline(kind: JobKind, release: AdapterRelease) -> timedelta:
    build, validation = release.spec.build, release.spec.validation
    if kind is JobKind.BUILD and build is not None:
        return parse_duration(build.deadline)
    if kind is JobKind.VALIDATE and validation is not None:
        return parse_duration(validation.deadline)
    return _IMPORT_DEADLINE
