"""The objects that are made: jobs, merged Deployments, Services."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.core

from controller.api.status import AdapterReleaseStatus, AdapterStatus, ArtifactStatus
from controller.cli.main import app
from controller.domain.inputs import build_inputs
from controller.domain.snapshot import JobKind, Snapshot
from controller.job.contract import parse_contract
from controller.job.store import Store
from controller.reconcile.base import base_facts
from controller.reconcile.objects.jobs import contract_map, job
from controller.reconcile.objects.merged import merged_deployment
from controller.reconcile.objects.services import adapter_service, preview_service, route
from controller.reconcile.objects.verify import ArtifactCheck, Verification
from tests.builders import A1, A2, BUILD, D1, ReleaseBuilder, adapter, artifact, release
from tests.reconcile.deployments import (
    KSERVE,
    MODELS,
    PRODUCTION_STACK,
    SHELL_FORM,
    SIDECAR,
    STORE,
    UNKNOWN,
    container,
    deployment,
)

Json = dict[str, Any]

IMAGE = "localhost/adapterrelease/job:dev"
INPUTS = "f" * 64
PLUGGED = "--middleware=adapterrelease_engine.Middleware"
PATH = f"/store/artifacts/{'a' * 64}"
MEMORY = AdapterReleaseStatus(
    adapter=AdapterStatus(digest=D1, version="v1", inputs="i", path="/store/adapters/finetune/1"),
    artifact=ArtifactStatus(id=A1, inputs="i", path=PATH, digest=A2, adapter_digest=D1),
)


def seen(builder: ReleaseBuilder | None = None, made: Json | None = None) -> Snapshot:
    built = (builder or release().stable()).build().model_copy(update={"status": MEMORY})
    return Snapshot(release=built, base=base_facts(made or deployment()))


def job_of(kind: JobKind, snapshot: Snapshot) -> Json:
    assert snapshot.base is not None
    return job(kind, INPUTS, snapshot, snapshot.base, IMAGE)


def contract_of(kind: JobKind, snapshot: Snapshot) -> Json:
    assert snapshot.base is not None
    data: Json = json.loads(contract_map(kind, INPUTS, snapshot, snapshot.base)["data"]["contract.json"])
    parse_contract(json.dumps(data))
    return data


def merged_of(snapshot: Snapshot, check: ArtifactCheck = ArtifactCheck.DIGESTS, artifact_id: str = A1) -> Json:
    assert snapshot.base is not None
    path = snapshot.base.artifact_path(artifact_id)
    return merged_deployment(snapshot, snapshot.base, artifact_id, path, Verification(IMAGE, check))


def mounts_of(made: Json) -> Json:
    pod = made["spec"]["template"]["spec"]
    volumes = {v["name"]: v for v in pod["volumes"]}
    return {
        m["mountPath"]: (volumes[m["name"]], m.get("readOnly", False)) for m in pod["containers"][0]["volumeMounts"]
    }


def line_of(made: Json) -> list[str]:
    found = next(c for c in made["spec"]["template"]["spec"]["containers"] if "vllm" in c.get("image", ""))
    return [*found.get("command", []), *found.get("args", [])]


# -- jobs


@pytest.mark.parametrize("kind", list(JobKind))
def test_a_job_runs_restricted_and_cannot_ask_the_api_server(kind: JobKind) -> None:
    made = job_of(kind, seen())
    pod = made["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["containers"][0]["resources"]["requests"]
    assert made["metadata"]["ownerReferences"][0]["uid"] == "uid-support-bot"
    assert made["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "adapter-release-controller"


def test_rejected_input_is_not_retried_and_a_drained_node_costs_no_retry() -> None:
    spec = job_of(JobKind.BUILD, seen())["spec"]
    fail, ignore = spec["podFailurePolicy"]["rules"]
    assert (fail["action"], fail["onExitCodes"]["values"]) == ("FailJob", [2])
    assert (ignore["action"], ignore["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (3, 7200)


def test_names_carry_the_inputs_and_stay_short() -> None:
    made = job_of(JobKind.VALIDATE, seen(release("a" * 40).stable()))
    assert made["metadata"]["name"] == "a" * 40 + "-validate-ffffffff"
    assert len(made["metadata"]["name"]) <= 63
    assert made["metadata"]["labels"]["adapterrelease.dev/inputs"] == "f" * 63
    assert made["metadata"]["annotations"]["adapterrelease.dev/inputs"] == INPUTS


def test_a_build_says_what_it_is_made_of_whatever_it_is_given() -> None:
    snapshot, more = seen(), seen(release().stable().spec(build=BUILD | {"deadline": "9h"}))
    made_of = [
        job_of(JobKind.BUILD, s)["metadata"]["annotations"]["adapterrelease.dev/made-of"] for s in (snapshot, more)
    ]
    assert snapshot.base is not None
    assert made_of == [build_inputs(snapshot.release, snapshot.base, D1)] * 2


def store_mounts(made: Json) -> list[Json]:
    mounts = made["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    return [m for m in mounts if m["name"] == "store"]


@pytest.mark.parametrize("kind", [JobKind.IMPORT, JobKind.BUILD])
def test_import_and_build_may_write_to_the_store(kind: JobKind) -> None:
    made = job_of(kind, seen())
    assert store_mounts(made) == [{"name": "store", "mountPath": "/store"}]
    assert mounts_of(made)["/store"][0] == {"name": "store", "persistentVolumeClaim": {"claimName": "store"}}


def test_a_validation_keeps_examples_unless_the_controller_was_told_otherwise() -> None:
    snapshot = seen()
    assert snapshot.base is not None
    assert contract_of(JobKind.VALIDATE, snapshot)["examples"] == "Changed"
    told = contract_map(JobKind.VALIDATE, INPUTS, snapshot, snapshot.base, "None")
    assert json.loads(told["data"]["contract.json"])["examples"] == "None"


def test_a_validation_may_write_only_to_the_evaluations_of_its_artifact() -> None:
    made = job_of(JobKind.VALIDATE, seen())
    evaluations = f"artifacts/{'a' * 64}.evaluations"
    assert store_mounts(made) == [
        {"name": "store", "mountPath": "/store", "readOnly": True},
        {"name": "store", "mountPath": f"/store/{evaluations}", "subPath": evaluations},
    ]
    assert f"/store/{evaluations}" == str(Store(Path("/store")).evaluations(A1))


def test_a_validation_may_write_there_in_a_store_that_the_base_mounts_in_part_and_read_only() -> None:
    part = container(volumeMounts=[{"name": "store", "mountPath": "/store", "subPath": "llm", "readOnly": True}])
    made = job_of(JobKind.VALIDATE, seen(made=deployment(part)))
    evaluations = f"artifacts/{'a' * 64}.evaluations"
    assert store_mounts(made) == [
        {"name": "store", "mountPath": "/store", "subPath": "llm", "readOnly": True},
        {"name": "store", "mountPath": f"/store/{evaluations}", "subPath": f"llm/{evaluations}"},
    ]
    assert mounts_of(made)["/store"][0]["persistentVolumeClaim"] == {"claimName": "store"}


def test_a_validation_is_told_which_artifact_its_scores_are_of() -> None:
    told = contract_of(JobKind.VALIDATE, seen())
    assert told["store"] == "/store"
    assert told["artifact"] == {"id": A1, "digest": A2, "adapterDigest": D1, "inputs": INPUTS}


def test_a_validation_is_told_whom_it_asks() -> None:
    told = contract_of(JobKind.VALIDATE, seen())
    assert told["reference"] == {
        "url": "http://support-bot-adapter.llm.svc",
        "model": "support-bot",
        "root": f"/store/adapters/finetune/{'1' * 64}",
    }
    assert told["candidate"] == {"url": "http://support-bot-preview.llm.svc", "model": "support-bot", "root": PATH}


def test_a_validation_of_what_vllm_cannot_serve_asks_the_candidate_alone() -> None:
    snapshot, made = seen(), ArtifactStatus(id=A1, inputs="i", path=PATH, digest=A2, adapter_digest=D1, merge_only=True)
    status = MEMORY.model_copy(update={"artifact": made})
    told = contract_of(
        JobKind.VALIDATE, replace(snapshot, release=snapshot.release.model_copy(update={"status": status}))
    )
    assert "reference" not in told
    assert told["candidate"]["root"] == PATH


def test_a_source_on_another_claim_is_mounted_read_only_beside_the_store() -> None:
    adapters = [{"name": "finetune", "version": "v1", "source": {"uri": "pvc://in.coming/a%20b/v1"}}]
    snapshot = seen(release().spec(adapters=adapters))
    volume, read_only = mounts_of(job_of(JobKind.IMPORT, snapshot))["/sources/in.coming"]
    assert (volume["persistentVolumeClaim"], read_only) == ({"claimName": "in.coming"}, True)
    source = contract_of(JobKind.IMPORT, snapshot)["adapter"]["source"]
    assert source == {"root": "/sources/in.coming", "path": "/sources/in.coming/a b/v1"}


def test_a_source_on_the_store_is_read_where_the_store_is() -> None:
    source = contract_of(JobKind.IMPORT, seen())["adapter"]["source"]
    assert source == {"root": "/store", "path": "/store/incoming/support-bot/v1"}


def test_a_store_mounted_in_part_is_no_root_for_sources() -> None:
    part = container(volumeMounts=[{"name": "store", "mountPath": "/store", "subPath": "llm"}])
    snapshot = seen(made=deployment(part))
    assert contract_of(JobKind.IMPORT, snapshot)["adapter"]["source"]["root"] == "/sources/store"
    mounts = job_of(JobKind.IMPORT, snapshot)["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert {"name": "store", "mountPath": "/store", "subPath": "llm"} in mounts


def test_credentials_are_files_and_never_in_the_contract() -> None:
    source = {"uri": "https://models.example/a.tar", "secretRef": {"name": "hub"}}
    snapshot = seen(release().spec(adapters=[{"name": "finetune", "version": "v1", "source": source}]))
    volume, read_only = mounts_of(job_of(JobKind.IMPORT, snapshot))["/credentials/hub"]
    assert (volume["secret"], read_only) == ({"secretName": "hub"}, True)
    assert contract_of(JobKind.IMPORT, snapshot)["adapter"]["source"]["credentials"] == "/credentials/hub"


def test_a_model_outside_of_the_store_is_mounted_as_in_the_base() -> None:
    annotations = {"adapterrelease.dev/store-volume": "store"}
    snapshot = seen(made=deployment(KSERVE, annotations=annotations, volumes=[STORE, MODELS]))
    pod = job_of(JobKind.BUILD, snapshot)["spec"]["template"]["spec"]
    mount = {"name": "models", "mountPath": "/mnt/models", "subPath": "hub", "readOnly": True}
    assert mount in pod["containers"][0]["volumeMounts"]
    assert "/mnt/models" not in mounts_of(job_of(JobKind.VALIDATE, snapshot))


def test_a_model_of_the_hub_brings_its_cache_and_revision() -> None:
    annotations = {"adapterrelease.dev/store-volume": "store"}
    snapshot = seen(made=deployment(PRODUCTION_STACK, annotations=annotations, volumes=[STORE, MODELS]))
    made = job_of(JobKind.BUILD, snapshot)
    assert "/data" in mounts_of(made)
    assert {"name": "HF_HOME", "value": "/data"} in made["spec"]["template"]["spec"]["containers"][0]["env"]
    assert contract_of(JobKind.BUILD, snapshot)["base"] == {
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "name": "tiny-llama",
        "revision": "abc123",
    }


def test_a_validation_asks_both_services_with_the_key_from_a_file() -> None:
    annotations = {"adapterrelease.dev/store-volume": "store"}
    snapshot = seen(made=deployment(PRODUCTION_STACK, annotations=annotations, volumes=[STORE, MODELS]))
    told = contract_of(JobKind.VALIDATE, snapshot)
    assert told["reference"]["url"] == "http://support-bot-adapter.llm.svc"
    assert told["candidate"]["url"] == "http://support-bot-preview.llm.svc"
    assert told["apiKeyFile"] == "/credentials/vllm/api-key"
    assert "/credentials/vllm" in mounts_of(job_of(JobKind.VALIDATE, snapshot))


def test_a_build_is_told_what_to_merge_and_how_to_quantize() -> None:
    told = contract_of(JobKind.BUILD, seen())
    assert told["adapters"][0]["path"] == f"/store/adapters/finetune/{'1' * 64}"
    assert told["quantization"]["calibration"]["path"] == "/store/calibration/support.jsonl"
    assert (told["quantization"]["method"], told["quantization"]["groupSize"]) == ("AWQ", 32)


@pytest.mark.parametrize(
    ("method", "more", "told"),
    [
        ("AWQ", {}, {"scheme": "W4A16_ASYM", "groupSize": 128}),
        ("AWQ", {"scheme": "W4A16", "groupSize": 64}, {"scheme": "W4A16", "groupSize": 64}),
        ("GPTQ", {}, {"scheme": "W4A16", "groupSize": 128}),
        ("INT8", {}, {"scheme": "W8A8"}),
        ("FP8", {}, {"scheme": "FP8_DYNAMIC"}),
    ],
)
def test_a_build_is_told_in_full_what_the_method_alone_means(method: str, more: Json, told: Json) -> None:
    data = {} if method == "FP8" else {"calibration": {"source": {"uri": "pvc://store/calibration.jsonl"}}}
    snapshot = seen(release().stable().spec(build={"quantization": {"method": method, **more, **data}}))
    quantization = contract_of(JobKind.BUILD, snapshot)["quantization"]
    assert (method == "FP8") == (quantization.pop("calibration", None) is None)
    assert quantization == {"method": method, **told}


def test_no_quantization_is_told_by_its_absence() -> None:
    snapshot = seen(release().stable().spec(build={"quantization": {"method": "None"}}))
    assert "quantization" not in contract_of(JobKind.BUILD, snapshot)


GPU: Json = {
    "metadata": {"labels": {"kueue.x-k8s.io/queue-name": "gpu", "app.kubernetes.io/managed-by": "me"}},
    "spec": {
        "nodeSelector": {"gpu": "h100"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "runtimeClassName": "nvidia",
        "priorityClassName": "batch",
        "hostNetwork": True,
        "hostPID": True,
        "automountServiceAccountToken": True,
        "serviceAccountName": "cluster-admin",
        "securityContext": {"runAsUser": 0, "runAsNonRoot": False},
        "volumes": [{"name": "root", "hostPath": {"path": "/"}}],
        "initContainers": [{"name": "evil", "image": "evil", "securityContext": {"privileged": True}}],
        "containers": [
            {
                "name": "job",
                "image": "evil",
                "command": ["sh"],
                "resources": {"limits": {"nvidia.com/gpu": 1, "memory": "64Gi"}, "requests": {"cpu": "8"}},
                "env": [{"name": "HF_TOKEN", "value": "x"}],
                "securityContext": {"privileged": True},
                "volumeMounts": [{"name": "root", "mountPath": "/host"}],
            },
            {"name": "sidecar", "image": "evil"},
        ],
    },
}


def with_gpu() -> Json:
    return job_of(JobKind.BUILD, seen(release().stable().spec(build=copy.deepcopy(BUILD) | {"podTemplate": GPU})))


def test_a_build_runs_where_its_pod_template_says() -> None:
    made = with_gpu()
    pod = made["spec"]["template"]["spec"]
    assert (pod["nodeSelector"], pod["runtimeClassName"], pod["priorityClassName"]) == (
        {"gpu": "h100"},
        "nvidia",
        "batch",
    )
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpu"
    resources = pod["containers"][0]["resources"]
    assert resources == {"limits": {"nvidia.com/gpu": 1, "memory": "64Gi"}, "requests": {"cpu": "8"}}
    assert {"name": "HF_TOKEN", "value": "x"} in pod["containers"][0]["env"]


def test_a_pod_template_cannot_loosen_security_or_replace_what_runs() -> None:
    plain, wished = job_of(JobKind.BUILD, seen()), with_gpu()
    before, after = plain["spec"]["template"]["spec"], wished["spec"]["template"]["spec"]
    allowed = {"nodeSelector", "tolerations", "runtimeClassName", "priorityClassName", "containers"}
    assert {k: v for k, v in after.items() if k not in allowed} == {
        k: v for k, v in before.items() if k != "containers"
    }
    (container_before,), (container_after,) = before["containers"], after["containers"]
    changed = {k for k in container_after if container_after[k] != container_before.get(k)}
    assert changed == {"resources", "env"}
    assert wished["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "adapter-release-controller"


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ({"spec": []}, "podTemplate.spec must be an object"),
        ({"metadata": {"labels": ["a"]}}, "podTemplate.metadata.labels must be an object"),
        ({"metadata": {"annotations": "a"}}, "podTemplate.metadata.annotations must be an object"),
        (
            {"spec": {"containers": {"name": "job"}}},
            "podTemplate.spec.containers must be a list of objects with a name",
        ),
        ({"spec": {"containers": [{"image": "x"}]}}, "containers must be a list of objects with a name"),
        ({"spec": {"containers": [{"name": "job", "env": [{"value": "1"}]}]}}, "env must be a list of objects"),
        ({"spec": {"containers": [{"name": "job", "resources": []}]}}, "resources must be an object"),
        ({"spec": {"containers": [{"name": "job", "resources": {"limits": 1}}]}}, "resources.limits must be an object"),
    ],
)
def test_a_pod_template_that_is_none_is_refused_by_the_name_of_its_field(template: Json, says: str) -> None:
    snapshot = seen(release().stable().spec(build=copy.deepcopy(BUILD) | {"podTemplate": template}))
    with pytest.raises(ValueError, match=says):
        job_of(JobKind.BUILD, snapshot)


def test_a_pod_template_concerns_the_build_alone() -> None:
    snapshot = seen(release().stable().spec(build=copy.deepcopy(BUILD) | {"podTemplate": GPU}))
    assert "nodeSelector" not in job_of(JobKind.IMPORT, snapshot)["spec"]["template"]["spec"]


# -- merged Deployments


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (
            container(args=["--enable-lora", "--max-loras", "4", "--max_lora_rank=16", "--enforce-eager", "-q", "awq"]),
            f"vllm serve {PATH} --enforce-eager --served-model-name support-bot --shutdown-timeout 60 {PLUGGED}",
        ),
        (
            container(command=["vllm", "serve", "--enable-lora", "/store/models/base", "--max-model-len", "256"]),
            f"vllm serve {PATH} --max-model-len 256 --served-model-name support-bot --shutdown-timeout 60 {PLUGGED}",
        ),
        (
            container(
                command=["python3", "-m", "vllm.entrypoints.openai.api_server"],
                args=["--port", "8000", "--model=/m", "--served-model-name", "a", "b", "--fully-sharded-loras"],
            ),
            f"python3 -m vllm.entrypoints.openai.api_server --model {PATH} --port 8000 "
            f"--served-model-name support-bot --shutdown-timeout 60 {PLUGGED}",
        ),
        (
            container(command=None, args=["--model", "/m", "--load-format", "bitsandbytes", "--lora-modules", "a=/x"]),
            f"--model {PATH} --served-model-name support-bot --shutdown-timeout 60 {PLUGGED}",
        ),
    ],
)
def test_the_model_is_replaced_and_lora_and_quantization_go(made: Json, expected: str) -> None:
    if "serve" in (made["command"] or ()) and "--enable-lora" in made["command"]:
        made = made | {"args": []}
    assert " ".join(line_of(merged_of(seen(made=deployment(made))))) == expected


def test_a_script_is_rewritten_in_its_own_words_and_hands_signals_to_vllm() -> None:
    (*shell, script) = line_of(merged_of(seen(made=deployment(SHELL_FORM))))
    assert shell == ["/bin/sh", "-c"]
    assert script == (
        "set -e\n"
        "# the model is on the store\n"
        'export VLLM_ALLOW_RUNTIME_LORA_UPDATING="True"\n'
        f"OMP_NUM_THREADS=1 exec vllm serve {PATH} --port ${{PORT:-9000}} "
        f"--served-model-name support-bot --shutdown-timeout 60 {PLUGGED}\n"
    )


EXPORTER: Json = {"name": "exporter", "image": "reg/vllm-exporter:1", "args": ["--port", "9"]}
BARE = container(name="engine", image="reg/llm:1", command=None, args=["/store/m", "--enable-lora", "--port=81"])


@pytest.mark.parametrize(
    "base",
    [
        deployment(BARE, SIDECAR),
        deployment(BARE, EXPORTER, annotations={"adapterrelease.dev/container": "engine"}),
    ],
)
def test_what_it_serves_can_be_read_from_it_whatever_its_base_was_known_by(base: Json) -> None:
    server = base_facts(merged_of(seen(made=base)))
    assert (server.container, server.model, server.port) == ("engine", PATH, 81)


def test_its_labels_are_its_own() -> None:
    made = merged_of(seen())
    labels = made["spec"]["template"]["metadata"]["labels"]
    assert "app" not in labels and "team" not in labels
    assert made["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert made["metadata"]["name"] == f"support-bot-merged-{'a' * 12}"
    assert made["metadata"]["annotations"]["adapterrelease.dev/artifact-id"] == A1


def test_a_base_whose_selector_would_match_it_is_refused() -> None:
    greedy = deployment()
    greedy["spec"]["selector"]["matchLabels"] = {"app.kubernetes.io/instance": "support-bot"}
    with pytest.raises(ValueError, match="matches the merged model's pods too: narrow it"):
        merged_of(seen(made=greedy))


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (UNKNOWN, "has no container that starts vLLM: name it in the annotation"),
        (container(volumeMounts=[]), "mounts no store"),
    ],
)
def test_a_base_that_does_not_say_its_container_or_its_store_makes_none(made: Json, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        merged_of(seen(made=deployment(made)))


def test_it_runs_restricted_whatever_the_base_does() -> None:
    root = {"runAsUser": 0, "fsGroup": 2000}
    privileged = container(securityContext={"privileged": True, "capabilities": {"add": ["SYS_ADMIN"]}})
    init = [{"name": "fetch", "image": "fetch"}]
    made = deployment(privileged, SIDECAR, hostNetwork=True, securityContext=root, initContainers=init)
    pod = merged_of(seen(made=made))["spec"]["template"]["spec"]
    assert "hostNetwork" not in pod
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsNonRoot"]) == (1000, True)
    assert pod["securityContext"]["fsGroup"] == 2000
    for found in [*pod["containers"], *pod["initContainers"]]:
        assert found["securityContext"]["allowPrivilegeEscalation"] is False
        assert found["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert "privileged" not in found["securityContext"]
        assert found["resources"]["requests"]["cpu"]


def test_it_is_ready_only_when_vllm_says_so() -> None:
    (found,) = merged_of(seen())["spec"]["template"]["spec"]["containers"]
    assert found["readinessProbe"]["httpGet"] == {"path": "/health", "port": 8000}
    own = {"httpGet": {"path": "/ready", "port": 1}}
    (kept,) = merged_of(seen(made=deployment(container(readinessProbe=own))))["spec"]["template"]["spec"]["containers"]
    assert kept["readinessProbe"] == own


def test_replicas_are_the_bases_unless_the_spec_says() -> None:
    assert merged_of(seen())["spec"]["replicas"] == 2
    assert merged_of(seen(release().stable().spec(rollout={"replicas": 5})))["spec"]["replicas"] == 5
    assert merged_of(seen(made=deployment(replicas=0)))["spec"]["replicas"] == 1


def test_lora_variables_go_and_a_writable_home_is_there() -> None:
    pod = merged_of(seen())["spec"]["template"]["spec"]
    assert [e["name"] for e in pod["containers"][0]["env"]] == ["HOME", "PYTHONPATH"]
    assert {"name": "merged-tmp", "emptyDir": {}} in pod["volumes"]


def verifier_of(made: Json) -> Json:
    found: Json = made["spec"]["template"]["spec"]["initContainers"][-1]
    return found


def test_its_artifact_is_verified_before_vllm_starts_by_the_image_of_jobs() -> None:
    found = verifier_of(merged_of(seen()))
    assert (found["name"], found["image"], found["command"]) == ("verify-artifact", IMAGE, ["adapterrelease", "verify"])
    assert found["args"] == [
        *(PATH, "--id", A1, "--digest", A2, "--any-mode"),
        *("--termination-log", "/dev/termination-log"),
    ]
    assert found["volumeMounts"] == [{"name": "store", "mountPath": "/store", "readOnly": True}]
    assert found["resources"]["requests"] and "limits" not in found["resources"]


def test_the_verifier_is_called_as_the_command_line_understands_it() -> None:
    """A flag that the image does not know would end in exit code 2, and keep every candidate from starting."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    for check in (ArtifactCheck.DIGESTS, ArtifactCheck.SIZES):
        name, *arguments = [*verifier_of(merged_of(seen(), check))["command"][1:]] + verifier_of(
            merged_of(seen(), check)
        )["args"]
        context = group.commands[name].make_context(name, arguments)
        told = context.params
        assert (told["artifact"], told["artifact_id"], told["digest"]) == (Path(PATH), A1, A2)
        assert (told["sizes_only"], told["any_mode"]) == (check is ArtifactCheck.SIZES, True)


