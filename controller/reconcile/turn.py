"""One pass over one release: what was seen, and which version of the release all of it is about.

The fence stands before every action that can take something away from clients: a process that no longer leads, or
that looked at an older release, must not act on what it thinks it knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from controller.api.status import AdapterReleaseStatus, Backend
from controller.domain.snapshot import BaseFacts, PodFacts, Snapshot
from controller.errors import LeadershipLost, NotFound, TransientError
from controller.reconcile.caches import RELEASES
from controller.runtime.client import KubeClient
from controller.runtime.resources import Key


class StaleRelease(TransientError):  # noqa: N818 - named for what happened, as in controller/errors.py
    """The release has changed since it was observed: forget the plan, look again."""

    default_reason = "StaleRelease"


class StalePod(TransientError):  # noqa: N818
    """The pod is not the one that was observed."""

    default_reason = "StalePod"


@dataclass
class Turn:
    """`resource_version` moves on with our own writes to the release."""

    snapshot: Snapshot
    resource_version: str

    @classmethod
    def of(cls, snapshot: Snapshot) -> Turn:
        return cls(snapshot, snapshot.release.metadata.resource_version)

    @property
    def key(self) -> Key:
        meta = self.snapshot.release.metadata
        return Key(meta.namespace, meta.name)

    def with_status(self, written: AdapterReleaseStatus) -> Snapshot:
        """What was observed, with the release as this turn has left it."""
        release = self.snapshot.release
        metadata = release.metadata.model_copy(update={"resource_version": self.resource_version})
        return replace(self.snapshot, release=release.model_copy(update={"metadata": metadata, "status": written}))

    @property
    def base(self) -> BaseFacts:
        if self.snapshot.base is None:
            raise StaleRelease("the base Deployment was not seen")
        return self.snapshot.base

    def port_of(self, backend: Backend) -> int:
        found = self.snapshot.port_for(backend)
        if found is None:
            raise StaleRelease("neither the base Deployment nor a merged one was seen")
        return found

    def server(self, name: str) -> tuple[PodFacts, int]:
        """A pod of the base or of a merged Deployment as it was observed, and vLLM's port in it."""
        for merged in self.snapshot.merged:
            for pod in merged.pods:
                if pod.name == name:
                    return pod, merged.port
        return self.pod(name), self.base.port

    def pod(self, name: str) -> PodFacts:
        """The base pod as it was observed."""
        found = next((p for p in self.snapshot.base_pods if p.name == name), None)
        if found is None:
            raise StalePod(f"pod {name} was not seen")
        return found


class Fence:
    """Asks again, at the API server, whether acting is still right."""

    def __init__(self, client: KubeClient, still_leading: Callable[[], bool]) -> None:
        self._client = client
        self._still_leading = still_leading

    def check(self, turn: Turn) -> None:
        """Raises LeadershipLost or StaleRelease."""
        try:
            live = self._client.get(RELEASES.path(*turn.key))
        except NotFound as error:
            raise StaleRelease(f"release {turn.key} is gone") from error
        if live["metadata"]["resourceVersion"] != turn.resource_version:
            raise StaleRelease(f"release {turn.key} has changed since it was observed")
        if not self._still_leading():  # last: the server may have taken long to answer
            raise LeadershipLost("this process does not lead any more")
