"""Who keeps an object from elsewhere, and would write it again: Helm, Argo CD, Flux. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from controller.api.v1alpha1 import ObjectMeta

_MARKS = (
    ("labels", "app.kubernetes.io/managed-by"),
    ("annotations", "argocd.argoproj.io/tracking-id"),
    ("labels", "argocd.argoproj.io/instance"),
    ("labels", "kustomize.toolkit.fluxcd.io/name"),
    ("labels", "helm.toolkit.fluxcd.io/name"),
)


_SYNCED = ("argocd.argoproj.io/", "kustomize.toolkit.fluxcd.io/")
# Before 3.0 Argo CD marks an object by app.kubernetes.io/instance alone, as Helm and people do.
_SYNCERS = ("argocd-controller", "argocd-application-controller", "kustomize-controller")


def is_synced(meta: ObjectMeta) -> bool:
    """A tool sets back what its Git names, by itself and again and again."""
    marked = any(key.startswith(_SYNCED) for key in (*meta.labels, *meta.annotations))
    return marked or any(entry.manager in _SYNCERS for entry in meta.managed_fields)


def keepers(obj: Mapping[str, Any]) -> Iterator[str]:
    """`label: value` of each; a tool that left no mark of its own by what it is called as a manager of fields."""
    meta = obj["metadata"]
    marks = [f"{key}: {value}" for part, key in _MARKS if (value := (meta.get(part) or {}).get(key))]
    yield from marks
    if not any(mark.startswith(_SYNCED) for mark in marks):
        managers = {entry.get("manager") for entry in meta.get("managedFields") or ()}
        yield from (f"field manager: {name}" for name in _SYNCERS if name in managers)
