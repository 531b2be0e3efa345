"""The Lease object of a leader election: who holds it, and the records written to take, renew and release it.

Pure but for the one class that reads and writes the Lease; when to do which is the elector's decision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from controller.errors import NotFound
from controller.runtime.client import KubeClient
from controller.runtime.resources import LEASES


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class LeaseRecord:
    """What a Lease says. Its times are others' clocks: shown to people, never compared with ours."""

    holder: str
    duration: float
    transitions: int
    acquired: str
    renewed: str
    metadata: Mapping[str, Any]

    @classmethod
    def of(cls, lease: dict[str, Any]) -> LeaseRecord:
        spec = lease.get("spec") or {}
        return cls(
            holder=spec.get("holderIdentity") or "",
            duration=float(spec.get("leaseDurationSeconds") or 0),
            transitions=int(spec.get("leaseTransitions") or 0),
            acquired=spec.get("acquireTime") or "",
            renewed=spec.get("renewTime") or "",
            metadata={name: value for name, value in lease["metadata"].items() if name != "managedFields"},
        )

    @property
    def resource_version(self) -> str:
        return str(self.metadata["resourceVersion"])


class LeaseClient:
    """Reads and writes one Lease for one identity; each write is guarded by the version that was read."""

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        name: str,
        identity: str,
        duration: float,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._client = client
        self._collection = LEASES.path(namespace)
        self._path = LEASES.path(namespace, name)
        self._metadata = {"namespace": namespace, "name": name}
        self._identity = identity
        self._seconds = max(1, math.ceil(duration))  # the field is an integer; longer is the safe side
        self._now = now

    def read(self, timeout: float) -> LeaseRecord | None:
        try:
            return LeaseRecord.of(self._client.get(self._path, timeout=timeout))
        except NotFound:
            return None

    def take(self, seen: LeaseRecord | None, timeout: float) -> LeaseRecord:
        """Write our identity over the record seen. Conflict or AlreadyExists: somebody was faster."""
        now = self._micro_time()
        if seen is None:
            lease = self._lease(self._metadata, self._spec(self._identity, self._seconds, 0, now, now))
            return LeaseRecord.of(self._client.create(self._collection, lease, timeout=timeout))
        transitions = seen.transitions + (1 if seen.holder != self._identity else 0)
        return self._write(seen, self._spec(self._identity, self._seconds, transitions, now, now), timeout)

    def renew(self, seen: LeaseRecord, timeout: float) -> LeaseRecord:
        spec = self._spec(
            self._identity,
            self._seconds,
            seen.transitions,
            seen.acquired or self._micro_time(),
            self._micro_time(),
        )
        return self._write(seen, spec, timeout)

    def release(self, seen: LeaseRecord, timeout: float) -> None:
        """Give it back, so that the next leader need not wait until it expires."""
        now = self._micro_time()
        self._write(seen, self._spec("", 1, seen.transitions, now, now), timeout)

    def _write(self, seen: LeaseRecord, spec: dict[str, Any], timeout: float) -> LeaseRecord:
        lease = self._lease(seen.metadata, spec)
        return LeaseRecord.of(self._client.replace(self._path, lease, timeout=timeout))

    @staticmethod
    def _lease(metadata: Mapping[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
        return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": {**metadata}, "spec": spec}

    @staticmethod
    def _spec(holder: str, seconds: int, transitions: int, acquired: str, renewed: str) -> dict[str, Any]:
        return {
            "holderIdentity": holder,
            "leaseDurationSeconds": seconds,
            "leaseTransitions": transitions,
            "acquireTime": acquired,
            "renewTime": renewed,
        }

    def _micro_time(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
