"""The work queue: by example, and as a state machine of any number of workers."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.runtime.metrics import REGISTRY
from controller.runtime.workqueue import WorkQueue
from tests.runtime.waiting import PATIENCE, FakeClock

clock = FakeClock()


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> Iterator[WorkQueue[str]]:
    yield WorkQueue(request.node.name, clock=clock)


def taken(queue: WorkQueue[str]) -> str | None:
    return queue.get(timeout=0)


def metric(queue: WorkQueue[str], name: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"name": queue.name})


def test_a_key_waits_only_once(queue: WorkQueue[str]) -> None:
    queue.add("a")
    queue.add("b")
    queue.add("a")
    assert [taken(queue), taken(queue), taken(queue)] == ["a", "b", None]


def test_a_key_added_while_it_is_processed_comes_again_after_done(queue: WorkQueue[str]) -> None:
    queue.add("a")
    assert taken(queue) == "a"
    queue.add("a")
    queue.add("a")
    assert taken(queue) is None
    queue.done("a")
    assert taken(queue) == "a"
    queue.done("a")
    assert taken(queue) is None


def test_done_without_get_is_a_mistake(queue: WorkQueue[str]) -> None:
    with pytest.raises(ValueError, match="not being processed"):
        queue.done("a")


def test_a_delayed_key_comes_when_its_time_has_come(queue: WorkQueue[str]) -> None:
    queue.add_after("a", 10)
    assert taken(queue) is None
    clock.advance(9.9)
    assert taken(queue) is None
    clock.advance(0.2)
    assert taken(queue) == "a"


def test_the_shortest_of_several_delays_counts_and_only_once(queue: WorkQueue[str]) -> None:
    queue.add_after("a", 10)
    queue.add_after("a", 5)
    queue.add_after("a", 20)
    clock.advance(5)
    assert taken(queue) == "a"
    queue.done("a")
    clock.advance(100)
    assert taken(queue) is None


def test_backoff_is_client_gos(queue: WorkQueue[str]) -> None:
    delays = [queue.add_rate_limited("a") for _ in range(20)]
    assert delays[:4] == [0.005, 0.01, 0.02, 0.04]
    assert delays[17] == pytest.approx(655.36)
    assert delays[18:] == [1000.0, 1000.0]
    assert queue.retries("a") == 20
    assert queue.add_rate_limited("b") == 0.005
    queue.forget("a")
    assert queue.add_rate_limited("a") == 0.005


def test_backoff_is_no_shorter_than_what_the_server_asks_for(queue: WorkQueue[str]) -> None:
    assert queue.add_rate_limited("a", at_least=3) == 3
    clock.advance(2.9)
    assert taken(queue) is None
    clock.advance(0.2)
    assert taken(queue) == "a"


def test_backoff_never_overflows() -> None:
    queue: WorkQueue[str] = WorkQueue("overflow", clock=clock)
    assert [queue.add_rate_limited("a") for _ in range(2000)][-1] == 1000.0


def test_shut_down_drops_what_waits_and_wakes_all_workers(queue: WorkQueue[str]) -> None:
    results: list[str | None] = []
    workers = [threading.Thread(target=lambda: results.append(queue.get())) for _ in range(3)]
    for worker in workers:
        worker.start()
    queue.shut_down()
    for worker in workers:
        worker.join(PATIENCE)
    assert results == [None, None, None]
    queue.add("a")
    queue.add_after("b", 1)
    clock.advance(2)
    assert taken(queue) is None
    assert queue.is_shut_down
    assert len(queue) == 0


def test_what_is_being_processed_can_be_finished_after_shut_down(queue: WorkQueue[str]) -> None:
    queue.add("a")
    taken(queue)
    queue.add("a")
    queue.shut_down()
    queue.done("a")
    assert taken(queue) is None


def test_a_waiting_worker_gets_a_key_that_is_due_earlier_than_it_thought() -> None:
    queue: WorkQueue[str] = WorkQueue("earlier")
    got: list[str | None] = []
    queue.add_after("late", 3600)
    worker = threading.Thread(target=lambda: got.append(queue.get()))
    worker.start()
    queue.add_after("soon", 0.01)
    worker.join(PATIENCE)
    assert got == ["soon"]
    queue.shut_down()


def test_every_waiting_worker_wakes_for_a_key_of_its_own() -> None:
    queue: WorkQueue[int] = WorkQueue("each")
    got: list[int | None] = []
    workers = [threading.Thread(target=lambda: got.append(queue.get())) for _ in range(4)]
    for worker in workers:
        worker.start()
    for key in range(4):
        queue.add_after(key, 0.01)
    for worker in workers:
        worker.join(PATIENCE)
    assert sorted(key for key in got if key is not None) == [0, 1, 2, 3]


def test_many_threads_lose_no_key_and_share_none() -> None:
    queue: WorkQueue[int] = WorkQueue("threads")
    wanted, processed = [0] * 10, [0] * 10
    busy, overlaps, lock, all_done = set[int](), list[int](), threading.Lock(), threading.Event()

    def work() -> None:
        while (key := queue.get()) is not None:
            with lock:
                overlaps.extend([key] if key in busy else [])
                busy.add(key)
            processed[key] = wanted[key]  # reads the newest state, as a reconciliation does
            with lock:
                busy.discard(key)
            queue.done(key)
            if processed == [200] * 10:
                all_done.set()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for number in range(1, 201):
        for key in range(10):
            wanted[key] = number
            queue.add(key)
    assert all_done.wait(PATIENCE)
    queue.shut_down()
    for worker in workers:
        worker.join(PATIENCE)
    assert overlaps == []


def test_the_metrics_are_client_gos(queue: WorkQueue[str]) -> None:
    queue.add("a")
    queue.add("b")
    assert metric(queue, "workqueue_depth") == 2
    clock.advance(2)
    taken(queue)
    clock.advance(3)
    assert metric(queue, "workqueue_depth") == 1
    assert metric(queue, "workqueue_queue_duration_seconds_sum") == 2
    assert metric(queue, "workqueue_unfinished_work_seconds") == 3
    assert metric(queue, "workqueue_longest_running_processor_seconds") == 3
    queue.done("a")
    assert metric(queue, "workqueue_work_duration_seconds_sum") == 3
    assert metric(queue, "workqueue_unfinished_work_seconds") == 0
    queue.add_rate_limited("a")
    assert metric(queue, "workqueue_retries_total") == 1
    assert metric(queue, "workqueue_adds_total") == 2  # the delayed one is counted when it is queued
    clock.advance(1)
    taken(queue)
    taken(queue)
    assert metric(queue, "workqueue_adds_total") == 3


KEYS = st.sampled_from("abc")


class QueueMachine(RuleBasedStateMachine):
    """A model beside the queue: what is owed to each key, and who has it."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.queue: WorkQueue[str] = WorkQueue("machine", clock=self.clock)
        self.owed: set[str] = set()  # was added and not taken since
        self.later: dict[str, float] = {}  # will be owed by then
        self.held: set[str] = set()
        self.failures: dict[str, int] = {}

    def promote(self) -> None:
        due = [key for key, at in self.later.items() if at <= self.clock()]
        for key in due:
            del self.later[key]
            self.owed.add(key)

    def delay(self, key: str, seconds: float) -> None:
        self.promote()
        at = self.clock() + seconds
        self.later[key] = min(at, self.later.get(key, at))

    @rule(key=KEYS)
    def add(self, key: str) -> None:
        self.queue.add(key)
        self.owed.add(key)

    @rule(key=KEYS, seconds=st.integers(1, 20))
    def add_after(self, key: str, seconds: int) -> None:
        self.queue.add_after(key, seconds)
        self.delay(key, seconds)

    @rule(key=KEYS)
    def fail(self, key: str) -> None:
        count = self.failures.get(key, 0)
        delay = self.queue.add_rate_limited(key)
        assert delay == min(0.005 * 2**count, 1000.0)
        self.failures[key] = count + 1
        self.delay(key, delay)

    @rule(key=KEYS)
    def forget(self, key: str) -> None:
        self.queue.forget(key)
        self.failures.pop(key, None)

    @rule(seconds=st.floats(0.001, 30))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def take(self) -> None:
        self.promote()
        key = taken(self.queue)
        if key is None:
            assert self.owed <= self.held, "a key that nobody has was not handed out"
        else:
            assert key not in self.held, "two workers have the same key"
            assert key in self.owed, "nobody asked for this key"
            self.owed.discard(key)
            self.held.add(key)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self.promote()
        key = data.draw(st.sampled_from(sorted(self.held)))
        self.queue.done(key)
        self.held.discard(key)

    @invariant()
    def a_key_waits_at_most_once(self) -> None:
        waiting = list(self.queue._ready)
        assert len(waiting) == len(set(waiting))
        assert not set(waiting) & self.held

    def teardown(self) -> None:
        """Nothing is lost: everything that is owed now or later comes out when all workers finish."""
        self.clock.advance(10_000)
        self.promote()
        for key in sorted(self.held):
            self.queue.done(key)
        came = set()
        while (ready := taken(self.queue)) is not None:
            came.add(ready)
            self.queue.done(ready)
        assert came == self.owed
        self.queue.shut_down()


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
