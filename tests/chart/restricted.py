"""Pod Security's level `restricted`, for pods without special volumes: what of a pod is against it.

https://kubernetes.io/docs/concepts/security/pod-security-standards. The API server's own judgement of the same pods is
asked for in tests/api; this one needs no API server, and so can look at many.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def violations(pod: Json) -> list[str]:
    spec = pod["spec"]
    return [*_of_pod(spec), *(problem for c in _containers(spec) for problem in _of_container(spec, c))]


def _containers(spec: Json) -> list[Json]:
    return [*spec.get("initContainers", ()), *spec["containers"]]


def _of_pod(spec: Json) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield field
    for volume in spec.get("volumes", ()):
        if not _VOLUMES & volume.keys():
            yield f"volume {volume['name']}"
    context = spec.get("securityContext", {})
    if context.get("sysctls"):
        yield "sysctls"


def _of_container(spec: Json, container: Json) -> Iterator[str]:
    name, context = container["name"], container.get("securityContext", {})
    both = {**spec.get("securityContext", {}), **context}
    if both.get("runAsNonRoot") is not True:
        yield f"{name}: runAsNonRoot"
    if both.get("runAsUser") == 0:
        yield f"{name}: runAsUser"
    if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield f"{name}: seccompProfile"
    if context.get("privileged") or context.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: allowPrivilegeEscalation"
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", ()) or set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield f"{name}: capabilities"
    if any("hostPort" in port for port in container.get("ports", ())):
        yield f"{name}: hostPort"
