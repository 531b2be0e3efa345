"""The client against a server that answers well, badly, late and not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client.configuration import Configuration

from controller.errors import (
    AlreadyExists,
    ApiError,
    BadRequest,
    Conflict,
    ConnectionLost,
    Forbidden,
    Gone,
    Invalid,
    LeadershipLost,
    NotFound,
    PermanentError,
    ServerError,
    TooManyRequests,
    TransientError,
    Unauthorized,
)
from controller.runtime.client import KubeClient
from controller.runtime.metrics import REGISTRY
from controller.runtime.resources import CONFIGMAPS, DEPLOYMENTS, LEASES, PODS, Key, Resource, key_of
from controller.runtime.transport import Transport
from tests.fakes import faults
from tests.fakes.apiserver import ApiServer

SETTINGS = CONFIGMAPS.path("llm", "settings")


def configmap(name: str = "settings", **data: str) -> dict[str, object]:
    metadata = {"name": name, "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def test_paths_of_namespaced_and_cluster_scoped_resources() -> None:
    nodes = Resource("", "v1", "nodes", "Node", namespaced=False)
    assert PODS.path() == "/api/v1/pods"
    assert PODS.path("llm", "a", "status") == "/api/v1/namespaces/llm/pods/a/status"
    assert DEPLOYMENTS.path("llm") == "/apis/apps/v1/namespaces/llm/deployments"
    assert nodes.path(name="n/1") == "/api/v1/nodes/n%2F1"
    assert (DEPLOYMENTS.api_version, PODS.api_version) == ("apps/v1", "v1")
    with pytest.raises(ValueError, match="needs a namespace"):
        PODS.path(name="a")


def test_keys_are_namespace_and_name() -> None:
    assert str(key_of({"metadata": {"namespace": "llm", "name": "a"}})) == "llm/a"
    assert str(Key("", "node")) == "node"


def test_an_object_is_created_read_changed_and_deleted(client: KubeClient) -> None:
    made = client.create(CONFIGMAPS.path("llm"), configmap(a="1"))
    assert client.get(SETTINGS) == made
    patched = client.merge_patch(SETTINGS, {"data": {"a": None, "b": "2"}})
    assert patched["data"] == {"b": "2"}
    replaced = client.replace(SETTINGS, {**patched, "data": {"c": "3"}})
    assert replaced["data"] == {"c": "3"}
    with pytest.raises(Conflict, match="has been modified"):
        client.replace(SETTINGS, {**made, "data": {}})
    with pytest.raises(Conflict):
        client.delete(SETTINGS, uid="another")
    client.delete(SETTINGS, uid=made["metadata"]["uid"])
    with pytest.raises(NotFound) as caught:
        client.get(SETTINGS)
    assert (caught.value.status, caught.value.reason) == (404, "NotFound")
    assert caught.value.details["name"] == "settings"


def test_create_says_when_it_exists(client: KubeClient) -> None:
    client.create(CONFIGMAPS.path("llm"), configmap())
    with pytest.raises(AlreadyExists):
        client.create(CONFIGMAPS.path("llm"), configmap())


def test_apply_creates_updates_and_gives_up_what_it_no_longer_names(api: ApiServer, client: KubeClient) -> None:
    client.apply(SETTINGS, configmap(a="1", b="2"), "tests")
    applied = client.apply(SETTINGS, configmap(b="3"), "tests")
    assert applied["data"] == {"b": "3"}
    request = api.requests[-1]
    assert request.content_type == "application/apply-patch+yaml"
    assert request.query == {"fieldManager": "tests", "force": "true"}


def test_list_reads_all_pages_and_completes_the_items(api: ApiServer, client: KubeClient) -> None:
    for number in range(7):
        api.create(CONFIGMAPS.path("llm"), configmap(f"c{number}"))
    items, version = client.list(CONFIGMAPS.path("llm"), limit=3)
    assert [item["metadata"]["name"] for item in items] == [f"c{number}" for number in range(7)]
    assert {(item["apiVersion"], item["kind"]) for item in items} == {("v1", "ConfigMap")}
    assert version == str(api.etcd.revision)
    assert api.count("GET") == 3


def test_list_starts_again_in_one_piece_when_a_page_has_expired(api: ApiServer, client: KubeClient) -> None:
    for number in range(4):
        api.create(CONFIGMAPS.path("llm"), configmap(f"c{number}"))
    api.inject(faults.status(410, "Expired"), times=1, skip=1)
    items, _ = client.list(CONFIGMAPS.path(), limit=2)
    assert len(items) == 4
    assert ["limit" in request.query for request in api.requests] == [True, True, False]


def test_list_selects_by_label_and_field(api: ApiServer, client: KubeClient) -> None:
    for name in ("a", "b", "c"):
        api.create(CONFIGMAPS.path("llm"), configmap(name))
    chosen, _ = client.list(CONFIGMAPS.path(), label_selector="app in (a, b),app!=a")
    assert [item["metadata"]["name"] for item in chosen] == ["b"]
    named, _ = client.list(CONFIGMAPS.path(), field_selector="metadata.name=c")
    assert [item["metadata"]["name"] for item in named] == ["c"]


@pytest.mark.parametrize(
    ("code", "reason", "kind", "transient"),
    [
        (400, "BadRequest", BadRequest, False),
        (401, "Unauthorized", Unauthorized, True),
        (403, "Forbidden", Forbidden, False),
        (404, "NotFound", NotFound, False),
        (409, "Conflict", Conflict, True),
        (409, "AlreadyExists", AlreadyExists, False),
        (410, "Expired", Gone, True),
        (422, "Invalid", Invalid, False),
        (429, "TooManyRequests", TooManyRequests, True),
        (500, "InternalError", ServerError, True),
        (504, "Timeout", ServerError, True),
    ],
)
def test_each_status_is_its_own_error_and_is_asked_once(
    api: ApiServer, client: KubeClient, code: int, reason: str, kind: type[ApiError], transient: bool
) -> None:
    api.inject(faults.status(code, reason, retry_after=7))
    with pytest.raises(kind, match="made by the test") as caught:
        client.get(SETTINGS)
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.reason, caught.value.retry_after) == (code, reason, 7.0)
    assert isinstance(caught.value, TransientError) is transient
    assert isinstance(caught.value, PermanentError) is not transient
    assert len(api.requests) == 1


def test_an_answer_of_a_proxy_is_an_error_too(api: ApiServer, client: KubeClient) -> None:
    api.inject(faults.plain(503, "upstream connect error"))
    with pytest.raises(ServerError, match="upstream connect error"):
        client.get(SETTINGS)


@pytest.mark.parametrize("fault", [faults.hang, faults.cut, faults.drip])
def test_a_server_that_does_not_answer_is_given_up(api: ApiServer, client: KubeClient, fault: faults.Fault) -> None:
    api.inject(fault)
    with pytest.raises(ConnectionLost) as caught:
        client.get(SETTINGS, timeout=0.2)
    assert caught.value.status == 0
    api.wait_for_requests(1)  # the fake server may be slower than our patience
    assert len(api.requests) == 1


def test_a_server_that_is_gone_is_found_again(api: ApiServer, client: KubeClient) -> None:
    client.create(CONFIGMAPS.path("llm"), configmap())
    api.kill()
    with pytest.raises(ConnectionLost):
        client.get(SETTINGS)
    api.revive()
    assert client.get(SETTINGS)["kind"] == "ConfigMap"


def test_a_fenced_client_writes_only_while_leading(api: ApiServer, client: KubeClient) -> None:
    left = [5.0]
    fenced = client.fenced(lambda: left[0])
    fenced.create(CONFIGMAPS.path("llm"), configmap())
    left[0] = 0.0
    before = len(api.requests)
    writes: list[Callable[[], object]] = [
        lambda: fenced.create(CONFIGMAPS.path("llm"), configmap("other")),
        lambda: fenced.apply(SETTINGS, configmap(), "tests"),
        lambda: fenced.merge_patch(SETTINGS, {}),
        lambda: fenced.replace(SETTINGS, configmap()),
        lambda: fenced.delete(SETTINGS),
    ]
    for write in writes:
        with pytest.raises(LeadershipLost):
            write()
    assert len(api.requests) == before
    assert fenced.get(SETTINGS)


def test_a_fenced_write_waits_no_longer_than_the_lease(api: ApiServer, client: KubeClient) -> None:
    api.inject(faults.hang)
    with pytest.raises(ConnectionLost):
        client.fenced(lambda: 0.1).create(LEASES.path("llm"), configmap())


def test_requests_are_counted_by_code(api: ApiServer, client: KubeClient) -> None:
    labels = {"method": "GET", "host": client.host}
    with pytest.raises(NotFound):
        client.get(SETTINGS)
    api.kill()
    with pytest.raises(ConnectionLost):
        client.get(SETTINGS)
    for code in ("404", "<error>"):
        assert REGISTRY.get_sample_value("rest_client_requests_total", {**labels, "code": code}) == 1


def test_a_token_that_rotates_is_read_again(api: ApiServer) -> None:
    tokens = iter(["one", "two"])

    def refresh(configuration: Any) -> None:
        configuration.api_key["BearerToken"] = "bearer " + next(tokens) + "\n"

    configuration: Any = Configuration()
    configuration.host = api.url
    configuration.refresh_api_key_hook = refresh
    client = KubeClient(Transport(configuration, "tests"))
    for _ in range(2):
        client.list(PODS.path())
    with pytest.raises(StopIteration):
        client.list(PODS.path())
    client.close()
    assert [request.token for request in api.requests] == ["bearer one", "bearer two"]


def test_credentials_that_cannot_be_read_are_transient(api: ApiServer) -> None:
    def refresh(configuration: Any) -> None:
        raise FileNotFoundError("token")

    configuration: Any = Configuration()
    configuration.host = api.url
    configuration.refresh_api_key_hook = refresh
    with pytest.raises(ConnectionLost) as caught:
        KubeClient(Transport(configuration, "tests")).list(PODS.path())
    assert caught.value.reason == "CredentialsLost"
    assert api.requests == []


def test_a_kubeconfig_gives_server_token_and_namespace(api: ApiServer, tmp_path: Path) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "clusters": [{"name": "c", "cluster": {"server": api.url}}],
        "users": [{"name": "u", "user": {"token": "letmein"}}],
        "contexts": [
            {"name": "one", "context": {"cluster": "c", "user": "u"}},
            {"name": "two", "context": {"cluster": "c", "user": "u", "namespace": "llm"}},
        ],
    }
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))
    for context, namespace in ((None, "default"), ("two", "llm")):
        client = KubeClient.from_config(str(path), context)
        client.list(PODS.path())
        client.close()
        assert client.namespace == namespace
        assert api.requests[-1].token == "Bearer letmein"


def test_no_cluster_configuration_is_a_permanent_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="KUBECONFIG") as caught:
        KubeClient.from_config(str(tmp_path / "none"))
    assert caught.value.reason == "KubeconfigInvalid"
