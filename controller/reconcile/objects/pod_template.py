"""The user's wishes for a job's pod (`spec.build.podTemplate`), as far as they cannot loosen its security.

An allow-list: what is not named here is not taken over, so a new Kubernetes field cannot open a door.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

JOB_CONTAINER = "job"
_PLACE = "spec.build.podTemplate"
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
    """The Job with the wishes in it. Its labels and annotations also go to the Job itself, where Kueue looks.

    The API server checks no field of the wishes: ValueError names the one that has another shape than a pod's.
    """
    pod = job["spec"]["template"]
    meta, spec = _object(wishes, "metadata", _PLACE), _object(wishes, "spec", _PLACE)
    container = _merge_container(pod["spec"]["containers"][0], _wishes_for_job(spec))
    pod_spec = {**pod["spec"], **{k: spec[k] for k in _POD_FIELDS if k in spec}, "containers": [container]}
    template = {"metadata": _merge_metadata(pod["metadata"], meta), "spec": pod_spec}
    return {
        **job,
        "metadata": _merge_metadata(job["metadata"], meta),
        "spec": {**job["spec"], "template": template},
    }


def _wishes_for_job(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    containers = _named_objects(spec, "containers", f"{_PLACE}.spec")
    return next((c for c in containers if c["name"] == JOB_CONTAINER), {})


def _merge_container(container: Json, wishes: Mapping[str, Any]) -> Json:
    place = f"{_PLACE}.spec.containers[{JOB_CONTAINER}]"
    wanted = _object(wishes, "resources", place)
    limits = dict(_object(wanted, "limits", f"{place}.resources"))
    # Our default requests step back behind a limit, which is a request too where there is no other.
    requests = {k: v for k, v in container["resources"]["requests"].items() if k not in limits}
    requests |= _object(wanted, "requests", f"{place}.resources")
    named = {e["name"]: e for e in [*container.get("env", ()), *_named_objects(wishes, "env", place)]}
    return {**container, "resources": {"requests": requests, "limits": limits}, "env": list(named.values())}


def _merge_metadata(own: Json, wishes: Mapping[str, Any]) -> Json:
    merged = dict(own)
    for field in ("labels", "annotations"):
        both = {**_object(wishes, field, f"{_PLACE}.metadata"), **(own.get(field) or {})}
        if both:
            merged[field] = both
    return merged


def _object(parent: Mapping[str, Any], field: str, place: str) -> Mapping[str, Any]:
    """The field of `parent`, which stands at `place`; empty without it."""
    value = parent.get(field)
    if value is None or isinstance(value, Mapping):
        return value or {}
    raise ValueError(f"{place}.{field} must be an object")


def _named_objects(parent: Mapping[str, Any], field: str, place: str) -> list[Mapping[str, Any]]:
    value = [] if parent.get(field) is None else parent[field]
    if isinstance(value, list) and all(isinstance(v, Mapping) and isinstance(v.get("name"), str) for v in value):
        return value
    raise ValueError(f"{place}.{field} must be a list of objects with a name")
