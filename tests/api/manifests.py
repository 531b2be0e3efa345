"""Manifests that are right, and one change away from right."""

from __future__ import annotations

import copy
from typing import Any

Manifest = dict[str, Any]
ABSENT = object()


def experimental(name: str = "support-bot") -> Manifest:
    """The shortest release that is accepted."""
    return {
        "apiVersion": "adapterrelease.dev/v1alpha1",
        "kind": "AdapterRelease",
        "metadata": {"name": name, "namespace": "llm"},
        "spec": {
            "baseRef": {"name": "tiny-llama"},
            "adapters": [
                {"name": "support", "version": "v1", "source": {"uri": "pvc://store/incoming/support-bot/v1"}}
            ],
        },
    }


def stable(name: str = "support-bot") -> Manifest:
    """The shortest release of stage Stable that is accepted."""
    manifest = experimental(name)
    manifest["spec"] |= {
        "stage": "Stable",
        "build": {"quantization": {"calibration": {"source": {"uri": "pvc://store/calibration.jsonl"}}}},
        "validation": {"suites": [{"name": "support", "source": {"uri": "pvc://store/suite.jsonl"}}]},
    }
    return manifest


def changed(manifest: Manifest, path: str, value: Any) -> Manifest:
    """A copy with one field set; `ABSENT` removes it. Path as in `spec.adapters.0.version`."""
    result = copy.deepcopy(manifest)
    *parents, last = path.split(".")
    at: Any = result
    for part in parents:
        at = at[int(part)] if isinstance(at, list) else at.setdefault(part, {})
    if value is ABSENT:
        del at[last]
    elif isinstance(at, list):
        at[int(last) :] = [value]
    else:
        at[last] = value
    return result