def test_the_verifier_runs_after_what_the_base_itself_starts_first() -> None:
    init = [{"name": "gcs-sidecar", "image": "sidecar", "restartPolicy": "Always"}]
    pod = merged_of(seen(made=deployment(initContainers=init)))["spec"]["template"]["spec"]
    assert [c["name"] for c in pod["initContainers"]] == ["gcs-sidecar", "verify-artifact"]


def test_the_verifier_sees_a_store_that_is_mounted_in_part_as_vllm_does() -> None:
    mount = {"name": "store", "mountPath": "/store", "subPath": "llm"}
    found = verifier_of(merged_of(seen(made=deployment(container(volumeMounts=[mount])))))
    assert found["volumeMounts"] == [mount | {"readOnly": True}]


def test_of_an_older_revision_only_the_id_is_known() -> None:
    assert "--digest" not in verifier_of(merged_of(seen(), artifact_id=A2))["args"]


def test_without_a_check_nothing_is_verified() -> None:
    assert "initContainers" not in merged_of(seen(), ArtifactCheck.NONE)["spec"]["template"]["spec"]


# -- Services


def test_the_route_selects_what_the_snapshot_says_and_leads_to_vllms_port() -> None:
    snapshot = seen()
    made = route(snapshot, adapter(D1), 9000)
    assert made["metadata"]["name"] == "support-bot"
    assert made["spec"]["selector"] == snapshot.selector_for(adapter(D1))
    assert made["spec"]["ports"] == [{"name": "http", "port": 80, "targetPort": 9000, "protocol": "TCP"}]


def test_the_services_of_a_validation_lead_to_one_backend_each() -> None:
    snapshot = seen()
    assert adapter_service(snapshot, D1, 1)["spec"]["selector"] == snapshot.selector_for(adapter(D1))
    assert preview_service(snapshot, A1, 1)["spec"]["selector"] == snapshot.selector_for(artifact(A1))
    assert preview_service(snapshot, A1, 1)["spec"]["selector"].items() <= (
        merged_of(snapshot)["spec"]["template"]["metadata"]["labels"].items()
    )
