"""Builders: a world in a sentence. `release("support-bot").stable().serving(adapter(D1))`."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

from controller.api.status import AdapterReleaseStatus, Backend
from controller.api.v1alpha1 import FINALIZER, AdapterRelease
from controller.domain.snapshot import BaseFacts

T0 = datetime(2026, 1, 1, tzinfo=UTC)
D1 = "sha256:" + "1" * 64
D2 = "sha256:" + "2" * 64
A1 = "sha256:" + "a" * 64
A2 = "sha256:" + "b" * 64

SPEC: dict[str, Any] = {
    "stage": "Experimental",
    "baseRef": {"name": "tiny-llama"},
    "adapters": [{"name": "finetune", "version": "v1", "source": {"uri": "pvc://store/incoming/support-bot/v1"}}],
}
BUILD: dict[str, Any] = {
    "quantization": {
        "method": "AWQ",
        "groupSize": 32,
        "calibration": {"source": {"uri": "pvc://store/calibration/support.jsonl"}, "samples": 32},
    }
}
VALIDATION: dict[str, Any] = {
    "suites": [{"name": "support", "source": {"uri": "pvc://store/suites/support.jsonl"}, "minScore": "0.5"}]
}
ROLLOUT: dict[str, Any] = {
    "observe": {"duration": "60s", "interval": "10s"},
    "scaleDownDelay": "30s",
    "rollbackWindow": "1h",
}


def adapter(digest: str) -> Backend:
    return Backend(kind="Adapter", id=digest)


def artifact(artifact_id: str) -> Backend:
    return Backend(kind="Artifact", id=artifact_id)


class ReleaseBuilder:
    def __init__(self, name: str = "support-bot") -> None:
        self.wire: dict[str, Any] = {
            "apiVersion": "adapterrelease.dev/v1alpha1",
            "kind": "AdapterRelease",
            "metadata": {
                "name": name,
                "namespace": "llm",
                "uid": "uid-" + name,
                "generation": 1,
                "resourceVersion": "1",
                "finalizers": [FINALIZER],
            },
            "spec": copy.deepcopy(SPEC) | {"rollout": copy.deepcopy(ROLLOUT)},
        }
        self.memory = AdapterReleaseStatus()

    def stable(self) -> ReleaseBuilder:
        self.wire["spec"] |= {
            "stage": "Stable",
            "build": copy.deepcopy(BUILD),
            "validation": copy.deepcopy(VALIDATION),
        }
        return self

    def version(self, version: str) -> ReleaseBuilder:
        self.wire["spec"]["adapters"][0] |= {
            "version": version,
            "source": {"uri": f"pvc://store/incoming/support-bot/{version}"},
        }
        return self

    def spec(self, **changes: Any) -> ReleaseBuilder:
        self.wire["spec"] |= changes
        return self

    def metadata(self, **changes: Any) -> ReleaseBuilder:
        self.wire["metadata"] |= changes
        return self

    def status(self, **changes: Any) -> ReleaseBuilder:
        self.memory = self.memory.model_copy(update=changes)
        return self

    def build(self) -> AdapterRelease:
        release = AdapterRelease.model_validate(copy.deepcopy(self.wire))
        return release.model_copy(update={"status": self.memory})


def release(name: str = "support-bot") -> ReleaseBuilder:
    return ReleaseBuilder(name)


def base(**changes: Any) -> BaseFacts:
    facts: dict[str, Any] = {
        "name": "tiny-llama",
        "model": "/store/models/base",
        "served_names": ("tiny-llama",),
        "port": 8000,
        "store_claim": "store",
        "store_path": "/store",
        "max_loras": 4,
        "max_cpu_loras": 4,
        "max_lora_rank": 16,
        "replicas": 2,
        "selector": {"app": "tiny-llama"},
    }
    return BaseFacts(**(facts | changes))
