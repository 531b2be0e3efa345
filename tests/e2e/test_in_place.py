"""A base with the engine plugin: updates without a gap on one replica, restarts without the controller, shut doors.

And the same base without it: what happens then, and that it is said.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from controller.reconcile.pods import condition
from controller.runtime.resources import DEPLOYMENTS, PODS, SERVICES
from tests.e2e.cluster import NAMESPACE, SYSTEM, Cluster, pod_url
from tests.e2e.load import Load
from tests.e2e.release import ANSWER, QUESTION, Release, spec_of
from tests.e2e.sandbox import SANDBOX

pytestmark = pytest.mark.e2e

Json = dict[str, Any]
PLAIN = "plain-llama"


@pytest.fixture(scope="module")
def two_afterwards(cluster: Cluster) -> Iterator[None]:
    """Other tests expect two base pods."""
    yield
    cluster.scale_base(2)
    cluster.until_base_has(2)


@pytest.fixture
def single(bot: Release, two_afterwards: None) -> Release:
    """The adapter v1 serves on one base pod."""
    bot.serve_v1_on(1)
    return bot


@pytest.fixture
def without_controller(cluster: Cluster) -> Iterator[None]:
    """It is away from here on, and comes back afterwards."""
    where = ("-n", SYSTEM, "deployment/adapter-release-controller")
    cluster.kubectl("scale", *where, "--replicas=0")
    try:
        yield
    finally:
        cluster.kubectl("scale", *where, "--replicas=2")
        cluster.kubectl("rollout", "status", *where, "--timeout=120s")


def test_an_update_of_the_only_server_loses_no_request(single: Release) -> None:
    cluster = single.cluster
    service = cluster.client.get(SERVICES.path(NAMESPACE, single.name))
    with Load(cluster, single.name, rate=4) as load:
        single.set_spec(spec_of(source="support-bot/v2"))
        single.until("Ready", "True", "Serving")
        load.assert_nothing_failed()
    assert single.condition("GapFree")["reason"] == "EnginePlugin"
    assert single.status["history"][0]["version"] == "v2"
    (pod,) = cluster.base_pods()
    assert cluster.models_in(pod)[single.name] == single.status["adapter"]["path"]
    assert cluster.client.get(SERVICES.path(NAMESPACE, single.name))["spec"] == service["spec"]


def test_a_stream_ends_on_the_version_that_it_began_with(single: Release) -> None:
    """It is open while the name flips, and the old version is unloaded only after its end."""
    cluster = single.cluster
    (pod,) = cluster.base_pods()
    old = single.status["adapter"]["digest"].removeprefix("sha256:")[:12]
    body = {
        "model": single.name,
        "prompt": QUESTION,
        "max_tokens": 200,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
    }
    with cluster.http.stream("POST", f"{cluster.service_url(single.name)}/v1/completions", json=body) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ")
        assert answer.headers["x-adapterrelease-version"] == "v1"
        single.set_spec(spec_of(source="support-bot/v2"))
        events = [next(lines), *(line for line in lines if line)]
    assert events[-1] == "data: [DONE]"
    assert all(json.loads(e.removeprefix("data: "))["model"] == single.name for e in events[:-1] if e)
    single.until("Ready", "True", "Serving")
    cluster.until("the old version is unloaded", lambda: not _has(cluster, pod, f"{single.name}@{old}"), 60)


def _has(cluster: Cluster, pod: Json, name: str) -> bool:
    answer = cluster.http.get(f"{pod_url(pod)}/v1/models", headers=cluster.token()).raise_for_status()
    return any(card["id"] == name for card in answer.json()["data"])


def test_the_answer_says_which_version_gave_it(single: Release) -> None:
    cluster = single.cluster
    body = {"model": single.name, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
    answer = cluster.http.post(f"{cluster.service_url(single.name)}/v1/completions", json=body).raise_for_status()
    assert answer.json()["model"] == single.name
    assert answer.headers["x-adapterrelease-version"] == single.status["adapter"]["version"]
    digest = single.status["adapter"]["digest"].removeprefix("sha256:")
    assert answer.headers["x-adapterrelease-backend"] == f"adapter-{digest[:12]}"


def test_the_doors_are_shut_without_the_token(single: Release) -> None:
    cluster = single.cluster
    (pod,) = cluster.base_pods()
    before = cluster.models_in(pod)
    load = {"lora_name": "stranger", "lora_path": single.status["adapter"]["path"]}
    for path in (
        "/v1/load_lora_adapter",
        "/v1//load_lora_adapter",
        "/adapters",
        "/invocations",
        "/adapterrelease/v1/state",
    ):
        for headers in ({}, {"X-Adapterrelease-Token": "guessed"}):
            answer = cluster.http.post(f"{pod_url(pod)}{path}", json=load, headers=headers)
            assert answer.status_code in (401, 403), f"{path}: {answer.status_code}"
    assert cluster.models_in(pod) == before


@pytest.mark.usefixtures("without_controller")
def test_a_server_that_restarts_without_the_controller_never_answers_404(single: Release) -> None:
    cluster = single.cluster
    (pod,) = cluster.base_pods()
    name = pod["metadata"]["name"]

    def is_back() -> bool:
        found = cluster.get(PODS, name)
        statuses = found["status"]["containerStatuses"] if found else []
        return bool(found) and condition(found, "Ready") == "True" and statuses[0]["restartCount"] > 0

    with Load(cluster, single.name, rate=4) as load:
        cluster.kill_container(pod)
        cluster.until("the server is back", is_back, 180)
        single.until_answered(ANSWER)
        causes = load.stop()["causes"]
    assert not [cause for cause in causes if cause.startswith("404")], causes
    assert cluster.models_in(pod)[single.name] == single.status["adapter"]["path"]


def test_a_base_without_the_plugin_is_updated_and_says_what_that_costs(cluster: Cluster) -> None:
    for document in yaml.safe_load_all((SANDBOX / "manifests" / "base.yaml").read_text()):
        if document["kind"] == "Deployment":
            cluster.apply(without_plugin(document))
    release = Release(cluster, "plain-bot")
    try:
        cluster.kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{PLAIN}", "--timeout=300s")
        release.set_spec(spec_of() | {"baseRef": {"name": PLAIN}})
        release.until("Ready", "True", "Serving")
        says = release.condition("GapFree")
        assert (says["status"], says["reason"]) == ("False", "NoEnginePlugin")
        assert f"adapterrelease enable {PLAIN}" in says["message"]
        release.set_spec(spec_of(source="support-bot/v2") | {"baseRef": {"name": PLAIN}})
        release.until("Ready", "True", "Serving")
        assert release.status["history"][0]["version"] == "v2"
        release.until_answered("queue=")
    finally:
        release.delete()
        cluster.client.delete(DEPLOYMENTS.path(NAMESPACE, PLAIN))


def without_plugin(deployment: Json) -> Json:
    labels = {"app.kubernetes.io/name": PLAIN}
    deployment["metadata"] |= {"name": PLAIN, "labels": labels}
    spec = deployment["spec"]
    spec["selector"], spec["template"]["metadata"] = {"matchLabels": labels}, {"labels": labels}
    pod = spec["template"]["spec"]
    pod["volumes"] = [v for v in pod["volumes"] if "projected" not in v]
    (container,) = pod["containers"]
    container["args"] = [a for a in container["args"] if not a.startswith("--middleware")]
    container["env"] = [e for e in container["env"] if e["name"] != "PYTHONPATH"]
    container["volumeMounts"] = [m for m in container["volumeMounts"] if m["name"] != "adapterrelease-engine"]
    return deployment
