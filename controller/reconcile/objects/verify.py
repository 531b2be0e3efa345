"""The init container of a merged pod: it compares the artifact with its artifact.json before vLLM may read it.

It reads the store as vLLM will, in the same pod, and says by its termination message why it lets nothing start.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from controller.domain.snapshot import BaseFacts
from controller.reconcile.base import container_in
from controller.reconcile.objects.security import container_security
from controller.reconcile.volumes import claims_of

Json = dict[str, Any]

VERIFY_CONTAINER = "verify-artifact"
_TERMINATION_LOG = "/dev/termination-log"
_REQUESTS = {"cpu": "100m", "memory": "128Mi"}  # no limits: hashing takes the cores that are free


class ArtifactCheck(StrEnum):
    """How much of an artifact a pod reads before it starts."""

    DIGESTS = "Digests"
    SIZES = "Sizes"
    NONE = "None"


@dataclass(frozen=True)
class Verification:
    """The image of jobs, which has the command, and how much it is to read."""

    image: str
    check: ArtifactCheck = ArtifactCheck.DIGESTS


def verify_container(how: Verification, base: BaseFacts, path: str, artifact_id: str, digest: str | None) -> Json:
    """`digest` is that of the artifact that was built and judged, where it is still known.

    Modes are not asked for: the mount is read-only, and a volume may have none, or be given others by fsGroup.
    """
    store = next(m for m in claims_of(base.template, container_in(base)) if m.path == base.store_path)
    arguments = [path, "--id", artifact_id, *(("--digest", digest) if digest else ()), "--any-mode"]
    if how.check is ArtifactCheck.SIZES:
        arguments.append("--sizes-only")
    return {
        "name": VERIFY_CONTAINER,
        "image": how.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["adapterrelease", "verify"],
        "args": [*arguments, "--termination-log", _TERMINATION_LOG],
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108 - a path in the pod
        "resources": {"requests": dict(_REQUESTS)},
        "securityContext": container_security(read_only_root=True),
        "terminationMessagePath": _TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{**store.mount, "readOnly": True}],
    }
