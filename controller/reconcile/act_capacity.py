"""Actions on numbers of replicas: a candidate gets all of them, a base that nobody needs loses and regains them.

By the scale subresource alone: the controller may not change anything else of a Deployment that it did not make.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from controller.api.v1alpha1 import AdapterRelease
from controller.domain.actions import ScaleBase, ScaleMerged
from controller.domain.capacity import overruled_at, who_needs_base
from controller.errors import Conflict, TransientError
from controller.reconcile.base import services_of_base
from controller.reconcile.caches import RELEASES
from controller.reconcile.turn import Fence, Turn
from controller.runtime.client import KubeClient
from controller.runtime.resources import DEPLOYMENTS, PODS, SERVICES

Json = dict[str, Any]


_TRIES = 3


class StaleDeployment(TransientError):  # noqa: N818
    default_reason = "NameInUse"


class BaseNeeded(TransientError):  # noqa: N818 - named for what is the case, as in controller/errors.py
    """Refused: requests may come to the base, or soon will."""

    default_reason = "StillRouted"


def _utc_now() -> datetime:
    return datetime.now(UTC)


class CapacityActions:
    def __init__(self, client: KubeClient, fence: Fence, now: Callable[[], datetime] = _utc_now) -> None:
        self._client = client
        self._fence = fence
        self._now = now

    def scale_merged(self, action: ScaleMerged, turn: Turn) -> None:
        """A number that is larger already stays: an autoscaler's, or a person's."""

        def more(scale: Json) -> int | None:
            if scale["metadata"]["uid"] != action.uid:
                raise StaleDeployment(f"Deployment {action.deployment} is not the one that was observed")
            return action.replicas if _replicas(scale) < action.replicas else None

        self._scale(turn, action.deployment, more)

    def scale_base(self, action: ScaleBase, turn: Turn) -> None:
        """Where it has not as many any more as were seen, it is done, or somebody was quicker, whose number stays."""

        def wanted(scale: Json) -> int | None:
            if _replicas(scale) != action.seen:
                return None
            if action.replicas == 0:
                self._refuse_while_needed(action.deployment, turn)
                self._fence.check(turn)
            return action.replicas

        self._scale(turn, action.deployment, wanted)

    def _scale(self, turn: Turn, name: str, wanted: Callable[[Json], int | None]) -> None:
        """To what is `wanted` of the scale as it is; asked anew where that has changed, as it does with each status."""
        path = DEPLOYMENTS.path(turn.key.namespace, name, "scale")
        for tries_left in reversed(range(_TRIES)):
            scale = self._client.get(path)
            if (replicas := wanted(scale)) is None:
                return
            version = {key: scale["metadata"][key] for key in ("uid", "resourceVersion")}
            try:
                self._client.merge_patch(path, {"metadata": version, "spec": {"replicas": replicas}})
                return
            except Conflict:
                if not tries_left:
                    raise

    def _refuse_while_needed(self, name: str, turn: Turn) -> None:
        """The snapshot may be older than a release, or a Service, that was made a moment ago."""
        namespace = turn.key.namespace
        releases, _ = self._client.list(RELEASES.path(namespace))
        users = [r for r in map(AdapterRelease.model_validate, releases) if r.spec.base_ref.name == name]
        services, _ = self._client.list(SERVICES.path(namespace))
        base, pods = self._base_and_pods(namespace, name)
        why = who_needs_base(users, services_of_base(base, pods, services), self._now())
        why = why or overruled_at(r for r in users if r.metadata.name != turn.key.name)
        if why:
            raise BaseNeeded(f"Deployment {name} is not scaled to zero: {why}")

    def _base_and_pods(self, namespace: str, name: str) -> tuple[Json, list[Json]]:
        base = self._client.get(DEPLOYMENTS.path(namespace, name))
        selector = base["spec"]["selector"].get("matchLabels") or {}
        query = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
        return base, self._client.list(PODS.path(namespace), label_selector=query)[0]


def _replicas(scale: Json) -> int:
    """The API server leaves a zero out."""
    return int(scale["spec"].get("replicas") or 0)
