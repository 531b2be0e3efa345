"""What the API server refuses, and the words that a user reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.kubectl import Kubectl
from tests.api.manifests import ABSENT, Manifest, changed, experimental, stable

pytestmark = pytest.mark.apiserver

ADAPTER = "spec.adapters.0"
URI = f"{ADAPTER}.source.uri"
SUITE = "spec.validation.suites.0"
QUANTIZATION = "spec.build.quantization"
CALIBRATION = {"source": {"uri": "pvc://store/calibration.jsonl"}}

WRONG_EXPERIMENTAL: list[tuple[str, Any, str]] = [
    ("metadata.name", "a" * 41, "metadata.name must have at most 40 characters"),
    ("metadata.name", "4you", "metadata.name must begin with a letter and have no dot"),
    ("metadata.name", "support.bot", "metadata.name must begin with a letter and have no dot"),
    ("spec", ABSENT, "spec: Required value"),
    (
        "spec.stage",
        "Production",
        'spec.stage: Unsupported value: "Production": supported values: "Experimental", "Stable"',
    ),
    ("spec.stgae", "Stable", 'unknown field "spec.stgae"'),
    ("spec.stage", "Stable", "stage Stable needs build and validation: without a proof nothing gets traffic"),
    ("spec.modelName", "support bot", "spec.modelName in body should match"),
    ("spec.modelName", "x" * 129, "spec.modelName: Too long: may not be more than 128 bytes"),
    ("spec.baseRef", ABSENT, "spec.baseRef: Required value"),
    ("spec.baseRef.name", ABSENT, "spec.baseRef.name: Required value"),
    ("spec.baseRef.name", "Tiny_Llama", "spec.baseRef.name in body should match"),
    ("spec.baseRef.namespace", "elsewhere", 'unknown field "spec.baseRef.namespace"'),
    ("spec.adapters", ABSENT, "spec.adapters: Required value"),
    ("spec.adapters", [], "spec.adapters in body should have at least 1 items"),
    (
        "spec.adapters.1",
        {"name": "second", "version": "v1", "source": {"uri": "pvc://store/second"}},
        "spec.adapters: Too many: 2: must have at most 1 item",
    ),
    (f"{ADAPTER}.name", "../../etc", "spec.adapters[0].name in body should match"),
    (f"{ADAPTER}.version", ABSENT, "spec.adapters[0].version: Required value"),
    (f"{ADAPTER}.version", "v1/final", "spec.adapters[0].version in body should match"),
    (f"{ADAPTER}.version", 1.5, 'spec.adapters[0].version in body must be of type string: "number"'),
    (f"{ADAPTER}.digest", "sha256:abc", "spec.adapters[0].digest in body should match"),
    (f"{ADAPTER}.digest", "md5:" + "0" * 32, "spec.adapters[0].digest in body should match"),
    (f"{ADAPTER}.trainingRun", "r" * 513, "trainingRun: Too long: may not be more than 512 bytes"),
    (f"{ADAPTER}.weight", 1, 'unknown field "spec.adapters[0].weight"'),
    (URI, "/store/support-bot/v1", "uri in body should match '^(pvc|https)://"),
    (URI, "hf://acme/support-bot", "uri in body should match '^(pvc|https)://"),
    (URI, "http://models.example.com/v1", "uri in body should match '^(pvc|https)://"),
    (URI, "pvc://store", "a pvc:// source is pvc://CLAIM/PATH, with the claim in the release's namespace"),
    (URI, "pvc://Store_1/v1", "a pvc:// source is pvc://CLAIM/PATH"),
    (URI, "pvc://store/incoming/../../secrets", "must not contain '..': name the directory itself"),
    (URI, "https://models.example.com/%2e%2E/v1", "must not contain '..': name the directory itself"),
    (URI, "https://me:pass@models.example.com/v1", "must not carry credentials: put them into a Secret"),
    (
        f"{ADAPTER}.source.secretRef",
        {"name": "token"},
        "secretRef is for https:// sources: a pvc:// source is mounted and needs no credentials",
    ),
    ("spec.rollback.revision", 0, "spec.rollback.revision in body should be greater than or equal to 1"),
]

WRONG_STABLE: list[tuple[str, Any, str]] = [
    ("spec.build", ABSENT, "stage Stable needs build and validation: without a proof nothing gets traffic"),
    ("spec.validation", ABSENT, "stage Stable needs build and validation"),
    ("spec.build.merge.dtype", "int8", 'supported values: "bfloat16", "float16", "float32"'),
    ("spec.build.merge.device", "tpu", 'supported values: "auto", "cpu"'),
    ("spec.build.deadline", "30 minutes", "spec.build.deadline in body should match"),
    ("spec.build.deadline", "1s1h", "spec.build.deadline in body should match"),
    ("spec.build.deadline", "9999999h", "spec.build.deadline in body should match"),
    ("spec.build.deadline", "0s", 'spec.build.deadline: Invalid value: "string": must be at least 1s, and is 0s'),
    ("spec.build.podTemplate", "gpu", 'spec.build.podTemplate in body must be of type object: "string"'),
    (QUANTIZATION, ABSENT, "spec.build.quantization: Required value"),
    (
        f"{QUANTIZATION}.method",
        "GGUF",
        'Unsupported value: "GGUF": supported values: "AWQ", "GPTQ", "FP8", "INT8", "None"',
    ),
    (f"{QUANTIZATION}.scheme", "W2A16", 'supported values: "W4A16", "W4A16_ASYM", "FP8_DYNAMIC", "W8A8"'),
    (f"{QUANTIZATION}.scheme", "W8A8", "AWQ and GPTQ have W4A16 and W4A16_ASYM, FP8 has FP8_DYNAMIC"),
    (QUANTIZATION, {"method": "FP8", "scheme": "W4A16"}, "scheme does not fit the method"),
    (
        QUANTIZATION,
        {"method": "INT8", "scheme": "FP8_DYNAMIC", "calibration": CALIBRATION},
        "scheme does not fit the method",
    ),
    (QUANTIZATION, {"method": "None", "scheme": "W4A16"}, "scheme does not fit the method"),
    (
        QUANTIZATION,
        {"method": "INT8", "groupSize": 128, "calibration": CALIBRATION},
        "groupSize is for AWQ and GPTQ: the other methods have no groups, remove it",
    ),
    (QUANTIZATION, {"method": "FP8", "groupSize": 128}, "groupSize is for AWQ and GPTQ"),
    (QUANTIZATION, {"method": "None", "groupSize": 128}, "groupSize is for AWQ and GPTQ"),
    (f"{QUANTIZATION}.method", "FP8", "FP8 and None look at no calibration data: remove calibration"),
    (f"{QUANTIZATION}.method", "None", "FP8 and None look at no calibration data: remove calibration"),
    (QUANTIZATION, {"method": "GPTQ"}, "AWQ, GPTQ and INT8 need calibration data"),
    (QUANTIZATION, {"method": "INT8"}, "AWQ, GPTQ and INT8 need calibration data"),
    (f"{QUANTIZATION}.groupSize", 100, 'Unsupported value: 100: supported values: "32", "64", "128"'),
    (
        f"{QUANTIZATION}.calibration",
        ABSENT,
        "AWQ, GPTQ and INT8 need calibration data: set calibration.source, or method: FP8 or None",
    ),
    (f"{QUANTIZATION}.calibration.samples", 0, "samples in body should be greater than or equal to 8"),
    ("spec.validation.suites", [], "spec.validation.suites in body should have at least 1 items"),
    (
        "spec.validation.suites.1",
        {"name": "support", "source": {"uri": "pvc://store/other.jsonl"}},
        'spec.validation.suites[1]: Duplicate value: {"name":"support"}',
    ),
    (f"{SUITE}.scorer", "Regex", 'supported values: "ExactMatch", "Contains"'),
    (f"{SUITE}.minScore", 0.8, 'suites[0].minScore in body must be of type string: "number"'),
    (f"{SUITE}.minScore", "1.5", "must be between 0 and 1, and is 1.5"),
    (f"{SUITE}.maxScoreDrop", "1e-3", "suites[0].maxScoreDrop in body should match"),
    (f"{SUITE}.maxScoreDrop", "-0.1", "suites[0].maxScoreDrop in body should match"),
    (f"{SUITE}.maxQuantizedScoreDrop", "NaN", "suites[0].maxQuantizedScoreDrop in body should match"),
    (f"{SUITE}.maxTokens", 0, "maxTokens in body should be greater than or equal to 1"),
    ("spec.validation.benchmark.concurrency", 0, "concurrency in body should be greater than or equal to 1"),
    ("spec.validation.benchmark.requests", 10**6, "requests in body should be less than or equal to 10000"),
    ("spec.validation.deadline", "", "spec.validation.deadline in body should be at least 2 chars long"),
    ("spec.rollout.strategy", "Rolling", 'Unsupported value: "Rolling": supported values: "BlueGreen", "Canary"'),
    (
        "spec.rollout.strategy",
        "Canary",
        "strategy Canary needs rollout.canary, and rollout.canary needs strategy Canary",
    ),
    ("spec.rollout.replicas", 0, "replicas in body should be greater than or equal to 1"),
    ("spec.rollout.revisionHistoryLimit", 0, "revisionHistoryLimit in body should be greater than or equal"),
    ("spec.rollout.progressDeadline", "0m", "must be at least 1s, and is 0m"),
    ("spec.rollout.observe.interval", "11m", "observe.interval must not be longer than observe.duration"),
    ("spec.rollout.observe.maxErrorRate", "2", "must be between 0 and 1, and is 2"),
    ("spec.rollout.observe.onMissingData", "Promote", 'supported values: "Keep", "RollBack"'),
]

WRONG = [
    pytest.param(manifest, path, value, message, id=f"{path}={'absent' if value is ABSENT else value!s:.24}")
    for manifest, table in ((experimental(), WRONG_EXPERIMENTAL), (stable(), WRONG_STABLE))
    for path, value, message in table
]


@pytest.mark.parametrize(("right", "path", "value", "message"), WRONG)
def test_a_wrong_manifest_is_refused_in_words_that_help(
    cluster: Kubectl, right: Manifest, path: str, value: Any, message: str
) -> None:
    status, output = cluster.try_("create", "--dry-run=server", "-f", "-", manifest=changed(right, path, value))
    assert status != 0, f"accepted: {output}"
    assert message in output


RIGHT: list[tuple[str, Manifest]] = [
    ("the shortest", experimental()),
    ("the shortest Stable", stable()),
    ("the longest name", experimental("a" * 40)),
    ("a served name with a slash", changed(experimental(), "spec.modelName", "acme/support-bot_v1.2")),
    ("a claim with a dot", changed(experimental(), URI, "pvc://store.fast/v1")),
    ("dots that are no way up", changed(experimental(), URI, "pvc://store/v1..2/..a")),
    ("an at-sign in a path", changed(experimental(), URI, "https://models.example.com/@acme/v1")),
    ("no quantization", changed(stable(), QUANTIZATION, {"method": "None"})),
    ("FP8 and no more", changed(stable(), QUANTIZATION, {"method": "FP8"})),
    ("FP8 in full", changed(stable(), QUANTIZATION, {"method": "FP8", "scheme": "FP8_DYNAMIC"})),
    ("GPTQ", changed(stable(), f"{QUANTIZATION}.method", "GPTQ")),
    (
        "GPTQ, asymmetric",
        changed(changed(stable(), f"{QUANTIZATION}.method", "GPTQ"), f"{QUANTIZATION}.scheme", "W4A16_ASYM"),
    ),
    ("AWQ, symmetric", changed(stable(), f"{QUANTIZATION}.scheme", "W4A16")),
    ("INT8", changed(stable(), f"{QUANTIZATION}.method", "INT8")),
    ("INT8 in full", changed(changed(stable(), f"{QUANTIZATION}.method", "INT8"), f"{QUANTIZATION}.scheme", "W8A8")),
    ("a score of exactly 1", changed(stable(), f"{SUITE}.minScore", "1.0")),
    ("a duration of all units", changed(stable(), "spec.build.deadline", "1h30m5s")),
    ("no delay at all", changed(stable(), "spec.rollout.scaleDownDelay", "0s")),
    (
        "a pod template that is anything",
        changed(stable(), "spec.build.podTemplate", {"spec": {"nodeSelector": {"gpu": "h100"}}}),
    ),
]


@pytest.mark.parametrize("manifest", [m for _, m in RIGHT], ids=[name for name, _ in RIGHT])
def test_a_right_manifest_is_accepted(cluster: Kubectl, manifest: Manifest) -> None:
    cluster("create", "--dry-run=server", "-f", "-", manifest=manifest)


NAMED = changed(experimental("immutable"), "spec.modelName", "support-bot")
IMMUTABLE = [
    pytest.param(NAMED, "spec.modelName", "other", "modelName is immutable", id="modelName changed"),
    pytest.param(NAMED, "spec.modelName", ABSENT, "modelName is immutable", id="modelName removed"),
    pytest.param(experimental("immutable"), "spec.modelName", "late", "modelName is immutable", id="modelName added"),
    pytest.param(NAMED, "spec.baseRef.name", "other", "baseRef is immutable", id="baseRef changed"),
    pytest.param(NAMED, f"{ADAPTER}.name", "other", "adapters[].name is immutable", id="adapter renamed"),
]


@pytest.mark.parametrize(("before", "path", "value", "message"), IMMUTABLE)
def test_what_clients_depend_on_cannot_be_changed(
    kubectl: Kubectl, before: Manifest, path: str, value: Any, message: str
) -> None:
    kubectl("create", "-f", "-", manifest=before)
    resource_version = kubectl.get("immutable")["metadata"]["resourceVersion"]
    after = changed(changed(before, path, value), "metadata.resourceVersion", resource_version)
    status, output = kubectl.try_("replace", "-f", "-", manifest=after)
    assert status != 0, f"accepted: {output}"
    assert message in output


def test_stage_adapter_and_rollback_can_be_changed_at_any_time(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", manifest=experimental("life"))
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", manifest=stable("life"))
    patches = [
        '{"spec": {"stage": "Experimental"}}',
        '{"spec": {"rollback": {"revision": 1}}}',
        '{"spec": {"rollback": null}}',
        '{"spec": {"adapters": [{"name": "support", "version": "v2", "source": {"uri": "pvc://store/v2"}}]}}',
    ]
    for patch in patches:
        kubectl("patch", "ar", "life", "--type=merge", "--patch", patch)
    assert kubectl.get("life")["spec"]["adapters"][0]["version"] == "v2"


def test_defaults_are_filled_in_down_to_the_leaves(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", manifest=stable("defaults"))
    spec = kubectl.get("defaults")["spec"]
    assert spec["build"]["merge"] == {"dtype": "bfloat16", "device": "auto"}
    assert spec["build"]["quantization"]["method"] == "AWQ"
    assert spec["build"]["quantization"]["calibration"]["samples"] == 256
    assert spec["validation"]["suites"][0]["maxQuantizedScoreDrop"] == "0.01"
    assert spec["validation"]["benchmark"] == {"concurrency": 8, "requests": 64, "minSpeedup": "0"}
    assert spec["rollout"]["observe"]["onMissingData"] == "Keep"
    assert "replicas" not in spec["rollout"]
    assert "rollback" not in spec


def test_what_depends_on_the_method_has_no_default_that_a_rule_would_refuse(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", manifest=changed(stable("fp8"), QUANTIZATION, {"method": "FP8"}))
    assert kubectl.get("fp8")["spec"]["build"]["quantization"] == {"method": "FP8"}
    # From one method to the next by one patch, and back.
    patch = {"spec": {"build": {"quantization": {"method": "GPTQ", "groupSize": 32, "calibration": CALIBRATION}}}}
    kubectl("patch", "ar", "fp8", "--type=merge", "--patch", json.dumps(patch))
    bare = {"spec": {"build": {"quantization": {"method": "None", "groupSize": None, "calibration": None}}}}
    kubectl("patch", "ar", "fp8", "--type=merge", "--patch", json.dumps(bare))
    assert kubectl.get("fp8")["spec"]["build"]["quantization"] == {"method": "None"}


def test_the_shortest_release_has_no_build_and_no_validation(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", manifest=experimental("short"))
    spec = kubectl.get("short")["spec"]
    assert spec["stage"] == "Experimental"
    assert {"build", "validation", "rollback", "modelName"}.isdisjoint(spec)
