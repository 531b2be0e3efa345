"""The base's pods come and go, fill up and are updated; the route reaches only those that hold the adapter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from controller.api.v1alpha1 import LOADED_LABEL_PREFIX
from controller.runtime.resources import PODS
from tests.e2e.cluster import NAMESPACE, Cluster, measured, pod_url
from tests.e2e.load import Load
from tests.e2e.release import ANSWER, Release, spec_of
from tests.e2e.sandbox import MAX_CPU_LORAS

pytestmark = pytest.mark.e2e

Json = dict[str, Any]


def names(pods: list[Json]) -> set[str]:
    return {str(p["metadata"]["name"]) for p in pods}


def holders(release: Release) -> set[str]:
    """Ready base pods that list the release's model from its digest's directory."""
    root = release.status["adapter"]["path"]
    return names([p for p in release.cluster.base_pods() if release.cluster.models_in(p).get(release.name) == root])


def until_route_is(release: Release, pods: set[str]) -> None:
    cluster = release.cluster
    cluster.until(f"the route reaches {sorted(pods)}", lambda: cluster.endpoints(release.name) == pods, 180)


def load_requests(cluster: Cluster, pod: str) -> int:
    """How often a server was asked to load."""
    return cluster.kubectl("-n", NAMESPACE, "logs", pod, "-c", "vllm").count("/v1/load_lora_adapter")


@contextmanager
def strangers(cluster: Cluster, pod: Json, path: str, leave_free: int = 0) -> Iterator[None]:
    """Adapters that somebody else has loaded, until only so many slots are free."""
    url, token = pod_url(pod), cluster.token()
    listed = len(cluster.models_in(pod)) - 1  # the base itself is listed, too
    loaded = [f"stranger-{n}" for n in range(MAX_CPU_LORAS - leave_free - listed)]
    try:
        for name in loaded:
            cluster.http.post(
                f"{url}/v1/load_lora_adapter", json={"lora_name": name, "lora_path": path}, headers=token
            ).raise_for_status()
        yield
    finally:
        for name in loaded:
            cluster.http.post(f"{url}/v1/unload_lora_adapter", json={"lora_name": name}, headers=token)


@pytest.fixture
def other(cluster: Cluster) -> Iterator[Release]:
    """A second release on the same base, not yet made."""
    release = Release(cluster, "second-bot")
    yield release
    release.delete()


def test_a_new_version_on_two_replicas_loses_no_request(experimental: Release) -> None:
    old = experimental.status["adapter"]["path"]
    with Load(experimental.cluster, experimental.name, rate=4) as load:
        experimental.set_spec(spec_of(source="support-bot/v2"))
        experimental.until("Ready", "True", "Serving")
        experimental.until("AdapterLoaded", "True", "Loaded")
        load.assert_nothing_failed()
    assert experimental.status["adapter"]["version"] == "v2"
    assert experimental.status["adapter"]["path"] != old
    assert len(holders(experimental)) == 2
    until_route_is(experimental, holders(experimental))
    assert experimental.status["history"][0]["reason"] == "AdapterUpdated"
    for pod in experimental.cluster.base_pods():  # the old one has given its slot back, staging names too
        assert len(experimental.cluster.models_in(pod)) == 2


def test_a_full_pod_stays_out_of_the_route(experimental: Release, other: Release) -> None:
    full, free = experimental.cluster.base_pods()
    asked = load_requests(experimental.cluster, full["metadata"]["name"])
    with strangers(experimental.cluster, full, experimental.status["adapter"]["path"]) as _:
        asked_by_strangers = load_requests(experimental.cluster, full["metadata"]["name"])
        assert asked_by_strangers > asked
        other.set_spec(spec_of())
        loaded = other.until("AdapterLoaded", "True", "NoFreeAdapterSlot")
        assert "1 of 2" in loaded["message"]
        until_route_is(other, names([free]))
        other.until_answered(ANSWER)  # kube-proxy follows the EndpointSlice
        assert load_requests(experimental.cluster, full["metadata"]["name"]) == asked_by_strangers
    other.until("AdapterLoaded", "True", "Loaded")
    until_route_is(other, names([full, free]))


def test_a_release_too_many_is_refused_before_a_server_is_asked(experimental: Release, other: Release) -> None:
    cluster, path = experimental.cluster, experimental.status["adapter"]["path"]
    first, second = cluster.base_pods()
    with strangers(cluster, first, path), strangers(cluster, second, path):
        asked = [load_requests(cluster, pod["metadata"]["name"]) for pod in (first, second)]
        other.set_spec(spec_of())
        ready = other.until("Ready", "False", "NoFreeAdapterSlot")
        assert "--max-cpu-loras" in ready["message"]
        assert other.status.get("serving") is None
        assert [load_requests(cluster, pod["metadata"]["name"]) for pod in (first, second)] == asked
        assert ANSWER in experimental.ask()


def test_a_new_pod_gets_traffic_once_it_holds_the_adapter(experimental: Release) -> None:
    cluster = experimental.cluster
    with Load(cluster, experimental.name, rate=4) as load:
        cluster.scale_base(3)
        pods = cluster.until_base_has(3)
        until_route_is(experimental, names(pods))
        load.assert_nothing_failed()
    assert holders(experimental) == names(pods)


def test_a_deleted_pod_leaves_the_route_and_its_successor_joins_it(experimental: Release) -> None:
    cluster = experimental.cluster
    gone, stays = cluster.base_pods()
    with Load(cluster, experimental.name, rate=4) as load:
        cluster.kubectl("-n", NAMESPACE, "delete", "pod", gone["metadata"]["name"], "--wait=false")
        until_route_is(experimental, names([stays]))
        pods = cluster.until_base_has(2)
        until_route_is(experimental, names(pods))
        load.assert_nothing_failed()
    assert gone["metadata"]["name"] not in names(pods)
    assert holders(experimental) == names(pods)


def test_a_killed_container_is_in_the_route_again_only_with_the_adapter(experimental: Release) -> None:
    """Requests that it was working on are lost with it. None is answered by a server without the adapter."""
    cluster = experimental.cluster
    killed, _ = cluster.base_pods()
    name, label = killed["metadata"]["name"], LOADED_LABEL_PREFIX + experimental.name

    def restarted() -> bool:
        pod = cluster.get(PODS, name)
        return pod is not None and pod["status"]["containerStatuses"][0]["restartCount"] > 0

    def unlabelled() -> bool:
        pod = cluster.get(PODS, name)
        return pod is not None and label not in pod["metadata"]["labels"]

    with Load(cluster, experimental.name, rate=4) as load:
        cluster.kill_container(killed)
        cluster.until("the label is off before the server is back", unlabelled, 30)
        cluster.until("the container was restarted", restarted, 60)
        pods = cluster.until_base_has(2)
        until_route_is(experimental, names(pods))
        causes = load.stop()["causes"]
    measured("requests lost with a container that was killed", sum(causes.values()))
    assert not [cause for cause in causes if cause.startswith("404")], causes
    assert holders(experimental) == names(pods)
    answers = [experimental.ask() for _ in range(20)]
    assert all(ANSWER in answer for answer in answers)


def test_the_base_itself_goes_on_answering(experimental: Release) -> None:
    """Adapters on it change nothing for its own clients."""
    cluster = experimental.cluster
    body = {"model": "tiny-llama", "prompt": "Hello", "max_tokens": 4, "temperature": 0}
    answers = {
        cluster.http.post(f"{pod_url(pod)}/v1/completions", json=body).raise_for_status().json()["choices"][0]["text"]
        for pod in cluster.base_pods()
    }
    assert len(answers) == 1
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        missing = {**body, "model": "nobody"}
        cluster.http.post(f"{pod_url(cluster.base_pods()[0])}/v1/completions", json=missing).raise_for_status()
