"""Facts about one pod that runs vLLM, out of the Pod object. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from controller.api.v1alpha1 import LOADED_LABEL_PREFIX, ROUTED_LABEL_PREFIX
from controller.domain.snapshot import PodFacts
from controller.job.summary import Failure, parse_summary

Json = Mapping[str, Any]

UNROUTED_ANNOTATION_PREFIX = "unrouted.adapterrelease.dev/"
_FINISHED = ("Succeeded", "Failed")


def pod_facts(pod: Json, container: str, release: str) -> PodFacts:
    """What the Pod object says; vLLM itself is asked elsewhere."""
    meta, status = pod["metadata"], pod.get("status") or {}
    own = container_status(pod, container)
    unrouted = (meta.get("annotations") or {}).get(UNROUTED_ANNOTATION_PREFIX + release)
    return PodFacts(
        name=meta["name"],
        uid=meta["uid"],
        ip=status.get("podIP", ""),
        ready=condition(pod, "Ready") == "True" and bool(status.get("podIP")),
        deleting="deletionTimestamp" in meta,
        container_id=own.get("containerID", ""),
        loaded_label=(meta.get("labels") or {}).get(LOADED_LABEL_PREFIX + release),
        routed_label=ROUTED_LABEL_PREFIX + release in (meta.get("labels") or {}),
        unrouted_at=parse_time(unrouted) if unrouted else None,
    )


def living(pods: Iterable[Json]) -> list[Json]:
    """Pods that have not ended, by name. An evicted pod stays as an object for as long as nobody removes it."""
    return sorted(
        (p for p in pods if (p.get("status") or {}).get("phase") not in _FINISHED),
        key=lambda p: str(p["metadata"]["name"]),
    )


def container_status(pod: Json, container: str) -> Json:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((s for s in statuses if s["name"] == container), {})


def init_container_status(pod: Json, container: str) -> Json:
    statuses = (pod.get("status") or {}).get("initContainerStatuses") or ()
    return next((s for s in statuses if s["name"] == container), {})


def is_running(pod: Json, container: str) -> bool:
    return "running" in (container_status(pod, container).get("state") or {})


def condition(obj: Json, kind: str) -> str | None:
    """Status of the object's condition of that type."""
    found = condition_of(obj, kind)
    return found.get("status") if found else None


def condition_of(obj: Json, kind: str) -> Json | None:
    conditions: Iterable[Json] = (obj.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] == kind), None)


def parse_time(text: str) -> datetime | None:
    """RFC 3339; None for what is no time (an annotation is anybody's to write)."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    return when if when.tzinfo else None


def trouble_of(pod: Json) -> str:
    """Why the pod does not run, in the scheduler's and the kubelet's words; empty: nothing is known."""
    scheduled = condition_of(pod, "PodScheduled")
    if scheduled and scheduled.get("status") == "False":
        return _words(scheduled)
    status = pod.get("status") or {}
    statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    for container in statuses:
        if text := _container_trouble(container):
            return f"container {container['name']}: {text}"
    return _words(status) if status.get("reason") else ""


def _container_trouble(container: Json) -> str:
    state, ended = container.get("state") or {}, last_end(container)
    how = _ending(ended) if ended.get("exitCode") else ""
    waiting = state.get("waiting") or {}
    if waiting.get("reason") in (None, "ContainerCreating", "PodInitializing"):
        return how
    return f"{_words(waiting)}; {how}" if how else _words(waiting)


def last_end(container: Json) -> Json:
    """How it ended, or, where it runs or waits again, how it ended before."""
    state, last = container.get("state") or {}, container.get("lastState") or {}
    ended: Json = state.get("terminated") or last.get("terminated") or {}
    return ended


def _ending(ended: Json) -> str:
    """Reason, exit code and the last words; of what is ours, its own reason and words."""
    if (own := failure_in(ended)) is not None:
        return f"{own.reason}: {own.message[:300]}"
    text = f"{ended.get('reason', 'Error')} (exit code {ended['exitCode']})"
    message = str(ended.get("message", "")).strip()[-300:]
    return f"{text}: {message}" if message else text


def failure_in(ended: Json) -> Failure | None:
    """What a container of ours said when it failed."""
    try:
        return parse_summary(str(ended.get("message", ""))).failure
    except ValueError:
        return None


def _words(part: Json) -> str:
    reason, message = part.get("reason", ""), str(part.get("message", ""))[:300]
    return f"{reason}: {message}" if message else str(reason)
