"""What is read from pod templates as people write them."""

from __future__ import annotations

from typing import Any

import pytest

from controller.reconcile.base import base_facts, plain_api_key
from tests.reconcile.deployments import (
    KSERVE,
    MODELS,
    PRODUCTION_STACK,
    SHELL_FORM,
    SIDECAR,
    STORE,
    STORE_MOUNT,
    UPDATING,
    container,
    deployment,
)

BARE = container(command=None, args=["--model", "/store/models/base", "--enable-lora"])
SERVE_BY_ARGS = container(command=["vllm"], args=["serve", "--enable-lora", "/store/models/base", "--max-loras=3"])
VARIABLE = container(
    args=["--model", "$(MODEL_ID)", "--enable-lora"],
    command=["python3", "-m", "vllm.entrypoints.openai.api_server"],
    env=[UPDATING, {"name": "MODEL_ID", "value": "org/model"}],
)
PIPED = container(
    command=["bash", "-ec"],
    args=["python3 -m vllm.entrypoints.openai.api_server --model=/m --enable-lora --port 81 2>&1 | tee /tmp/log"],
)

TWO_CLAIMS: dict[str, Any] = {"volumes": [STORE, MODELS]}


@pytest.mark.parametrize(
    ("made", "pod", "expected"),
    [
        (container(), {}, {"model": "/store/models/base", "served_names": ("tiny-llama",), "max_cpu_loras": 8}),
        (container(), {}, {"port": 8000, "max_loras": 4, "max_lora_rank": 16, "store_path": "/store"}),
        (BARE, {}, {"model": "/store/models/base", "served_names": ("/store/models/base",), "max_loras": 1}),
        (BARE, {}, {"max_cpu_loras": 1}),
        (SERVE_BY_ARGS, {}, {"model": "/store/models/base", "max_loras": 3, "max_cpu_loras": 3}),
        (VARIABLE, {}, {"model": "org/model"}),
        (PIPED, {}, {"model": "/m", "port": 81}),
        (
            SHELL_FORM,
            {},
            {"model": "/store/models/base", "port": 9000, "max_loras": 2, "served_names": ("tiny llama",)},
        ),
        (PRODUCTION_STACK, {}, {"model": "meta-llama/Llama-3.1-8B-Instruct", "max_lora_rank": 32}),
        (PRODUCTION_STACK, {}, {"api_key_secret": ("vllm", "api-key")}),
    ],
)
def test_facts_of_a_template(made: dict[str, Any], pod: dict[str, Any], expected: dict[str, Any]) -> None:
    facts = base_facts(deployment(made, **pod))
    assert {name: getattr(facts, name) for name in expected} == expected
    assert facts.problems == ()


def test_flags_may_be_written_with_underscores_and_equals_signs() -> None:
    annotated = deployment(KSERVE, annotations={"adapterrelease.dev/store-volume": "store"}, **TWO_CLAIMS)
    facts = base_facts(annotated)
    assert (facts.model, facts.port, facts.max_lora_rank, facts.problems) == ("/mnt/models/llama", 8080, 64, ())


def test_the_container_is_found_among_others() -> None:
    assert base_facts(deployment(SIDECAR, container(name="server"))).container == "server"


def test_an_annotation_names_the_container() -> None:
    one, two = container(name="one"), container(name="two", command=["vllm", "serve", "/store/other"])
    named = deployment(one, two, annotations={"adapterrelease.dev/container": "two"})
    assert base_facts(named).model == "/store/other"


def test_no_replicas_given_means_one_and_zero_means_zero() -> None:
    assert base_facts(deployment(replicas=None)).replicas == 1
    assert base_facts(deployment(replicas=0)).replicas == 0


@pytest.mark.parametrize(
    ("made", "pod", "reason", "says"),
    [
        (SIDECAR, {}, "NoVllmContainer", "name it in the annotation adapterrelease.dev/container"),
        (container(args=["--config", "/etc/vllm.yaml"], command=["vllm", "serve"]), {}, "NoVllmContainer", "--model"),
        (container(args=[]), {}, "LoraNotEnabled", "add --enable-lora"),
        (container(env=[]), {}, "RuntimeUpdatingNotAllowed", "set VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"),
        (container(env=[UPDATING | {"value": "0"}]), {}, "RuntimeUpdatingNotAllowed", "at run time"),
        (container(volumeMounts=[]), {}, "StoreNotMounted", "mount a ReadWriteMany persistentVolumeClaim"),
        (KSERVE, TWO_CLAIMS, "SeveralStores", "(store, models): say which is the store"),
    ],
)
def test_what_keeps_a_deployment_from_being_a_base(
    made: dict[str, Any], pod: dict[str, Any], reason: str, says: str
) -> None:
    problems = base_facts(deployment(made, **pod)).problems
    assert [p.reason for p in problems] == [reason]
    assert says in problems[0].message


def test_an_annotation_that_names_no_claim_is_told() -> None:
    wrong = deployment(annotations={"adapterrelease.dev/store-volume": "nope"})
    (problem,) = base_facts(wrong).problems
    assert (problem.reason, "nope" in problem.message) == ("StoreNotMounted", True)


def test_updating_that_comes_from_elsewhere_is_believed() -> None:
    somewhere = container(env=[], envFrom=[{"configMapRef": {"name": "vllm"}}])
    assert base_facts(deployment(somewhere)).problems == ()


def test_a_claim_mounted_twice_is_one_store_at_its_shortest_path() -> None:
    twice = container(volumeMounts=[{"name": "store", "mountPath": "/store/deep", "subPath": "x"}, STORE_MOUNT])
    assert base_facts(deployment(twice)).store_path == "/store"


@pytest.mark.parametrize(
    "made",
    [
        container(args=["--enable-lora", "--api-key", "s3cret"]),
        container(env=[UPDATING, {"name": "VLLM_API_KEY", "value": "s3cret"}]),
        container(args=["--enable-lora", "--api-key", "$(KEY)"], env=[UPDATING, {"name": "KEY", "value": "s3cret"}]),
    ],
)
def test_a_key_in_the_template_itself_is_used(made: dict[str, Any]) -> None:
    facts = base_facts(deployment(made))
    assert plain_api_key(facts) == "s3cret" and facts.api_key_is_plain
    assert "s3cret" not in repr(facts)


def test_a_key_argument_that_refers_to_a_secret_is_found() -> None:
    made = container(
        args=["--enable-lora", "--api-key", "$(KEY)"],
        env=[UPDATING, {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "vllm", "key": "k"}}}],
    )
    facts = base_facts(deployment(made))
    assert (facts.api_key_secret, facts.api_key_is_plain) == (("vllm", "k"), False)
    assert not base_facts(deployment()).api_key_is_plain
