"""The eight invariants of the design, under every misfortune in any order (Hypothesis).

The world (world.py) raises Broken at the very action that breaks an invariant. Two controllers take turns, each of
them stopped between any two writes; either may crash at any moment.
"""

from __future__ import annotations

from datetime import timedelta

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.api.status import BackendKind, Step
from controller.domain.snapshot import JobState, hex_of
from tests.builders import BUILD, VALIDATION
from tests.domain.world import Broken, Controller, World, digest_of, settle

OUTCOMES = ["good", "good", "good", "bad", "nan", "empty", "errors", "no result", "fails"]


class Life(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.controllers = [Controller(self.world), Controller(self.world)]

    # -- the controllers
    @rule(who=st.sampled_from([0, 0, 0, 1]), writes=st.integers(1, 6))
    def write(self, who: int, writes: int) -> None:
        for _ in range(writes):
            self.controllers[who].step()

    @rule(rounds=st.integers(1, 12), outcome=st.sampled_from(OUTCOMES))
    def go_on(self, rounds: int, outcome: str) -> None:
        settle(self.world, rounds, finish=outcome)

    @rule(who=st.integers(0, 1))
    def controller_crashes(self, who: int) -> None:
        self.controllers[who].crash()

    # -- time and the users
    @rule(seconds=st.sampled_from([1, 5, 30, 90, 700, 4000, 90000]))
    def time_passes(self, seconds: int) -> None:
        self.world.now += timedelta(seconds=seconds)

    @rule()
    def user_promotes(self) -> None:
        self.world.edit(stage="Stable", build=BUILD, validation=VALIDATION)

    @rule()
    def user_goes_back(self) -> None:
        self.world.edit(stage="Experimental")

    @rule(number=st.integers(1, 3))
    def user_changes_the_version(self, number: int) -> None:
        self.world.set_version(number)

    @precondition(lambda self: self.world.status.history)
    @rule(data=st.data())
    def user_names_a_revision(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.world.status.history))
        self.world.edit(rollback={"revision": entry.revision})

    @rule()
    def user_lets_go_of_the_revision(self) -> None:
        self.world.edit(rollback=None)

    # -- the cluster
    @precondition(lambda self: any(j.facts.state is JobState.ACTIVE for j in self.world.jobs.values()))
    @rule(data=st.data(), outcome=st.sampled_from(OUTCOMES))
    def job_ends(self, data: st.DataObject, outcome: str) -> None:
        active = [k for k, j in self.world.jobs.items() if j.facts.state is JobState.ACTIVE]
        self.world.end_job(data.draw(st.sampled_from(active)), outcome)

    @precondition(lambda self: self.world.pods)
    @rule(data=st.data(), what=st.sampled_from(["crash", "ready", "mute", "unready", "deleted", "refuses"]))
    def pod_changes(self, data: st.DataObject, what: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.pods)))
        pod = self.world.pods[name]
        if what == "crash":
            self.world.crash_container(name)
        elif what == "mute":
            pod.mute = not pod.mute
        elif what == "refuses":
            pod.refuses = {hex_of(digest_of("adapter", f"v{n}")) for n in range(1, 4)}
        elif what == "deleted":
            pod.deleting, pod.ready = True, False
        else:
            pod.ready = what == "ready"

    @rule()
    def pod_is_added(self) -> None:
        if len(self.world.pods) < 4:
            self.world.add_pod()

    @precondition(lambda self: self.world.merged)
    @rule(data=st.data(), what=st.sampled_from(["up", "up", "down", "restarted", "errors", "requests"]))
    def merged_changes(self, data: st.DataObject, what: str) -> None:
        merged = self.world.merged[data.draw(st.sampled_from(sorted(self.world.merged)))]
        if what in ("up", "down"):
            merged.available = what == "up"
            merged.gone_since = None if merged.available else self.world.now
        elif what == "restarted":
            merged.container += 1
        else:
            merged.requests += 100
            merged.errors += 50 if what == "errors" else 0

    # -- always
    @invariant()
    def nothing_is_built_twice(self) -> None:
        assert all(count == 1 for count in self.world.built.values())

    @invariant()
    def waiting_has_a_deadline(self) -> None:
        rollout = self.world.status.rollout
        assert rollout.step is Step.IDLE or rollout.deadline is not None

    @invariant()
    def a_truthful_route_answers(self) -> None:
        """What is said to serve was proven; and if its pods are up, the route is not somewhere dead."""
        serving = self.world.status.serving
        if serving is not None and not self.world.was_proven(serving.backend):
            raise Broken(f"1: {serving.backend} serves without proof")

    def teardown(self) -> None:
        """Whatever happened: when the cluster heals and the user waits, the release comes to rest and answers."""
        self.world.heal()
        self.world.edit(rollback=None)
        settle(self.world, rounds=150, tick=5)
        self.world.heal()
        settle(self.world, rounds=60, tick=20)
        status, spec = self.world.status, self.world.release().spec
        assert status.rollout.step is Step.IDLE, f"still {status.rollout.step} after the cluster healed"
        if status.serving is None:
            assert status.rollout.rejected, "nothing serves and nothing was rejected"
            return
        assert self.world.routed_pods(), "the release has served and its route reaches nothing"
        if spec.stage == "Experimental" and not any(r.step is Step.IMPORTING for r in status.rollout.rejected):
            assert status.serving.backend.kind is BackendKind.ADAPTER
            assert status.serving.backend.id == digest_of("adapter", f"v{self.world.version}")
        if spec.stage == "Stable" and not status.rollout.rejected:
            assert status.serving.backend.kind is BackendKind.ARTIFACT


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=150,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    derandomize=True,
)
