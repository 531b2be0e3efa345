"""One life, from apply to rollback, under a load that never stops. The tests are in the order of the life."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from controller.api.v1alpha1 import (
    LOADED_LABEL_PREFIX,
    RELEASE_LABEL,
    RETRY_ANNOTATION,
    AdapterRelease,
)
from controller.cli.report import documents_in
from controller.errors import NotFound
from controller.job.provenance import ArtifactStatement, read_artifact
from controller.job.store import directory_digests, file_digest
from controller.job.summary import BuildResult, parse_summary
from controller.reconcile.caches import RELEASES
from controller.reconcile.jobs import JOB_NAME_LABEL
from controller.report.documents import report_of
from controller.report.facts import Report
from controller.report.page import page_of
from controller.report.release import judged
from controller.runtime.resources import CONFIGMAPS, DEPLOYMENTS, JOBS, PODS, SERVICES, Resource
from tests.e2e.cluster import NAMESPACE, Cluster, measured
from tests.e2e.load import Load
from tests.e2e.release import ANSWER, Release, score_of_base, spec_of

pytestmark = pytest.mark.e2e

Json = dict[str, Any]
STANDARD_LABELS = ("name", "instance", "component", "part-of", "managed-by")


@pytest.fixture(scope="module")
def applied(bot: Release) -> float:
    """The release is new. Seconds from apply to the first right answer through its Service."""
    bot.delete()
    began = time.monotonic()
    bot.set_spec(spec_of())
    bot.until_answered(ANSWER)
    seconds = time.monotonic() - began
    measured("seconds from apply to the first right answer", round(seconds, 1))
    bot.until("Ready", "True", "Serving")
    return seconds


@pytest.fixture(scope="module")
def load(applied: float, bot: Release) -> Iterator[Load]:
    """From here to the last test."""
    with Load(bot.cluster, bot.name, rate=4) as running:
        yield running


@pytest.fixture(scope="module")
def adapter_score(load: Load, bot: Release) -> float:
    return bot.score()


@pytest.fixture(scope="module")
def promoted(adapter_score: float, bot: Release) -> Release:
    began = time.monotonic()
    bot.patch({"spec": {"stage": "Stable"}})
    bot.cluster.kubectl("-n", NAMESPACE, "wait", f"ar/{bot.name}", "--for=condition=Promoted", "--timeout=600s")
    measured("seconds from stage Stable to Promoted", round(time.monotonic() - began, 1))
    measured("speedup", bot.status["artifact"]["speedup"])
    return bot


def artifact_statement(release: Release) -> ArtifactStatement:
    return read_artifact(release.artifact_directory())


def report_of_release(release: Release) -> Report:
    """As `adapterrelease report NAME --artifact DIR` makes it."""
    documents = documents_in(release.artifact_directory())
    return judged(report_of(documents), AdapterRelease.model_validate(release.read()))


def uids(objects: list[Json]) -> set[str]:
    return {obj["metadata"]["uid"] for obj in objects}


def test_an_applied_release_answers_right_through_its_service(applied: float, bot: Release) -> None:
    assert ANSWER in bot.ask()
    assert bot.serving["kind"] == "Adapter"
    bot.cluster.until("an event", lambda: bot.events("FirstLoad") or bot.events("Serving"), 30)


def test_each_base_pod_is_labelled_and_lists_the_imported_adapter(load: Load, bot: Release) -> None:
    bot.until("AdapterLoaded", "True", "Loaded")
    adapter = bot.status["adapter"]
    hex_digest = adapter["digest"].removeprefix("sha256:")
    pods = bot.cluster.base_pods()
    assert len(pods) == 2
    for pod in pods:
        assert pod["metadata"]["labels"][LOADED_LABEL_PREFIX + bot.name] == hex_digest[:8]
        assert bot.cluster.models_in(pod)[bot.name] == f"/store/adapters/support-bot/{hex_digest}"
    assert bot.cluster.endpoints(bot.name) == {p["metadata"]["name"] for p in pods}


def test_kubectl_waits_for_the_promotion(promoted: Release) -> None:
    assert promoted.serving["kind"] == "Artifact"
    assert ANSWER in promoted.ask()
    line = promoted.cluster.kubectl("-n", NAMESPACE, "get", "ar", promoted.name, "--no-headers")
    assert "Stable" in line and "Artifact" in line


def test_the_artifact_scores_as_the_adapter_and_far_over_the_base(promoted: Release, adapter_score: float) -> None:
    artifact, base = promoted.score(), score_of_base(promoted.cluster)
    measured("scores on the held-out set: base, adapter, artifact", (base, adapter_score, artifact))
    assert artifact >= adapter_score - 0.01
    assert artifact >= base + 0.5
    (judged,) = promoted.status["artifact"]["scores"]
    assert float(judged["artifact"]) >= float(judged["adapter"]) - 0.01


def test_what_serves_is_the_w4a16_artifact(promoted: Release) -> None:
    artifact = promoted.status["artifact"]
    assert promoted.cluster.models(promoted.cluster.service_url(promoted.name)) == {promoted.name: artifact["path"]}
    config = json.loads((promoted.artifact_directory() / "config.json").read_text())["quantization_config"]
    (group,) = config["config_groups"].values()
    weights = group["weights"]
    assert (weights["num_bits"], weights["group_size"], weights["symmetric"]) == (4, 32, False)
    assert not group.get("input_activations")
    assert artifact["name"].startswith("merged-tiny-llama-")
    assert artifact["name"].endswith("-adapter-support-bot-v1")


def test_the_provenance_is_complete(promoted: Release) -> None:
    """Base id and revision, adapter digests and versions, training run, tools, time, sizes."""
    said, artifact = artifact_statement(promoted), promoted.status["artifact"]
    assert (said.id, said.name, said.digest) == (artifact["id"], artifact["name"], artifact["digest"])
    assert said.size_bytes == artifact["sizeBytes"]
    for file in said.subject:
        assert (promoted.artifact_directory() / file.name).stat().st_size == file.size
    base, adapter, calibration = (said.dependency(n) for n in ("base", "adapter/support-bot", "calibration"))
    assert base is not None and adapter is not None and calibration is not None
    assert base.annotations is not None and base.annotations["name"] == "tiny-llama"
    assert base.digest == {"dirHash": artifact["provenance"]["baseDigest"].removeprefix("sha256:")}
    assert adapter.annotations is not None
    assert (adapter.annotations["version"], adapter.annotations["trainingRun"]) == ("v1", "mlflow:/runs/4711")
    assert adapter.digest == {"dirHash": promoted.status["adapter"]["digest"].removeprefix("sha256:")}
    assert calibration.digest is not None and set(calibration.digest) == {"sha256"}
    run = said.predicate.run_details
    tools = {"merge", "quantize", "llmcompressor", "compressed-tensors", "torch", "transformers"}
    assert tools <= set(run.builder.version)
    assert artifact["provenance"]["quantization"] == "AWQ W4A16_ASYM g32"
    assert run.metadata.started_on < run.metadata.finished_on
    assert said.measured["seconds"]


def test_the_artifact_is_verified_by_each_pod_before_it_starts(promoted: Release) -> None:
    artifact, pod = promoted.status["artifact"], promoted.artifact_pod()
    (verified,) = [s for s in pod["status"]["initContainerStatuses"] if s["name"] == "verify-artifact"]
    assert verified["state"]["terminated"]["exitCode"] == 0
    said = promoted.cluster.kubectl("-n", NAMESPACE, "logs", pod["metadata"]["name"], "-c", "verify-artifact")
    assert f"good: {artifact['name']}" in said
    card = (promoted.artifact_directory() / "README.md").read_text()
    assert "base_model_relation: quantized" in card and artifact["id"] in card


def test_the_scores_are_kept_beside_the_artifact_which_they_did_not_change(promoted: Release) -> None:
    directory, status = promoted.artifact_directory(), promoted.status
    artifact = status["artifact"]
    path = directory.with_name(f"{directory.name}.evaluations") / f"{artifact['validationInputs']}.json"
    statement = json.loads(path.read_text())
    digests = directory_digests(directory)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"] == [
        {"name": f"{directory.name}/artifact.json", "digest": {"sha256": digests["artifact.json"]}}
    ]
    said = statement["predicate"]
    assert said["release"]["uid"] == promoted.read()["metadata"]["uid"]
    assert said["artifact"] == {key: artifact[key] for key in ("id", "digest", "name")}
    assert said["adapter"]["digest"] == status["adapter"]["digest"] == artifact["adapterDigest"]
    (judged,) = artifact["scores"]
    (suite,) = said["suites"]
    scores = (f"{suite['reference']:.4f}", f"{suite['candidate']:.4f}", f"{suite['agreement']:.4f}")
    assert scores == (judged["adapter"], judged["artifact"], judged["agreement"])
    assert (suite["name"], suite["samples"], suite["errors"]) == (judged["name"], judged["samples"], 0)
    data = promoted.cluster.store / "suites" / "support.jsonl"
    assert suite["dataDigest"] == f"sha256:{file_digest(data)}"
    assert f"{said['benchmark']['speedup']:.2f}" == artifact["speedup"]
    assert said["startedOn"] < said["finishedOn"]
    assert {f.name: f.sha256 for f in artifact_statement(promoted).subject} == {
        name: digest for name, digest in digests.items() if name != "artifact.json"
    }
    assert directory.stat().st_mode & 0o777 == 0o555


def test_a_report_of_what_the_jobs_have_left_lacks_nothing(promoted: Release) -> None:
    report = report_of_release(promoted)
    assert report.missing == ()
    assert report.speed is not None and report.speed.curves is not None
    assert {stage.job for stage in report.stages} == {"Build", "Validation"}
    assert report.verdict.word == "Pass" and report.verdict.why
    assert report.standing.startswith("This artifact serves, since ")
    assert page_of(report).count("<svg ") == 5


def test_a_validation_can_write_nowhere_else_in_the_store(promoted: Release) -> None:
    (job,) = promoted.jobs("validate")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    writable = [m for m in container["volumeMounts"] if m["name"] == "store" and not m.get("readOnly")]
    assert [m["mountPath"] for m in writable] == [f"{promoted.status['artifact']['path']}.evaluations"]


MADE: tuple[Resource, ...] = (DEPLOYMENTS, JOBS, SERVICES, CONFIGMAPS)


def test_everything_that_was_made_is_owned_and_labelled(promoted: Release) -> None:
    owner = promoted.read()["metadata"]["uid"]
    jobs = {j["metadata"]["uid"] for j in promoted.cluster.find(JOBS, f"{RELEASE_LABEL}={promoted.name}")}
    for resource in MADE:
        made = promoted.cluster.find(resource, f"{RELEASE_LABEL}={promoted.name}")
        assert made, resource.plural
        for obj in made:
            (reference,) = obj["metadata"]["ownerReferences"]
            assert reference["uid"] in (jobs if resource is CONFIGMAPS else {owner}) and reference["controller"]
            labels = obj["metadata"]["labels"]
            assert all(labels.get(f"app.kubernetes.io/{name}") for name in STANDARD_LABELS), labels


def test_every_pod_that_was_made_is_restricted_and_asks_for_resources(promoted: Release) -> None:
    namespace = json.loads(promoted.cluster.kubectl("get", "namespace", NAMESPACE, "-o", "json"))
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    pods = promoted.cluster.find(PODS, f"{RELEASE_LABEL}={promoted.name}")
    assert len(pods) >= 4  # import, build, validate, and the candidate
    for pod in pods:
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])


def test_a_rollback_and_a_second_promotion_build_nothing(promoted: Release) -> None:
    before = {kind: uids(promoted.jobs(kind)) for kind in ("import", "build", "validate")}
    began = time.monotonic()
    promoted.patch({"spec": {"stage": "Experimental"}})
    promoted.until_serving("Adapter")
    measured("seconds to roll back by stage", round(time.monotonic() - began, 1))
    assert promoted.until("Promoted", "False")["reason"] == "RolledBackByUser"
    assert ANSWER in promoted.ask()
    began = time.monotonic()
    promoted.patch({"spec": {"stage": "Stable"}})
    promoted.until_serving("Artifact", seconds=600)
    measured("seconds to promote again", round(time.monotonic() - began, 1))
    promoted.until("Promoted", "True")
    assert {kind: uids(promoted.jobs(kind)) for kind in before} == before


def test_the_same_inputs_are_not_built_twice_even_without_the_job(promoted: Release) -> None:
    cluster, artifact = promoted.cluster, promoted.status["artifact"]["id"]
    weights = {p.name: p.stat().st_mtime_ns for p in promoted.artifact_directory().iterdir()}
    for job in promoted.jobs("build"):
        cluster.kubectl("-n", NAMESPACE, "delete", "job", job["metadata"]["name"])
    cluster.kubectl("-n", NAMESPACE, "annotate", "ar", promoted.name, f"{RETRY_ANNOTATION}=again", "--overwrite")

    def result() -> BuildResult | None:
        jobs = [j for j in promoted.jobs("build") if j.get("status", {}).get("succeeded")]
        return build_result(cluster, jobs[0]) if jobs else None

    built = cluster.until("the build job has run again", result, 120)
    assert built is not None
    assert (built.artifact_id, built.reused) == (artifact, True)
    promoted.until("Ready", "True", "Serving")
    assert {p.name: p.stat().st_mtime_ns for p in promoted.artifact_directory().iterdir()} == weights
    assert promoted.serving == {"kind": "Artifact", "id": artifact}


def build_result(cluster: Cluster, job: Json) -> BuildResult | None:
    (pod,) = cluster.find(PODS, f"{JOB_NAME_LABEL}={job['metadata']['name']}")
    (status,) = pod["status"]["containerStatuses"]
    result = parse_summary(status["state"]["terminated"]["message"]).result
    return result if isinstance(result, BuildResult) else None


def test_a_revision_is_pinned_and_let_go(promoted: Release) -> None:
    revision = next(h["revision"] for h in promoted.status["history"] if h["backend"]["kind"] == "Adapter")
    began = time.monotonic()
    promoted.patch({"spec": {"rollback": {"revision": revision}}})
    promoted.until_serving("Adapter")
    measured("seconds to roll back by revision", round(time.monotonic() - began, 1))
    assert ANSWER in promoted.ask()
    assert promoted.until("Promoted", "False")["reason"] == "RolledBackByUser"
    promoted.patch({"spec": {"rollback": None}})
    promoted.until_serving("Artifact", seconds=600)  # its Deployment may be gone: it starts anew
    promoted.until("Promoted", "True")


def test_the_history_tells_the_life(promoted: Release) -> None:
    history = promoted.status["history"]
    assert [(h["backend"]["kind"], h["reason"]) for h in history] == [
        ("Artifact", "Promoted"),
        ("Adapter", "RolledBackByUser"),
        ("Artifact", "Promoted"),
        ("Adapter", "RolledBackByUser"),
    ]
    revisions = [h["revision"] for h in history]
    assert revisions == sorted(revisions, reverse=True)
    assert all(h["version"] == "v1" for h in history)


def test_no_request_was_lost_in_all_of_this(promoted: Release, load: Load) -> None:
    load.assert_nothing_failed()
    assert load.result is not None
    assert load.result["right"] >= 0.95 * load.result["requests"]


def test_a_deleted_release_leaves_nothing_on_the_base(cluster: Cluster) -> None:
    other = Release(cluster, "short-lived")
    other.set_spec(spec_of())
    other.until("Ready", "True", "Serving")
    other.delete()
    for pod in cluster.base_pods():
        assert other.name not in cluster.models_in(pod)
        assert LOADED_LABEL_PREFIX + other.name not in pod["metadata"]["labels"]

    def route_is_gone() -> bool:
        try:
            cluster.service_url(other.name)
        except NotFound:
            return True
        return False

    cluster.until("the route is collected", route_is_gone, 60)
    assert cluster.get(RELEASES, other.name) is None
