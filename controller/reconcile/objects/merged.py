"""The Deployment that serves an artifact: the base's pod template with the model replaced.

Its labels are wholly its own. One label of the base left in would let the base's Deployment, Services or
PodDisruptionBudgets take its pods for theirs.
"""

from __future__ import annotations

import re
from typing import Any

from controller.api.types import parse_duration
from controller.domain.capacity import first_replicas, replicas_of_base
from controller.domain.snapshot import BaseFacts, Snapshot
from controller.engine.plugin_client import Alias
from controller.reconcile.base import CONTAINER_ANNOTATION
from controller.reconcile.objects.engine import backend_label, memory, with_plugin
from controller.reconcile.objects.metadata import (
    ARTIFACT_ANNOTATION,
    artifact_labels,
    labels,
    merged_name,
    metadata,
)
from controller.reconcile.objects.placement import Place, placed
from controller.reconcile.objects.security import pod_security, without_host_access
from controller.reconcile.objects.server import merged_container, needs_tmp, other_container
from controller.reconcile.objects.stopping import stopping
from controller.reconcile.objects.verify import ArtifactCheck, Verification, verify_container

Json = dict[str, Any]

_FOREIGN_ANNOTATIONS = re.compile(r"(.+\.)?(kubectl\.kubernetes\.io|adapterrelease\.dev)/")


def merged_deployment(
    snapshot: Snapshot, base: BaseFacts, artifact_id: str, path: str, verification: Verification
) -> Json:
    """Raises ValueError when the base does not say its vLLM container or its store, or would take the pods for its."""
    if not base.model or not base.store_path:
        raise ValueError("; ".join(problem.message for problem in base.problems))
    release = snapshot.release
    rollout = release.spec.rollout
    pod_labels = labels(release, "merged", **artifact_labels(artifact_id))
    if base.selector.items() <= pod_labels.items():
        raise ValueError(f"the selector of Deployment {base.name} matches the merged model's pods too: narrow it")
    template_labels = (base.template.get("metadata") or {}).get("labels") or {}
    place = Place(release.metadata.namespace, template_labels, pod_labels, own_selector(pod_labels))
    meta = metadata(release, merged_name(release, artifact_id), "merged", artifact_labels(artifact_id))
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            **meta,
            # The reader of what it serves need not guess: its arguments have lost what a base is known by.
            "annotations": {ARTIFACT_ANNOTATION: artifact_id, CONTAINER_ANNOTATION: base.container},
        },
        "spec": {
            "replicas": first_replicas(release, replicas_of_base(snapshot), artifact_id),
            "revisionHistoryLimit": 1,
            "progressDeadlineSeconds": max(1, int(parse_duration(rollout.progress_deadline).total_seconds())),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": own_selector(pod_labels)},
            "template": {
                "metadata": {"labels": pod_labels, "annotations": _annotations(snapshot, base, artifact_id)},
                "spec": placed(_pod_spec(snapshot, base, artifact_id, path, verification), place),
            },
        },
    }


def own_selector(pod_labels: dict[str, str]) -> dict[str, str]:
    """The least that tells these pods from all others; it cannot be changed later."""
    return {key: value for key, value in pod_labels.items() if key.startswith("adapterrelease.dev/")}


def _pod_spec(snapshot: Snapshot, base: BaseFacts, artifact_id: str, path: str, verification: Verification) -> Json:
    given = base.template["spec"]
    stop = stopping(parse_duration(snapshot.release.spec.rollout.drain_timeout), given, base.container)
    containers = []
    volumes = [dict(v) for v in given.get("volumes") or ()]
    for container in given["containers"]:
        if container["name"] == base.container:
            containers.append(merged_container(container, path, snapshot.model_name, base.port, stop))
            if needs_tmp(container):
                volumes.append({"name": "merged-tmp", "emptyDir": {}})
        else:
            containers.append(other_container(container))
    made = {
        **without_host_access(given),
        "automountServiceAccountToken": False,
        "containers": containers,
        "volumes": volumes,
        "securityContext": pod_security(base.template, base.container),
        "terminationGracePeriodSeconds": stop.grace_period,
    }
    init = [other_container(c) for c in given.get("initContainers") or ()]
    if verification.check is not ArtifactCheck.NONE:  # the last: what mounts the store may be a sidecar of the base's
        digest = _digest_of(snapshot, artifact_id)
        init.append(verify_container(verification, base, path, artifact_id, digest))
    if init:
        made["initContainers"] = init
    try:
        return with_plugin(made, base.container)
    except ValueError:  # its script takes PYTHONPATH away: it serves all the same, as the base does
        return made


def _digest_of(snapshot: Snapshot, artifact_id: str) -> str | None:
    """Of the artifact's files, as the build told it. Of older revisions only the id is remembered."""
    known = snapshot.release.status.artifact
    return known.digest or None if known is not None and known.id == artifact_id else None


def _annotations(snapshot: Snapshot, base: BaseFacts, artifact_id: str) -> dict[str, str]:
    given = base.template.get("metadata", {}).get("annotations") or {}
    kept = {k: v for k, v in given.items() if not _FOREIGN_ANNOTATIONS.match(k)}
    meta = snapshot.release.metadata
    version = _version_of(snapshot, artifact_id)
    alias = Alias(None, None, f"{meta.namespace}/{meta.name}", version, backend_label("artifact", artifact_id))
    says = memory(meta.name, snapshot.model_name, alias)
    return {**kept, **says, ARTIFACT_ANNOTATION: artifact_id}


def _version_of(snapshot: Snapshot, artifact_id: str) -> str:
    """Of the adapter in the artifact, as the spec names it, or named it when that served; "": nobody remembers."""
    status = snapshot.release.status
    built = status.artifact if status.artifact is not None and status.artifact.id == artifact_id else None
    if built is not None and status.adapter is not None and status.adapter.digest == built.adapter_digest:
        return status.adapter.version
    return next((h.version for h in status.history if h.backend.id == artifact_id), "")
