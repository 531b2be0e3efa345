"""The PodDisruptionBudget of a merged Deployment: evictions take its pods one after another.

`maxUnavailable: 1` and not `minAvailable`: with one replica minAvailable would hold up every drain of its node for
ever (CloudNativePG's single instances do, zalando/postgres-operator #2988), and protect nothing, since the one pod
has to move. It need not be changed when the Deployment is scaled. Pods that are not ready may always be evicted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.reconcile.objects.metadata import owned_by
from controller.runtime.resources import Resource

Json = dict[str, Any]

BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")


def budget(made: Mapping[str, Any]) -> Json:
    """Of the merged Deployment as the API server has it; it goes with it."""
    meta = made["metadata"]
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "labels": dict(meta["labels"]),
            "ownerReferences": [owned_by("apps/v1", "Deployment", made)],
        },
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": dict(made["spec"]["selector"]["matchLabels"])},
        },
    }
