"""Leader election: one leads, and has stopped before another may start, whatever the server does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from controller.errors import LeadershipLost
from controller.runtime.client import KubeClient
from controller.runtime.elector import Elector
from controller.runtime.lease import LeaseClient
from controller.runtime.metrics import REGISTRY
from controller.runtime.resources import CONFIGMAPS, LEASES
from controller.runtime.worker import Result, Workers
from controller.runtime.workqueue import WorkQueue
from tests.fakes import faults
from tests.fakes.apiserver import ApiServer
from tests.fakes.connection import Connection
from tests.runtime.waiting import PATIENCE, FakeClock, Recorder

pytestmark = pytest.mark.slow

LEASE = LEASES.path("system", "controller")
Candidates = Callable[..., "Candidate"]
SOON_LOST: dict[str, Any] = {"lease_duration": 1.5, "renew_deadline": 1.0, "retry_period": 0.2}


class Candidate:
    """An elector in a thread; notes (identity, what happened) in a record that all candidates share. A busy machine
    does not cost it the Lease, unless the test says so (SOON_LOST)."""

    def __init__(self, client: KubeClient, identity: str, record: Recorder, **options: float) -> None:
        durations: dict[str, Any] = {"lease_duration": 60, "renew_deadline": 50, "retry_period": 0.1}
        self.identity = identity
        self.record = record
        self.elector = Elector(client, "system", "controller", identity, **durations | options)
        self.result: list[bool | BaseException] = []
        self.on_started: Callable[[], None] = lambda: None
        self.on_stopped: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Candidate:
        self._thread.start()
        return self

    def _run(self) -> None:
        try:
            self.result.append(self.elector.run(self._started, self._stopped))
        except RuntimeError as error:
            self.result.append(error)
        self.record(self.identity, "ended")

    def _started(self) -> None:
        self.record(self.identity, "started")
        self.on_started()

    def _stopped(self) -> None:
        self.record(self.identity, "leading" if self.elector.still_leading() else "lost")
        self.on_stopped()
        self.record(self.identity, "stopped")

    def stop(self) -> None:
        self.elector.stop()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def wait_for(self, what: str) -> None:
        self.record.wait_for(lambda notes: (self.identity, what) in notes)


@pytest.fixture
def record() -> Recorder:
    return Recorder()


@pytest.fixture
def candidate(api: ApiServer, client: KubeClient, record: Recorder) -> Iterator[Candidates]:
    made: list[Candidate] = []

    def make(identity: str, **options: float) -> Candidate:
        made.append(Candidate(client, identity, record, **options))
        return made[-1]

    yield make
    api.heal()
    for each in made:
        each.elector.stop()
    for each in made:
        if each._thread.ident is not None:
            each.stop()


def spec(api: ApiServer) -> dict[str, object]:
    found: dict[str, object] = api.get(LEASE)["spec"]
    return found


def test_the_only_candidate_leads_and_releases_the_lease(
    api: ApiServer, candidate: Candidates, record: Recorder
) -> None:
    a = candidate("a", lease_duration=59.5).start()
    a.wait_for("started")
    assert a.elector.still_leading()
    assert a.elector.holder() == "a"
    assert master_status() == 1
    assert spec(api)["holderIdentity"] == "a"
    assert spec(api)["leaseDurationSeconds"] == 60  # 59.5 does not fit the field; longer is the safe side
    a.stop()
    assert a.result == [True]
    assert not a.elector.still_leading()
    assert master_status() == 0
    assert spec(api)["holderIdentity"] == ""
    assert record.notes == [("a", "started"), ("a", "leading"), ("a", "stopped"), ("a", "ended")]


def test_a_clean_stop_ends_the_work_before_another_starts(
    api: ApiServer, candidate: Candidates, record: Recorder
) -> None:
    """Work may take longer to end than the lease lasts: it is renewed in the meantime."""
    a, b = candidate("a"), candidate("b")
    may_end = threading.Event()
    a.on_stopped = lambda: assert_true(may_end.wait(PATIENCE))
    a.start().wait_for("started")
    b.start()
    a.elector.stop()
    a.wait_for("leading")
    api.wait_for_requests(api.count("PUT") + 3, "PUT")
    assert a.elector.still_leading()
    may_end.set()
    b.wait_for("started")
    assert record.notes.index(("a", "stopped")) < record.notes.index(("b", "started"))


@pytest.mark.parametrize("fault", [faults.hang, faults.cut, faults.drip, faults.status(500, "InternalError")])
def test_when_the_lease_cannot_be_renewed_work_stops_before_another_starts(
    api: ApiServer, candidate: Candidates, record: Recorder, fault: faults.Fault
) -> None:
    a, b = candidate("a", **SOON_LOST), candidate("b")
    a.start().wait_for("started")
    api.inject(fault, method="PUT")
    a.wait_for("stopped")
    taken = spec(api)["holderIdentity"]
    assert taken == "a", "the lease was taken before the work had stopped"
    assert ("a", "lost") in record.notes
    a.wait_for("ended")
    assert a.result == [False]
    api.heal()
    b.start().wait_for("started")
    assert spec(api)["holderIdentity"] == "b"
    assert spec(api)["leaseTransitions"] == 1


def test_a_hung_server_stops_the_workers_before_the_lease_can_be_taken(
    api: ApiServer, client: KubeClient, candidate: Candidates, record: Recorder
) -> None:
    """The client library's elector blocks in its request and the worker goes on: two leaders.

    The other candidate can always reach the server here, as on the other side of a broken network.
    """
    a, b = candidate("a", **SOON_LOST), candidate("b")
    fenced = client.fenced(a.elector.remaining)
    queue: WorkQueue[str] = WorkQueue("hung")

    def reconcile(key: str) -> Result:
        if not a.elector.still_leading():
            record("a", "refused")
            raise LeadershipLost("not leading")
        record("a", "worked")
        fenced.apply(CONFIGMAPS.path("system", "proof"), {"metadata": {"name": "proof"}}, "tests")
        return Result(requeue_after=0.01)

    workers = Workers("hung", queue, reconcile, count=2)
    a.on_started = workers.start
    a.on_stopped = lambda: assert_true(workers.stop(PATIENCE))
    a.start().wait_for("started")
    queue.add("proof")
    a.wait_for("worked")
    hung = threading.Event()

    def hang_for_a(connection: Connection) -> None:
        hung.set()
        faults.hang(connection)

    # Only a's writes hang: its renewals and its work. b reads, waits for the lease to expire, and takes it.
    api.inject(hang_for_a, method="PUT", body="'holderIdentity': 'a'")
    api.inject(hang_for_a, method="PATCH", path="proof")
    b.start()
    assert hung.wait(PATIENCE)
    b.wait_for("started")
    order = record.notes
    assert order.index(("a", "stopped")) < order.index(("b", "started"))
    assert ("a", "worked") not in order[order.index(("a", "stopped")) :]
    assert api.count("PATCH", path="proof") == len([note for note in order if note == ("a", "worked")])


def test_a_killed_server_ends_leadership_and_calls_on_stopped(
    api: ApiServer, candidate: Candidates, record: Recorder
) -> None:
    a = candidate("a", **SOON_LOST).start()
    a.wait_for("started")
    api.kill()
    a.wait_for("ended")
    assert a.result == [False]
    assert record.notes == [("a", "started"), ("a", "lost"), ("a", "stopped"), ("a", "ended")]


def test_a_short_outage_does_not_end_leadership(api: ApiServer, candidate: Candidates) -> None:
    a = candidate("a").start()
    a.wait_for("started")
    api.inject(faults.status(500, "InternalError"), method="PUT", times=2)
    api.inject(faults.cut, method="PUT", times=1)
    seen = api.count("PUT")
    api.wait_for_requests(seen + 5, "PUT")
    assert a.elector.still_leading()
    a.stop()
    assert a.result == [True]


def test_one_renewal_that_hangs_does_not_end_leadership(api: ApiServer, candidate: Candidates) -> None:
    """Half the deadline for each request, as in client-go: the next one goes over another connection."""
    a = candidate("a", lease_duration=5, renew_deadline=4, retry_period=0.1).start()
    a.wait_for("started")
    api.inject(faults.hang, method="PUT", times=1)
    api.wait_for_requests(api.count("PUT") + 4, "PUT")
    assert a.elector.still_leading()
    a.stop()
    assert a.result == [True]


def test_a_lost_answer_to_a_renewal_that_happened_does_not_end_leadership(
    api: ApiServer, candidate: Candidates
) -> None:
    a = candidate("a").start()
    a.wait_for("started")
    api.patch(LEASE, {"metadata": {"labels": {"touched": "yes"}}})  # a's version is stale, as after such a loss
    seen = api.count("PUT")
    api.wait_for_requests(seen + 3, "PUT")
    assert a.elector.still_leading()
    assert api.get(LEASE)["metadata"]["labels"] == {"touched": "yes"}


def test_a_lease_that_somebody_deleted_is_made_again(api: ApiServer, candidate: Candidates) -> None:
    a = candidate("a").start()
    a.wait_for("started")
    api.delete(LEASE)
    api.wait_for_requests(2, "POST")
    api.wait_for_requests(api.count("PUT") + 1, "PUT")
    assert spec(api)["holderIdentity"] == "a"
    assert a.elector.still_leading()


def test_a_lease_that_another_has_taken_ends_leadership_at_once(api: ApiServer, candidate: Candidates) -> None:
    a = candidate("a", lease_duration=3600, renew_deadline=3000, retry_period=0.1).start()
    a.wait_for("started")
    api.patch(LEASE, {"spec": {"holderIdentity": "thief"}})
    a.wait_for("ended")
    assert a.result == [False]
    assert spec(api)["holderIdentity"] == "thief"


def test_of_five_candidates_one_leads_and_the_next_follows(candidate: Candidates, record: Recorder) -> None:
    everyone = {name: candidate(name) for name in "abcde"}
    for each in everyone.values():
        each.start()
    for number in range(1, 6):
        record.wait_for(lambda notes, n=number: started(notes) == n)  # type: ignore[misc]
        leader = next(name for name, what in reversed(record.notes) if what == "started")
        assert [name for name, each in everyone.items() if each.elector.still_leading()] == [leader]
        everyone[leader].stop()
    assert_never_two(record.notes)


def test_a_candidate_that_never_led_can_stop(api: ApiServer, candidate: Candidates, record: Recorder) -> None:
    a, b = candidate("a"), candidate("b")
    a.start().wait_for("started")
    b.start()
    api.wait_for_requests(api.count("GET") + 1, "GET")
    b.stop()
    assert b.result == [True]
    assert ("b", "started") not in record.notes
    assert a.elector.still_leading()


def test_an_exception_of_on_started_ends_leadership_and_is_raised(api: ApiServer, candidate: Candidates) -> None:
    a = candidate("a")

    def fail() -> None:
        raise RuntimeError("cannot start")

    a.on_started = fail
    a.start().wait_for("ended")
    assert str(a.result[0]) == "cannot start"
    assert spec(api)["holderIdentity"] == ""


def test_the_clock_of_the_holder_does_not_matter(api: ApiServer, candidate: Candidates) -> None:
    """A lease whose times lie hours ahead or back is judged by when it was seen to change."""
    for renewed in ("2001-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z"):
        lease = {
            "metadata": {"name": "controller"},
            "spec": {"holderIdentity": "old", "leaseDurationSeconds": 2, "renewTime": renewed},
        }
        api.create(LEASE, lease)
        a = candidate("a").start()
        api.wait_for_requests(api.count("GET") + 2, "GET")
        assert spec(api)["holderIdentity"] == "old"  # alive, for all we know: it was seen a moment ago
        a.wait_for("started")
        a.stop()
        api.delete(LEASE)
        a.record.notes.clear()


def test_a_lease_is_held_for_its_whole_duration_after_it_was_seen(api: ApiServer, client: KubeClient) -> None:
    clock = FakeClock()
    LeaseClient(client, "system", "controller", "old", 15).take(None, 5)
    elector = Elector(client, "system", "controller", "new", clock=clock)
    elector._acquire()
    clock.advance(14.9)
    elector._acquire()
    assert spec(api)["holderIdentity"] == "old"
    clock.advance(0.2)
    elector._acquire()
    assert spec(api)["holderIdentity"] == "new"
    assert elector.remaining() == pytest.approx(10)


def test_leadership_is_counted_from_before_the_renewal_was_sent(api: ApiServer, client: KubeClient) -> None:
    """An answer that takes long says nothing about now: the lease has been running since it was written."""
    clock = FakeClock()
    elector = Elector(client, "system", "controller", "a", clock=clock)
    elector._acquire()
    api.inject(lambda connection: slow_answer(connection, clock), method="PUT", times=1)
    elector._renew()
    assert elector.remaining() == pytest.approx(4)
    clock.advance(4.1)
    assert not elector.still_leading()


def slow_answer(connection: Connection, clock: FakeClock) -> None:
    clock.advance(6.0)
    connection.answer_truly()


def test_durations_that_cannot_work_are_refused(client: KubeClient) -> None:
    with pytest.raises(ValueError, match="renew_deadline"):
        Elector(client, "system", "controller", "a", lease_duration=10, renew_deadline=10)


def master_status() -> float | None:
    return REGISTRY.get_sample_value("leader_election_master_status", {"name": "controller"})


def assert_true(value: bool) -> None:
    assert value


def started(notes: list[tuple[str, str]]) -> int:
    return sum(what == "started" for _, what in notes)


def assert_never_two(notes: list[tuple[str, str]]) -> None:
    leading: set[str] = set()
    for name, what in notes:
        if what == "started":
            assert not leading, f"{name} started while {leading} had not stopped: {notes}"
            leading.add(name)
        if what == "stopped":
            leading.discard(name)
