"""Security contexts that Kubernetes' Pod Security level `restricted` accepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]

DEFAULT_UID = 1000
# Of the user's pod security context these stay: they say who may read and write the volumes.
_IDENTITY = ("runAsGroup", "fsGroup", "fsGroupChangePolicy", "supplementalGroups", "supplementalGroupsPolicy")
_HOST_ACCESS = ("hostNetwork", "hostPID", "hostIPC", "hostUsers", "shareProcessNamespace")


def uid_of(template: Json, container: str) -> int:
    """The user that the container runs as, where the template says one that is not root; else 1000."""
    spec = template.get("spec", {})
    own = [c.get("securityContext") for c in spec.get("containers") or () if c["name"] == container]
    for context in (*own, spec.get("securityContext")):
        if context and context.get("runAsUser"):
            return int(context["runAsUser"])
    return DEFAULT_UID


def pod_security(template: Json, container: str) -> dict[str, Any]:
    """Non-root with the same identity towards volumes as the base's pods."""
    given = template.get("spec", {}).get("securityContext") or {}
    return {
        **{key: given[key] for key in _IDENTITY if key in given},
        "runAsNonRoot": True,
        "runAsUser": uid_of(template, container),
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security(read_only_root: bool) -> dict[str, Any]:
    """No privileges at all."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": read_only_root,
        "capabilities": {"drop": ["ALL"]},
    }


def without_host_access(pod_spec: Json) -> dict[str, Any]:
    return {key: value for key, value in pod_spec.items() if key not in _HOST_ACCESS}
