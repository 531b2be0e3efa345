"""One run: a cluster, the versions' texts, and one event after another, each with clients of its own."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bench.no_request_lost.events import BOT, Event
from bench.no_request_lost.raw import Raw
from bench.no_request_lost.records import Mark, Record
from bench.no_request_lost.scene import Scene, Versions, spec
from bench.no_request_lost.traffic import Client, Traffic, ship
from bench.no_request_lost.watcher import Watcher
from tests.e2e.cluster import NAMESPACE, Cluster
from tests.e2e.release import Release
from tests.e2e.sandbox import end_shared_cluster, shared_cluster

NotReached = pytest.fail.Exception  # what Cluster.until raises
_REFERENCE = "reference"
_UNEVEN = 1.3  # rows that share a run do not get the same share of its requests


class Run:
    def __init__(self, clients: Sequence[Client], requests: int, stream_tokens: int) -> None:
        self._clients = clients
        self._requests = requests
        self._stream_tokens = stream_tokens
        self.interrupted = False

    def __enter__(self) -> Run:
        try:
            self._cluster = shared_cluster()
            self._versions = _learned(self._cluster, self._stream_tokens)
        except BaseException:
            end_shared_cluster()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        end_shared_cluster()

    def event(self, event: Event) -> Raw:
        scene = Scene(self._cluster, Release(self._cluster, event.model), self._versions)
        trouble, records, marks = "", list[Record](), list[Mark]()
        try:
            event.prepare(scene)
            with Watcher(self._cluster.client, NAMESPACE, event.model) as watcher:
                scene.watcher = watcher
                records, trouble = self._ask_during(event, scene)
                marks = watcher.marks()
        except NotReached as error:
            trouble = str(error)
        return Raw(event.name, event.model, tuple(marks), tuple(records), self._versions.questions, trouble)

    def _ask_during(self, event: Event, scene: Scene) -> tuple[list[Record], str]:
        trouble, turn = "", 0
        wanted = self._requests * (len(event.rows) if len(event.rows) == 1 else len(event.rows) * _UNEVEN)
        ship(self._cluster, self._versions.for_clients())
        with Traffic(self._cluster, event.model, self._clients) as traffic:
            try:
                if event.starts_by_itself:
                    event.turn(scene, 0)
                    turn = 1
                traffic.go()
                self._cluster.until("every client asks", lambda: min(traffic.done().values()) > 0, 60)
                while (turn < event.turns) if event.turns else (min(traffic.done().values()) < wanted):
                    event.turn(scene, turn)
                    turn += 1
                    print(f"  turn {turn}: {traffic.done()}", flush=True)
            except NotReached as error:
                trouble = str(error)
            except KeyboardInterrupt:
                trouble, self.interrupted = "interrupted", True
            return traffic.stop(), trouble


def _learned(cluster: Cluster, stream_tokens: int) -> Versions:
    """v1 and v2 both serve, each as a release of its own."""
    bot, reference = Release(cluster, BOT), Release(cluster, _REFERENCE)
    bot.set_spec(spec("v1"))
    reference.set_spec(spec("v2"))
    for release in (bot, reference):
        release.until("AdapterLoaded", "True", "Loaded")
        release.until_answered("queue=")
    versions = Versions(cluster, stream_tokens)
    versions.learn({"v1": BOT, "v2": _REFERENCE})
    print({kind: len(found) for kind, found in versions.for_clients().items()}, "questions tell v1 from v2", flush=True)
    reference.delete()
    return versions
