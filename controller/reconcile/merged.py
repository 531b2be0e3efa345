"""Facts about a merged Deployment: its pods, why they do not start, its counters.

A pod that finds its artifact changed does not start; what it says of that is a refusal, not a trouble that may pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from controller.api.status import Counters
from controller.domain.snapshot import BaseFacts, MergedFacts, PodFacts, Problem
from controller.engine.metrics import RequestCounters
from controller.job.summary import FailureKind
from controller.reconcile.objects.metadata import ARTIFACT_ANNOTATION
from controller.reconcile.objects.verify import VERIFY_CONTAINER
from controller.reconcile.pods import (
    condition,
    condition_of,
    failure_in,
    init_container_status,
    last_end,
    trouble_of,
)

Json = Mapping[str, Any]

_SHORT_ID = 12


def merged_facts(
    deployment: Json, server: BaseFacts, pods: Sequence[Json], facts: Sequence[PodFacts], counters: Counters | None
) -> MergedFacts:
    """`server` is what the Deployment's own pod template says; `facts` are of `pods`, in the same order."""
    meta, status = deployment["metadata"], deployment.get("status") or {}
    replicas = deployment["spec"].get("replicas")
    return MergedFacts(
        name=meta["name"],
        uid=meta["uid"],
        artifact_id=meta["annotations"][ARTIFACT_ANNOTATION],
        replicas=1 if replicas is None else int(replicas),
        root=server.model,
        port=server.port,
        available=int(status.get("availableReplicas") or 0),
        pods=tuple(facts),
        counters=counters,
        trouble=_trouble(deployment, pods),
        refused=_refused(pods),
    )


def sum_counters(pods: Sequence[PodFacts], read: Sequence[RequestCounters | None]) -> Counters | None:
    """Totals over the pods' running containers; None when one of them could not be read, because a container
    that is missing from the sum looks like one that has died."""
    known = [c for c in read if c is not None]
    if not known or len(known) < len(read):
        return None
    return Counters(
        pods=[container_name(pod) for pod in pods],
        requests=sum(c.requests for c in known),
        errors=sum(c.errors for c in known),
        latency_milliseconds=round(sum(c.latency_seconds for c in known) * 1000),
        latency_count=sum(c.latency_count for c in known),
    )


def container_name(pod: PodFacts) -> str:
    """Pod and the start of the container's id: another one after a restart, which set the counters to zero."""
    return f"{pod.name}/{pod.container_id.rpartition('/')[2][:_SHORT_ID]}"


def _trouble(deployment: Json, pods: Sequence[Json]) -> str:
    """The first pod's that has any; else why there are no pods (quota, admission)."""
    for pod in pods:
        if condition(pod, "Ready") != "True" and (text := trouble_of(pod)):
            return f"pod {pod['metadata']['name']}: {text}"
    failure = condition_of(deployment, "ReplicaFailure")
    return str(failure.get("message", "")) if failure and failure.get("status") == "True" else ""


def _refused(pods: Sequence[Json]) -> Problem | None:
    """What the first pod says that found the artifact changed. A volume that cannot be read may come back.

    A pod that is being deleted speaks of a Deployment that was given up, whose successor has the same labels.
    """
    for pod in pods:
        if "deletionTimestamp" in pod["metadata"]:
            continue
        failure = failure_in(last_end(init_container_status(pod, VERIFY_CONTAINER)))
        if failure is not None and failure.kind is FailureKind.PERMANENT:
            return Problem(failure.reason, f"pod {pod['metadata']['name']} does not start: {failure.message}")
    return None
