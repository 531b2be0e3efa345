"""Who keeps an object from elsewhere, and would write it again: Helm, Argo CD, Flux. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_MARKS = (
    ("labels", "app.kubernetes.io/managed-by"),
    ("annotations", "argocd.argoproj.io/tracking-id"),
    ("labels", "argocd.argoproj.io/instance"),
    ("labels", "kustomize.toolkit.fluxcd.io/name"),
    ("labels", "helm.toolkit.fluxcd.io/name"),
)


_SYNCED = ("argocd.argoproj.io/", "kustomize.toolkit.fluxcd.io/")


def is_synced(labels: Mapping[str, str], annotations: Mapping[str, str]) -> bool:
    """A tool sets back what its Git names, by itself and again and again."""
    return any(key.startswith(_SYNCED) for key in (*labels, *annotations))


def keepers(obj: Mapping[str, Any]) -> Iterator[str]:
    """`label: value` of each."""
    meta = obj["metadata"]
    for part, key in _MARKS:
        if value := (meta.get(part) or {}).get(key):
            yield f"{key}: {value}"
