"""How a merged pod stops so that no request is cut off: three times that depend on each other, from one number.

The kubelet runs preStop, then sends SIGTERM, and kills when terminationGracePeriodSeconds are over, counted from the
first. Every node forgets the pod during preStop, in which it answers as ever. After SIGTERM vLLM refuses new requests
and lets running ones end for --shutdown-timeout (0, its default, cuts them off at once). A request that came at the
last moment has all of the drain timeout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

Json = dict[str, Any]

LEAVING_SECONDS = 10  # until no node sends to a pod that has left the Services
_ENDING_SECONDS = 15  # for vLLM to go once nothing runs any more
_KUBERNETES_GRACE = 30  # where a pod template says none


@dataclass(frozen=True)
class Stopping:
    """Seconds, and the hook that takes the first of them."""

    pre_stop: Mapping[str, Any]
    shutdown_timeout: int
    grace_period: int


def stopping(drain: timedelta, pod_spec: Mapping[str, Any], container: str) -> Stopping:
    """With the hook of the base's own container, if it has one; that may take all of the base's grace period. A hook
    that only sleeps is made to sleep long enough."""
    timeout = max(1, math.ceil(drain.total_seconds()))
    given = pod_spec.get("terminationGracePeriodSeconds")
    period = _KUBERNETES_GRACE if given is None else int(given)
    hook = _hook(pod_spec, container)
    if hook is None or "sleep" in hook:
        leaving = max(LEAVING_SECONDS, int(hook["sleep"]["seconds"]) if hook else 0)
        hook = {"sleep": {"seconds": leaving}}
    else:
        leaving = max(LEAVING_SECONDS, period)
    return Stopping(hook, timeout, max(period, leaving + timeout + _ENDING_SECONDS))


def _hook(pod_spec: Mapping[str, Any], container: str) -> Mapping[str, Any] | None:
    own = next(c for c in pod_spec["containers"] if c["name"] == container)
    return (own.get("lifecycle") or {}).get("preStop")
