"""The user's wishes for a job's pod (`spec.build.podTemplate`), as far as they cannot loosen its security.

An allow-list: what is not named here is not taken over, so a new Kubernetes field cannot open a door.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

JOB_CONTAINER = "job"
_POD_FIELDS = (
    "affinity",
    "imagePullSecrets",
    "nodeSelector",
    "priorityClassName",
    "runtimeClassName",
    "schedulerName",
    "tolerations",
    "topologySpreadConstraints",
)


def merge_pod_template(job: Json, wishes: Mapping[str, Any]) -> Json:
    """The Job with the wishes in it. Its labels and annotations also go to the Job itself, where Kueue looks."""
    pod = job["spec"]["template"]
    meta, spec = wishes.get("metadata") or {}, wishes.get("spec") or {}
    container = _merge_container(pod["spec"]["containers"][0], _wishes_for_job(spec))
    pod_spec = {**pod["spec"], **{k: spec[k] for k in _POD_FIELDS if k in spec}, "containers": [container]}
    template = {"metadata": _merge_metadata(pod["metadata"], meta), "spec": pod_spec}
    return {
        **job,
        "metadata": _merge_metadata(job["metadata"], meta),
        "spec": {**job["spec"], "template": template},
    }


def _wishes_for_job(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    containers: list[Mapping[str, Any]] = spec.get("containers") or []
    return next((c for c in containers if c.get("name") == JOB_CONTAINER), {})


def _merge_container(container: Json, wishes: Mapping[str, Any]) -> Json:
    wanted = wishes.get("resources") or {}
    limits = wanted.get("limits") or {}
    # Our default requests step back behind a limit, which is a request too where there is no other.
    requests = {k: v for k, v in container["resources"]["requests"].items() if k not in limits}
    resources = {"requests": {**requests, **(wanted.get("requests") or {})}, "limits": limits}
    named = {e["name"]: e for e in [*container.get("env", ()), *(wishes.get("env") or ())]}
    return {**container, "resources": resources, "env": list(named.values())}


def _merge_metadata(own: Json, wishes: Mapping[str, Any]) -> Json:
    merged = dict(own)
    for field in ("labels", "annotations"):
        both = {**(wishes.get(field) or {}), **(own.get(field) or {})}
        if both:
            merged[field] = both
    return merged
