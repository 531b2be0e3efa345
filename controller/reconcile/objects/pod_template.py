"""What may be wished for of a job's pod, as far as it cannot loosen its security: for all jobs by the controller's
setting, for builds by `spec.build.podTemplate`.

An allow-list: what is not named here is not taken over, so a new Kubernetes field cannot open a door.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

JOB_CONTAINER = "job"
OF_BUILD = "spec.build.podTemplate"
POD_FIELDS = (
    "affinity",
    "imagePullSecrets",
    "nodeSelector",
    "priorityClassName",
    "runtimeClassName",
    "schedulerName",
    "tolerations",
    "topologySpreadConstraints",
)


@dataclass(frozen=True)
class PodTemplate:
    """The wishes, taken out of a pod template. Read them with `pod_template`."""

    labels: Mapping[str, Any]
    annotations: Mapping[str, Any]
    pod: Mapping[str, Any]
    requests: Mapping[str, Any]
    limits: Mapping[str, Any]
    env: list[Mapping[str, Any]]


def pod_template(wishes: Mapping[str, Any], place: str) -> PodTemplate:
    """The API server checks no field of the wishes: ValueError names the one that has another shape than a pod's."""
    meta, spec = _object(wishes, "metadata", place), _object(wishes, "spec", place)
    container = _wishes_for_job(spec, f"{place}.spec")
    of_container = f"{place}.spec.containers[{JOB_CONTAINER}]"
    resources = _object(container, "resources", of_container)
    return PodTemplate(
        labels=_object(meta, "labels", f"{place}.metadata"),
        annotations=_object(meta, "annotations", f"{place}.metadata"),
        pod={field: spec[field] for field in POD_FIELDS if field in spec},
        requests=_object(resources, "requests", f"{of_container}.resources"),
        limits=_object(resources, "limits", f"{of_container}.resources"),
        env=_named_objects(container, "env", of_container),
    )


def merge_pod_template(job: Json, *templates: PodTemplate) -> Json:
    """The Job with the wishes in it; a later template wins, and what the Job has itself wins of labels.

    Labels and annotations also go to the Job itself, where Kueue looks.
    """
    pod = job["spec"]["template"]
    spec, container = dict(pod["spec"]), pod["spec"]["containers"][0]
    meta: Json = {"labels": {}, "annotations": {}}
    for template in templates:
        spec |= template.pod
        container = _in_container(container, template)
        meta["labels"] |= template.labels
        meta["annotations"] |= template.annotations
    template_of_pod = {"metadata": _behind(pod["metadata"], meta), "spec": {**spec, "containers": [container]}}
    return {**job, "metadata": _behind(job["metadata"], meta), "spec": {**job["spec"], "template": template_of_pod}}


def _in_container(container: Json, template: PodTemplate) -> Json:
    # Requests from before step back behind a limit, which is a request too where there is no other.
    before = {k: v for k, v in container["resources"].get("requests", {}).items() if k not in template.limits}
    resources = {
        "requests": {**before, **template.requests},
        "limits": {**container["resources"].get("limits", {}), **template.limits},
    }
    env = {e["name"]: e for e in [*container.get("env", ()), *template.env]}
    return {**container, "resources": resources, "env": list(env.values())}


def _behind(own: Json, wishes: Json) -> Json:
    merged = dict(own)
    for field, wished in wishes.items():
        if both := {**wished, **(own.get(field) or {})}:
            merged[field] = both
    return merged


def _wishes_for_job(spec: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    containers = _named_objects(spec, "containers", place)
    return next((c for c in containers if c["name"] == JOB_CONTAINER), {})


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
