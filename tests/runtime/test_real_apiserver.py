"""The runtime against a real API server, over TLS, with a failing network before it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from controller.errors import AlreadyExists, Conflict, ConnectionLost, Invalid, NotFound
from controller.runtime.client import KubeClient
from controller.runtime.elector import Elector
from controller.runtime.events import EventRecorder
from controller.runtime.reflector import Informer
from controller.runtime.resources import CONFIGMAPS, EVENTS, LEASES, Resource, key_of
from controller.runtime.transport import Transport, load_configuration
from tests.fakes.proxy import FaultyProxy
from tests.runtime.test_elector import Candidate
from tests.runtime.test_reflector import CountingBackoff
from tests.runtime.waiting import PATIENCE, Recorder

pytestmark = pytest.mark.apiserver

NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)


@pytest.fixture
def real(apiserver: Path) -> Iterator[KubeClient]:
    """A client whose namespace is its own."""
    client = KubeClient.from_config(str(apiserver))
    client.namespace = f"runtime-{uuid.uuid4().hex[:8]}"
    client.create(NAMESPACES.path(), {"metadata": {"name": client.namespace}})
    yield client
    client.delete(NAMESPACES.path(name=client.namespace))
    client.close()


@pytest.fixture
def proxy(apiserver: Path) -> Iterator[FaultyProxy]:
    url = urlsplit(load_configuration(str(apiserver), None)[0].host)
    assert url.hostname and url.port
    with FaultyProxy((url.hostname, url.port)) as proxy:
        yield proxy


@pytest.fixture
def behind(apiserver: Path, proxy: FaultyProxy) -> Iterator[KubeClient]:
    """A client that reaches the server only through the proxy."""
    configuration, _ = load_configuration(str(apiserver), None)
    configuration.host = f"https://{proxy.address}"
    client = KubeClient(Transport(configuration, "tests"))
    yield client
    proxy.cut()
    client.close()


def configmap(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_every_verb_does_what_the_fake_does(real: KubeClient) -> None:
    collection, path = CONFIGMAPS.path(real.namespace), CONFIGMAPS.path(real.namespace, "a")
    made = real.create(collection, configmap("a", x="1"))
    with pytest.raises(AlreadyExists):
        real.create(collection, configmap("a"))
    with pytest.raises(Invalid) as caught:
        real.create(collection, configmap("Not A Name"))
    assert "metadata.name" in caught.value.message
    assert real.merge_patch(path, {"data": {"x": None, "y": "2"}})["data"] == {"y": "2"}
    with pytest.raises(Conflict):
        real.replace(path, {**made, "data": {"z": "3"}})
    with pytest.raises(Conflict):
        real.delete(path, uid="another")
    real.apply(CONFIGMAPS.path(real.namespace, "b"), configmap("b", x="1", y="2"), "tests")
    applied = real.apply(CONFIGMAPS.path(real.namespace, "b"), configmap("b", y="3"), "tests")
    assert applied["data"] == {"y": "3"}
    real.delete(path, uid=made["metadata"]["uid"])
    with pytest.raises(NotFound) as missing:
        real.get(path)
    assert missing.value.details["name"] == "a"


def test_a_list_comes_in_pages(real: KubeClient) -> None:
    for number in range(7):
        real.create(CONFIGMAPS.path(real.namespace), configmap(f"c{number}"))
    items, version = real.list(CONFIGMAPS.path(real.namespace), limit=3)
    names = [item["metadata"]["name"] for item in items]
    assert [name for name in names if name.startswith("c")] == [f"c{number}" for number in range(7)]
    assert {item["kind"] for item in items} == {"ConfigMap"}
    assert int(version) > 0


def test_an_informer_follows_and_stops_at_once(real: KubeClient) -> None:
    informer, seen = watching(real, real.namespace)
    assert informer.wait_for_sync(PATIENCE)
    real.create(CONFIGMAPS.path(real.namespace), configmap("a", x="1"))
    seen.wait_for(lambda notes: ("added", "a", {"x": "1"}) in notes)
    real.merge_patch(CONFIGMAPS.path(real.namespace, "a"), {"data": {"x": "2"}})
    seen.wait_for(lambda notes: ("modified", "a", {"x": "2"}) in notes)
    real.delete(CONFIGMAPS.path(real.namespace, "a"))
    seen.wait_for(lambda notes: ("deleted", "a", {"x": "2"}) in notes)
    assert informer.stop(PATIENCE)


@pytest.mark.parametrize("fault", ["freeze", "cut"])
def test_an_informer_behind_a_broken_network_converges(
    real: KubeClient, behind: KubeClient, proxy: FaultyProxy, fault: str
) -> None:
    backoff = CountingBackoff()
    informer, seen = watching(behind, real.namespace, watch_timeout=1, read_slack=0.5, backoff=backoff)
    assert informer.wait_for_sync(PATIENCE)
    attempts = len(backoff.delays.notes)
    getattr(proxy, fault)()
    real.create(CONFIGMAPS.path(real.namespace), configmap("a", x="1"))
    backoff.delays.wait_for(lambda delays: len(delays) > attempts)
    proxy.heal()
    seen.wait_for(lambda notes: ("added", "a", {"x": "1"}) in notes)
    assert informer.stop(PATIENCE)


@pytest.mark.parametrize("fault", ["freeze", "cut"])
def test_a_leader_behind_a_broken_network_stops_before_another_starts(
    real: KubeClient, behind: KubeClient, proxy: FaultyProxy, fault: str
) -> None:
    record = Recorder()
    a, b = Candidate(behind, "a", record), Candidate(real, "b", record)
    for each, client in ((a, behind), (b, real)):
        options = {"lease_duration": 2.0, "renew_deadline": 1.0, "retry_period": 0.2}
        each.elector = Elector(client, real.namespace, "controller", each.identity, **options)  # type: ignore[arg-type]
    a.start().wait_for("started")
    b.start()
    getattr(proxy, fault)()
    with pytest.raises(ConnectionLost):
        behind.get(LEASES.path(real.namespace, "controller"), timeout=0.1)
    b.wait_for("started")
    assert record.notes.index(("a", "stopped")) < record.notes.index(("b", "started"))
    lease = real.get(LEASES.path(real.namespace, "controller"))
    assert (lease["spec"]["holderIdentity"], lease["spec"]["leaseTransitions"]) == ("b", 1)
    b.stop()
    assert real.get(LEASES.path(real.namespace, "controller"))["spec"].get("holderIdentity", "") == ""
    a.stop()


def test_an_event_is_accepted_and_counts_up(real: KubeClient) -> None:
    target = real.create(CONFIGMAPS.path(real.namespace), configmap("a"))
    recorder = EventRecorder(real, "tests")
    recorder.start()
    for _ in range(3):
        recorder.event(target, "Normal", "Tested", "it works")
    assert recorder.stop(PATIENCE)
    events, _ = real.list(EVENTS.path(real.namespace), field_selector="involvedObject.name=a")
    assert [(event["reason"], event["count"]) for event in events] == [("Tested", 3)]
    assert events[0]["involvedObject"]["uid"] == target["metadata"]["uid"]


def watching(client: KubeClient, namespace: str, **options: Any) -> tuple[Informer, Recorder]:
    informer, seen = Informer(client, CONFIGMAPS, namespace, **options), Recorder()

    def note(old: Any, new: Any) -> None:
        verb = "added" if old is None else "deleted" if new is None else "modified"
        seen((verb, key_of(new or old).name, (new or old).get("data")))

    informer.add_handler(note)
    informer.start()
    return informer, seen
