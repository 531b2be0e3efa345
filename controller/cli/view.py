"""What `status` shows of a release, once, frozen: the release and the objects around it. Pure: JSON -> View.

Must not know: how it is read (cluster.py) or shown (tree.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from controller.api.v1alpha1 import ARTIFACT_LABEL, AdapterRelease
from controller.cli.words import moment, plain

Json = Mapping[str, Any]

_JOB_KIND_LABEL = "adapterrelease.dev/job"


@dataclass(frozen=True)
class PodView:
    name: str
    ready: bool
    state: str  # Ready, or why not
    restarts: int = 0
    since: datetime | None = None


@dataclass(frozen=True)
class MergedView:
    """A Deployment that serves an artifact, with or without traffic."""

    name: str
    artifact: str  # the label: the first characters of the id
    wanted: int
    available: int
    pods: tuple[PodView, ...] = ()


@dataclass(frozen=True)
class JobView:
    name: str
    kind: str  # import, build, validate
    state: str  # Running, Complete, Failed, Suspended
    created: datetime | None = None
    pods: tuple[PodView, ...] = ()


@dataclass(frozen=True)
class RouteView:
    """The Service of the release."""

    selects: str = ""  # the artifact's label; empty: the base's pods
    ready: tuple[str, ...] = ()  # pods behind it
    not_ready: tuple[str, ...] = ()


@dataclass(frozen=True)
class View:
    release: AdapterRelease
    merged: tuple[MergedView, ...] = ()
    jobs: tuple[JobView, ...] = ()
    route: RouteView | None = None
    unread: tuple[str, ...] = field(default=())  # what could not be read, and why


def merged_views(deployments: Iterable[Json], pods: Sequence[Json]) -> tuple[MergedView, ...]:
    """Merged Deployments with their pods."""
    found = []
    for made in deployments:
        meta, status = made["metadata"], made.get("status") or {}
        artifact = _labels(made).get(ARTIFACT_LABEL, "")
        own = [p for p in pods if artifact and _labels(p).get(ARTIFACT_LABEL) == artifact]
        wanted = made.get("spec", {}).get("replicas", 1)
        views = tuple(pod_view(p) for p in own)
        found.append(MergedView(plain(meta["name"]), artifact, wanted, status.get("availableReplicas", 0), views))
    return tuple(sorted(found, key=lambda m: m.name))


def job_views(jobs: Iterable[Json], pods: Sequence[Json]) -> tuple[JobView, ...]:
    """Jobs of the release, the newest first."""
    found = []
    for job in jobs:
        meta = job["metadata"]
        own = [p for p in pods if _labels(p).get("batch.kubernetes.io/job-name") == meta["name"]]
        found.append(
            JobView(
                name=plain(meta["name"]),
                kind=_labels(job).get(_JOB_KIND_LABEL, ""),
                state=_job_state(job),
                created=moment(meta.get("creationTimestamp")),
                pods=tuple(pod_view(p) for p in sorted(own, key=_created, reverse=True)),
            )
        )
    return tuple(sorted(found, key=lambda j: (j.created is not None, j.created, j.name), reverse=True))


def route_view(service: Json, slices: Iterable[Json]) -> RouteView:
    selector = (service.get("spec") or {}).get("selector") or {}
    ready: set[str] = set()
    others: set[str] = set()
    for endpoint in (e for s in slices for e in s.get("endpoints") or ()):
        name = plain((endpoint.get("targetRef") or {}).get("name") or (endpoint.get("addresses") or ["?"])[0])
        is_ready = (endpoint.get("conditions") or {}).get("ready", True)
        (ready if is_ready else others).add(name)
    return RouteView(selector.get(ARTIFACT_LABEL, ""), tuple(sorted(ready)), tuple(sorted(others - ready)))


def pod_view(pod: Json) -> PodView:
    meta, status = pod["metadata"], pod.get("status") or {}
    statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or ())
    return PodView(
        name=plain(meta["name"]),
        ready=ready and "deletionTimestamp" not in meta,
        state=plain(_state_of(pod, ready)),
        restarts=sum(c.get("restartCount", 0) for c in statuses),
        since=moment(meta.get("creationTimestamp")),
    )


def _state_of(pod: Json, ready: bool) -> str:
    """In the words of kubectl, with those of the scheduler or the kubelet where the pod does not run."""
    from controller.reconcile.pods import trouble_of

    status = pod.get("status") or {}
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    if status.get("phase") in ("Succeeded", "Failed"):
        return str(status["phase"])
    if ready:
        return "Ready"
    return trouble_of(pod) or ("Starting" if status.get("phase") == "Running" else str(status.get("phase", "Pending")))


def _job_state(job: Json) -> str:
    conditions = (job.get("status") or {}).get("conditions") or ()
    holds = {c["type"] for c in conditions if c.get("status") == "True"}
    return next((state for state in ("Complete", "Failed", "Suspended") if state in holds), "Running")


def _labels(obj: Json) -> Mapping[str, str]:
    labels: Mapping[str, str] = obj["metadata"].get("labels") or {}
    return labels


def _created(pod: Json) -> str:
    return str(pod["metadata"].get("creationTimestamp", ""))
