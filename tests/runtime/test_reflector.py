"""The informer against every way in which a server fails: few requests, and the truth in the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from controller.runtime.backoff import Backoff
from controller.runtime.client import KubeClient
from controller.runtime.reflector import Informer
from controller.runtime.resources import LEASES, PODS, Object
from tests.fakes import faults
from tests.fakes.apiserver import ApiServer
from tests.runtime.waiting import FakeClock, Recorder

pytestmark = pytest.mark.slow

POD_PATH = PODS.path("llm")


class CountingBackoff(Backoff):
    """Quick, and notes each delay it gave."""

    def __init__(self) -> None:
        super().__init__(initial=0.01, maximum=0.1, jitter=0.0)
        self.delays = Recorder()

    def next(self) -> float:
        delay = super().next()
        self.delays(delay)
        return delay


class Watched:
    """An informer on pods and what its handler was told, as (verb, name, label)."""

    def __init__(self, client: KubeClient, **options: Any) -> None:
        self.backoff = CountingBackoff()
        settings: dict[str, Any] = {"watch_timeout": 1.0, "read_slack": 0.3, "backoff": self.backoff}
        self.informer = Informer(client, PODS, "llm", **{**settings, **options})
        self.seen = Recorder()
        self.informer.add_handler(self._note)

    def _note(self, old: Object | None, new: Object | None) -> None:
        verb = "added" if old is None else "deleted" if new is None else "modified"
        obj = new if new is not None else old
        assert obj is not None
        self.seen((verb, obj["metadata"]["name"], (obj["metadata"].get("labels") or {}).get("v", "")))

    def wait_for(self, *note: str) -> None:
        self.seen.wait_for(lambda notes: note in notes)

    def names(self) -> list[str]:
        return sorted(pod["metadata"]["name"] for pod in self.informer.indexer.list())


@contextmanager
def watching(client: KubeClient, **options: Any) -> Iterator[Watched]:
    watched = Watched(client, **options)
    watched.informer.start()
    try:
        yield watched
    finally:
        assert watched.informer.stop()


def add(api: ApiServer, name: str, **labels: str) -> None:
    api.create(f"{POD_PATH}/{name}", {"metadata": {"name": name, "labels": labels}, "spec": {}})


def label(api: ApiServer, name: str, value: str) -> None:
    api.patch(f"{POD_PATH}/{name}", {"metadata": {"labels": {"v": value}}})


def test_it_lists_then_follows_what_changes(api: ApiServer, client: KubeClient) -> None:
    add(api, "a", v="1")
    with watching(client) as pods:
        assert pods.informer.wait_for_sync(20)
        assert pods.informer.has_synced
        pods.wait_for("added", "a", "1")
        label(api, "a", "2")
        pods.wait_for("modified", "a", "2")
        add(api, "b")
        pods.wait_for("added", "b", "")
        api.delete(f"{POD_PATH}/a")
        pods.wait_for("deleted", "a", "2")
        assert pods.names() == ["b"]
        assert api.count(watch=False) == 1


def test_it_keeps_to_its_namespace_and_selector(api: ApiServer, client: KubeClient) -> None:
    with watching(client, label_selector="v=1") as pods:
        assert pods.informer.wait_for_sync(20)
        api.create("/api/v1/namespaces/other/pods", {"metadata": {"name": "x", "labels": {"v": "1"}}})
        add(api, "no", v="2")
        add(api, "yes", v="1")
        pods.wait_for("added", "yes", "1")
        label(api, "yes", "2")
        pods.wait_for("deleted", "yes", "1")
        assert {name for _, name, _ in pods.seen.notes} == {"yes"}


def test_the_indexer_finds_by_name_namespace_and_labels(api: ApiServer, client: KubeClient) -> None:
    add(api, "a", v="1", app="x")
    add(api, "b", v="2", app="x")
    with watching(client) as pods:
        assert pods.informer.wait_for_sync(20)
        indexer = pods.informer.indexer
        found = indexer.get("llm", "a")
        assert found is not None
        assert (found["kind"], found["apiVersion"]) == ("Pod", "v1")
        assert indexer.get("llm", "c") is None
        assert indexer.get("other", "a") is None
        assert len(indexer.list("llm")) == 2
        assert indexer.list("other") == []
        assert [pod["metadata"]["name"] for pod in indexer.list(selector={"app": "x", "v": "2"})] == ["b"]


def test_a_late_handler_is_told_what_is_there(api: ApiServer, client: KubeClient) -> None:
    add(api, "a")
    late = Recorder()
    with watching(client) as pods:
        pods.wait_for("added", "a", "")
        pods.informer.add_handler(late)
    assert [(old, new["metadata"]["name"]) for old, new in late.notes] == [(None, "a")]


def test_a_handler_that_raises_does_not_stop_the_others(api: ApiServer, client: KubeClient) -> None:
    pods = Watched(client)

    def broken(old: Object | None, new: Object | None) -> None:
        raise RuntimeError("broken")

    pods.informer._handlers.insert(0, broken)
    pods.informer.start()
    add(api, "a")
    add(api, "b")
    pods.wait_for("added", "b", "")
    assert pods.informer.stop()


def test_a_watch_that_ends_in_peace_is_resumed_where_it_was(api: ApiServer, client: KubeClient) -> None:
    with watching(client) as pods:
        assert pods.informer.wait_for_sync(20)
        add(api, "a")
        pods.wait_for("added", "a", "")
        api.wait_for_requests(3, watch=True)
        add(api, "b")
        pods.wait_for("added", "b", "")
        assert api.count(watch=False) == 1
    versions = [int(request.query["resourceVersion"]) for request in api.requests if request.watch]
    assert versions == sorted(versions)
    assert versions[-1] > versions[0]


def test_a_bookmark_moves_the_version_past_a_compaction(api: ApiServer, client: KubeClient) -> None:
    with watching(client) as pods:
        api.wait_for_requests(1, watch=True)
        api.create(f"{LEASES.path('llm')}/other", {"metadata": {"name": "other"}})
        at = api.etcd.revision

        def resumed() -> bool:
            watches = [request for request in api.requests if request.watch]
            return any(int(request.query["resourceVersion"]) >= at for request in watches)

        pods.backoff.delays.wait_for(lambda _: resumed())
        api.wait_for_requests(2, watch=True)
        api.etcd.compact()
        add(api, "a")
        pods.wait_for("added", "a", "")
    assert all(request.query["allowWatchBookmarks"] == "true" for request in api.requests if request.watch)


def test_410_is_answered_with_a_new_list(api: ApiServer, client: KubeClient) -> None:
    add(api, "a")
    add(api, "b", v="1")
    with watching(client) as pods:
        pods.wait_for("added", "b", "1")
        api.frozen = True  # the watch says nothing while the world moves on
        api.delete(f"{POD_PATH}/a")
        label(api, "b", "2")
        add(api, "c")
        api.etcd.compact()
        api.frozen = False
        pods.wait_for("deleted", "a", "")
        pods.wait_for("modified", "b", "2")
        pods.wait_for("added", "c", "")
        assert pods.names() == ["b", "c"]
        assert api.count(watch=False) == 2


WATCH_FAULTS: list[Callable[..., Any]] = [
    faults.half_open,
    faults.close_at_once,
    faults.break_off,
    faults.cut,
    faults.hang,
    faults.error_event(410, "Expired"),
    faults.error_event(500, "InternalError"),
    faults.status(410, "Expired"),
    faults.status(500, "InternalError"),
    faults.status(403, "Forbidden"),
    faults.plain(502, "bad gateway"),
]


@pytest.mark.parametrize("fault", WATCH_FAULTS)
def test_a_broken_watch_costs_few_requests_and_converges(
    api: ApiServer, client: KubeClient, fault: faults.Fault
) -> None:
    api.inject(fault, watch=True, times=2)
    with watching(client) as pods:
        api.wait_for_requests(1, watch=True)
        add(api, "a")
        api.wait_for_requests(3, watch=True)  # two broken ones and one that works
        add(api, "b")
        pods.wait_for("added", "b", "")
        assert pods.names() == ["a", "b"]
        assert_spaced(api, pods)


@pytest.mark.parametrize(
    ("fault", "lists"),
    [
        (faults.cut, 1),
        (faults.break_off, 1),
        (faults.status(429, "TooManyRequests"), 1),
        (faults.status(504, "Timeout"), 3),
        (faults.error_event(500, "InternalError"), 3),
        (faults.status(410, "Expired"), 3),
        (faults.status(403, "Forbidden"), 3),
    ],
)
def test_a_watch_that_failed_is_resumed_where_it_was_if_that_still_exists(
    api: ApiServer, client: KubeClient, fault: faults.Fault, lists: int
) -> None:
    """A list of everything, from each controller at once, is what a server in trouble needs least."""
    api.inject(fault, watch=True, times=2)
    with watching(client) as pods:
        api.wait_for_requests(3, watch=True)
        add(api, "a")
        pods.wait_for("added", "a", "")
        assert api.count(watch=False) == lists


@pytest.mark.parametrize("fault", [faults.cut, faults.status(500, "InternalError"), faults.status(403, "Forbidden")])
def test_a_broken_list_costs_few_requests_and_converges(
    api: ApiServer, client: KubeClient, fault: faults.Fault
) -> None:
    add(api, "a")
    api.inject(fault, watch=False, times=4)
    with watching(client) as pods:
        api.wait_for_requests(4, watch=False)
        assert not pods.informer.has_synced
        pods.wait_for("added", "a", "")
        assert_spaced(api, pods)
        assert pods.backoff.delays.notes[:4] == [0.01, 0.02, 0.04, 0.08]


def test_the_server_says_how_long_to_wait(api: ApiServer, client: KubeClient) -> None:
    add(api, "a")
    api.inject(faults.status(429, "TooManyRequests", retry_after=1), watch=False, times=1)
    waits = Recorder()
    with watching(client, wait=waits) as pods:
        pods.wait_for("added", "a", "")
    assert waits.notes[0] == 1


def test_a_killed_server_is_not_stormed_and_found_again(api: ApiServer, client: KubeClient) -> None:
    add(api, "a")
    with watching(client) as pods:
        pods.wait_for("added", "a", "")
        api.kill()
        pods.backoff.delays.wait_for(lambda delays: len(delays) >= 5)
        api.delete(f"{POD_PATH}/a")
        add(api, "b")
        api.revive()
        pods.wait_for("added", "b", "")
        assert pods.names() == ["b"]
        assert api.count(watch=False) == 1
        assert_spaced(api, pods)
        grown = pods.backoff.delays.notes[:4]
        assert grown == sorted(grown)


def test_a_hung_server_is_noticed_and_found_again(api: ApiServer, client: KubeClient) -> None:
    with watching(client) as pods:
        assert pods.informer.wait_for_sync(20)
        api.wait_for_requests(1, watch=True)
        api.hang()
        pods.backoff.delays.wait_for(lambda delays: len(delays) >= 1)  # the silence was noticed
        add(api, "a")
        api.heal()
        pods.wait_for("added", "a", "")
        assert_spaced(api, pods)


def test_silence_shows_in_the_time_of_the_last_sync(api: ApiServer, client: KubeClient) -> None:
    clock = FakeClock()
    pods = Watched(client, clock=clock, watch_timeout=60)
    assert pods.informer.last_sync is None
    assert pods.informer.seconds_since_sync() == float("inf")
    api.bookmark_interval = 3600
    pods.informer.start()
    api.wait_for_requests(1, watch=True)
    clock.advance(90)
    assert pods.informer.seconds_since_sync() >= 90
    add(api, "a")
    pods.wait_for("added", "a", "")
    assert pods.informer.seconds_since_sync() == 0
    assert pods.informer.stop()


def test_stop_ends_a_quiet_watch_at_once_and_start_after_stop_does_nothing(api: ApiServer, client: KubeClient) -> None:
    pods = Watched(client, watch_timeout=3600)
    pods.informer.start()
    api.wait_for_requests(1, watch=True)
    assert pods.informer.stop(timeout=20)
    unused = Watched(client)
    assert unused.informer.stop()
    unused.informer.start()
    assert not unused.informer._thread.is_alive()


def test_managed_fields_are_not_kept(api: ApiServer, client: KubeClient) -> None:
    api.create(f"{POD_PATH}/a", {"metadata": {"name": "a", "managedFields": [{"manager": "x"}]}})
    with watching(client) as pods:
        pods.wait_for("added", "a", "")
        found = pods.informer.indexer.get("llm", "a")
        assert found is not None
        assert "managedFields" not in found["metadata"]


def test_the_default_backoff_tries_at_most_four_times_in_five_seconds() -> None:
    """The client library's informer: 1,741 times."""
    backoff = Backoff(uniform=lambda low, high: low)
    at, attempts = 0.0, 1
    while (at := at + backoff.next()) <= 5.0:
        attempts += 1
    assert attempts <= 4
    assert [round(Backoff().next(), 9) >= 0.8 for _ in range(5)] == [True] * 5
    for _ in range(20):
        assert backoff.next() <= 30.0
    backoff.reset()
    assert backoff.next() == 0.8


def assert_spaced(api: ApiServer, pods: Watched) -> None:
    """Each attempt is one list and one watch at most, and all but the first come after a delay."""
    assert len(api.requests) <= 2 * (len(pods.backoff.delays.notes) + 1)
