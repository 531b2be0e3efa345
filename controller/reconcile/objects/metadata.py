"""Names, labels and owner references of everything that the controller makes for a release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.api.v1alpha1 import API_VERSION, ARTIFACT_LABEL, GROUP, KIND, RELEASE_LABEL, AdapterRelease
from controller.domain.snapshot import SHORT, JobKind, artifact_label

Json = dict[str, Any]

MANAGER = "adapter-release-controller"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
INPUTS_LABEL = f"{GROUP}/inputs"
JOB_KIND_LABEL = f"{GROUP}/job"
INPUTS_ANNOTATION = f"{GROUP}/inputs"
MADE_OF_ANNOTATION = f"{GROUP}/made-of"
ARTIFACT_ANNOTATION = f"{GROUP}/artifact-id"
_LABEL_LIMIT = 63


def adapter_service_name(release: AdapterRelease) -> str:
    """The Service that validations ask for the live adapter."""
    return f"{release.metadata.name}-adapter"


def preview_service_name(release: AdapterRelease) -> str:
    """The Service that validations ask for the candidate."""
    return f"{release.metadata.name}-preview"


def merged_name(release: AdapterRelease, artifact_id: str) -> str:
    return f"{release.metadata.name}-merged-{artifact_label(artifact_id)}"


def job_name(release: AdapterRelease, kind: JobKind, inputs: str) -> str:
    return f"{release.metadata.name}-{kind}-{inputs[:SHORT]}"


def inputs_label(inputs: str) -> str:
    """A label holds 63 characters; the annotation of the same name has all 64."""
    return inputs[:_LABEL_LIMIT]


def labels(release: AdapterRelease, component: str, **more: str) -> dict[str, str]:
    """The standard labels; `component` is route, adapter, preview, merged or job."""
    return {
        "app.kubernetes.io/name": "adapter-release",
        "app.kubernetes.io/instance": release.metadata.name,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": release.metadata.name,
        MANAGED_BY_LABEL: MANAGER,
        RELEASE_LABEL: release.metadata.name,
        **more,
    }


def metadata(release: AdapterRelease, name: str, component: str, extra: Mapping[str, str] | None = None) -> Json:
    return {
        "name": name,
        "namespace": release.metadata.namespace,
        "labels": {**(extra or {}), **labels(release, component)},
        "ownerReferences": [owner_reference(release)],
    }


def owner_reference(release: AdapterRelease) -> Json:
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": release.metadata.name,
        "uid": release.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def owned_by(api_version: str, kind: str, made: Mapping[str, Any]) -> Json:
    """The reference to an owner, as the API server has that, of what goes with it."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": made["metadata"]["name"],
        "uid": made["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": False,
    }


def is_ours(obj: Mapping[str, Any], release: AdapterRelease) -> bool:
    """Made by this controller for this very release; one of the same name that was deleted does not count."""
    return is_made_for(obj, release.metadata.uid)


def is_made_for(obj: Mapping[str, Any], owner_uid: str) -> bool:
    """Made by this controller, and goes with that owner."""
    meta = obj["metadata"]
    owned = any(o.get("uid") == owner_uid for o in meta.get("ownerReferences") or ())
    return owned and (meta.get("labels") or {}).get(MANAGED_BY_LABEL) == MANAGER


def artifact_labels(artifact_id: str) -> dict[str, str]:
    return {ARTIFACT_LABEL: artifact_label(artifact_id)}
