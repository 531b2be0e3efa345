"""What a user sees and does with kubectl."""

from __future__ import annotations

import re
from typing import Any

import pytest

from controller.api.crd import release_schema
from controller.api.status import AdapterReleaseStatus
from tests.api.kubectl import Kubectl
from tests.api.manifests import changed, experimental, stable

pytestmark = pytest.mark.apiserver


def condition(kind: str, status: str = "True") -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "reason": "AsExpected",
        "message": "written by a test",
    }


NOT_SEEN = {"observedGeneration": -1}  # by the CRD


def promoted() -> dict[str, Any]:
    artifact = {"id": "a1b2c3", "inputs": "i", "path": "/store/artifacts/a1b2c3", "adapterDigest": "d"}
    return {
        "observedGeneration": 1,
        "conditions": [condition("Promoted"), condition("Ready")],
        "serving": {
            "backend": {"kind": "Artifact", "id": "a1b2c3"},
            "revision": 2,
            "since": "2026-01-01T00:00:00Z",
        },
        "artifact": artifact | {"name": "merged-tiny-llama-adapter-support-v1", "speedup": "1.42"},
        "rollout": {"step": "Idle"},
    }


def columns(table: str) -> list[dict[str, str]]:
    """Rows of kubectl's table, by column; cells are as wide as their column."""
    header, *rows = table.splitlines()
    found = list(re.finditer(r"\S+", header))
    ends = [*(match.start() for match in found[1:]), None]
    return [
        {match[0]: row[match.start() : end].strip() for match, end in zip(found, ends, strict=True)} for row in rows
    ]


def filled(schema: dict[str, Any]) -> Any:
    """A value with every field that the schema has."""
    if "properties" in schema:
        return {name: filled(field) for name, field in schema["properties"].items()}
    if "items" in schema:
        return [filled(schema["items"])]
    if "additionalProperties" in schema:
        return {"key": filled(schema["additionalProperties"])}
    if "enum" in schema:
        return schema["enum"][-1]
    if schema.get("pattern", "").startswith("^("):
        return schema["pattern"].removeprefix("^(").split("|")[0]
    if schema.get("format") == "date-time":
        return "2026-01-01T00:00:00Z"
    return {"string": "text", "integer": 2**40, "boolean": True}[schema["type"]]


def test_the_table_says_stage_serving_ready_artifact_speedup(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", manifest=stable("support-bot"))
    kubectl.write_status("support-bot", promoted())
    (row,) = columns(kubectl("get", "ar"))
    assert row.pop("AGE")
    assert row == {
        "NAME": "support-bot",
        "STAGE": "Stable",
        "SERVING": "Artifact",
        "READY": "True",
        "ARTIFACT": "merged-tiny-llama-adapter-support-v1",
        "SPEEDUP": "1.42",
    }


def test_the_wide_table_says_step_reason_and_message_too(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", manifest=stable("support-bot"))
    kubectl.write_status("support-bot", promoted())
    (row,) = columns(kubectl("get", "ar", "-o", "wide"))
    assert (row["STEP"], row["REASON"], row["MESSAGE"]) == ("Idle", "AsExpected", "written by a test")


@pytest.mark.parametrize("name", ["ar", "adapterrelease", "adapterreleases.adapterrelease.dev", "all", "vllm"])
def test_a_release_is_found_by_short_name_and_by_category(kubectl: Kubectl, name: str) -> None:
    kubectl("create", "-f", "-", manifest=experimental("findable"))
    assert "findable" in kubectl("get", name)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "takes one LoRA adapter from dynamic serving to a merged"),
        (".spec", "Set it back to roll back."),
        (".spec.build", "A build that takes longer has failed."),
        (".spec.build", "security settings cannot be loosened here."),
        (".spec.build.quantization.groupSize", "must divide the input size"),
        (".spec.adapters.source.uri", "pvc://CLAIM/PATH"),
        (".spec.rollout.observe", "How long the new backend is watched"),
        (".status.serving", "What the route was last proven to reach."),
    ],
)
def test_explain_helps(cluster: Kubectl, path: str, words: str) -> None:
    assert words in " ".join(cluster("explain", f"adapterrelease{path}").split())


def test_whoever_writes_the_spec_cannot_write_the_status(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", manifest=experimental("isolated") | {"status": promoted()})
    assert kubectl.get("isolated")["status"] == NOT_SEEN


def test_whoever_writes_the_status_cannot_write_the_spec(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", manifest=experimental("isolated"))
    before = kubectl.get("isolated")
    both = changed(before, "spec.stage", "Stable") | {"status": promoted()}
    kubectl("replace", "--subresource=status", "-f", "-", manifest=both)
    after = kubectl.get("isolated")
    assert after["spec"] == before["spec"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert after["status"]["artifact"]["speedup"] == "1.42"


def test_every_field_of_the_status_survives_the_api_server(kubectl: Kubectl) -> None:
    status = AdapterReleaseStatus.model_validate(filled(release_schema()["properties"]["status"]))
    kubectl("create", "-f", "-", manifest=experimental("whole"))
    kubectl.write_status("whole", status.to_wire())
    stored = kubectl.get("whole")["status"]
    assert stored == status.to_wire()
    assert AdapterReleaseStatus.model_validate(stored) == status


def test_an_empty_status_survives_the_api_server(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", manifest=experimental("empty"))
    kubectl.write_status("empty", AdapterReleaseStatus().to_wire())
    assert kubectl.get("empty")["status"] == AdapterReleaseStatus().to_wire()


def test_a_condition_of_no_known_status_is_refused(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", manifest=experimental("wrong"))
    with pytest.raises(AssertionError, match="status in body should match"):
        kubectl.write_status("wrong", {"conditions": [condition("Ready", "Maybe")]})


def test_kubectl_wait_sees_the_promotion(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", manifest=stable("awaited"))
    waiting = kubectl.start("wait", "ar/awaited", "--for=condition=Promoted", "--timeout=60s")
    kubectl.write_status("awaited", promoted())
    output, errors = waiting.communicate(timeout=90)
    assert waiting.returncode == 0, errors
    assert "condition met" in output


def test_kubectl_wait_does_not_take_false_for_promoted(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", manifest=stable("awaited"))
    kubectl.write_status("awaited", {"conditions": [condition("Promoted", "False")]})
    status, output = kubectl.try_("wait", "ar/awaited", "--for=condition=Promoted", "--timeout=1s")
    assert status != 0
    assert "timed out" in output


def test_a_release_that_no_controller_has_seen_says_so(kubectl: Kubectl) -> None:
    """Whatever is done to it, until there is a status; then that is all there is."""
    kubectl("create", "-f", "-", manifest=experimental("new"))
    assert kubectl.get("new")["status"] == NOT_SEEN
    kubectl("annotate", "ar", "new", "a=b")
    assert kubectl.get("new")["status"] == NOT_SEEN
    kubectl.write_status("new", promoted())
    assert kubectl.get("new")["status"] == promoted()
