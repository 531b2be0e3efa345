"""Keys: a hash of exactly what a step depends on. The same inputs are never imported, built or judged twice.

Left out on purpose: the stage (promoting must not import again), the training run (provenance only),
the job's image (upgrading the controller must not rebuild every model).
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from controller.api.status import ArtifactStatus
from controller.api.v1alpha1 import RETRY_ANNOTATION, AdapterRelease
from controller.domain.snapshot import BaseFacts


def key_of(*parts: Any) -> str:
    """64 hex characters; the same for equal JSON."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _retry(release: AdapterRelease) -> str:
    return release.metadata.annotations.get(RETRY_ANNOTATION, "")


def import_inputs(release: AdapterRelease, base: BaseFacts) -> str:
    adapter = release.spec.adapters[0]
    wire = adapter.to_wire() | {"trainingRun": None}
    return key_of("import", wire, base.model, base.max_lora_rank, base.store_claim, _retry(release))


def build_inputs(release: AdapterRelease, base: BaseFacts, adapter_digest: str) -> str:
    build = release.spec.build
    wire = build.to_wire() if build else {}
    made_of = {key: wire.get(key) for key in ("merge", "quantization")}
    return key_of("build", made_of, base.model, base.store_claim, adapter_digest, _retry(release))


def build_attempt(release: AdapterRelease, base: BaseFacts, adapter_digest: str) -> str:
    """With what the job is given besides: a build that failed is tried again with more memory, time, another node.

    Or with a base that was mended: one whose API key no job could be told is not built for.
    """
    build = release.spec.build
    wire = build.to_wire() if build else {}
    given = {key: wire.get(key) for key in ("podTemplate", "deadline")}
    return key_of("attempt", build_inputs(release, base, adapter_digest), given, base.api_key_is_plain)


def validate_inputs(release: AdapterRelease, artifact: ArtifactStatus) -> str:
    """With the release: what is measured is its own adapter and candidate, whoever else has the same artifact.

    With the digest: an artifact that was deleted and built again has its id, and may have other files.
    With what it is judged by, where that is not the live adapter.
    """
    validation = release.spec.validation
    wire = validation.to_wire() if validation else {}
    alone = ["alone"] if artifact.merge_only else []
    return key_of("validate", release.metadata.uid, wire, artifact.id, artifact.digest, _retry(release), *alone)


def spec_inputs(release: AdapterRelease) -> str:
    """What a rejected artifact is remembered for: the whole spec but the switches that people flip back and forth."""
    wire = release.spec.to_wire()
    wire["rollout"].get("canary", {}).pop("approved", None)
    return key_of("spec", {k: v for k, v in wire.items() if k not in ("stage", "rollback")}, _retry(release))
