"""The eight invariants of the design, under every misfortune in any order (Hypothesis).

deeds.py raises Broken at the very action that breaks an invariant. Two controllers take turns, each of them stopped
between any two writes; either may crash at any moment. `HYPOTHESIS_PROFILE=thorough` looks much longer.
"""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from controller.api.reasons import Reason
from controller.api.status import BackendKind, Step
from controller.domain.snapshot import JobState, Problem, hex_of
from tests.domain.turns import Controller, come_to_rest, quiet, settle
from tests.domain.world import RIVAL, ROUTE, Broken, World, adapter_digest

OUTCOMES = ["good", "good", "good", "bad", "nan", "empty", "errors", "no result", "fails"]
POD_CHANGES = ["crash", "ready", "mute", "unready", "deleted", "refuses one", "refuses all", "fails to replace"]
MERGED_CHANGES = ["up", "up", "down", "restarted", "errors", "slow", "requests", "deleted", "unreadable"]


class Life(RuleBasedStateMachine):
    @initialize(pods=st.sampled_from([2, 1, 3, 4]), slots=st.sampled_from([4, 1, 2]))
    def a_cluster(self, pods: int, slots: int) -> None:
        self.world = World(pods, slots)
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

    @rule(who=st.integers(0, 1), lagging=st.booleans())
    def caches_lag(self, who: int, lagging: bool) -> None:
        self.controllers[who].lagging = lagging

    @rule()
    def nothing_new(self) -> None:
        """Left alone, it finishes what there is to do; then the route reaches what serves, if that is up."""
        quiet(self.world)
        if self._may_lack_its_route():
            return
        served = self.world.served
        assert served is not None
        world = self.world
        selector = world.snapshot().selector_for(served)
        if world.routed_pods(selector) and world.selector != selector:
            raise Broken(f"1: {served} is up, and the route points elsewhere")

    def _may_lack_its_route(self) -> bool:
        world = self.world
        moving = world.status.rollout.step in (Step.SWITCHING, Step.ROLLING_BACK)
        return moving or world.served is None or world.base is None or bool(world.services_taken) or self._is_deleted()

    # -- time and the users
    @rule(seconds=st.sampled_from([1, 5, 30, 90, 700, 4000, 90000]))
    def time_passes(self, seconds: int) -> None:
        self.world.pass_time(seconds)

    @rule()
    def user_promotes(self) -> None:
        self.world.promote()

    @rule()
    def user_goes_back(self) -> None:
        self.world.edit(stage="Experimental")

    @rule(number=st.integers(1, 3))
    def user_changes_the_version(self, number: int) -> None:
        self.world.set_version(number)

    @precondition(lambda self: self.world.history)
    @rule(data=st.data())
    def user_names_a_revision(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.world.history))
        self.world.edit(rollback={"revision": entry.revision})

    @rule()
    def user_names_a_revision_that_never_was(self) -> None:
        self.world.edit(rollback={"revision": 99})

    @rule()
    def user_lets_go_of_the_revision(self) -> None:
        self.world.edit(rollback=None)

    @rule(limit=st.integers(1, 3))
    def user_keeps_less_history(self, limit: int) -> None:
        rollout = self.world.builder.wire["spec"]["rollout"]
        self.world.edit(rollout=rollout | {"revisionHistoryLimit": limit})

    @rule(value=st.sampled_from("ab"))
    def user_wants_a_retry(self, value: str) -> None:
        self.world.annotate(retry=value)

    @precondition(lambda self: self.world.selector)
    @rule()
    def user_deletes_the_service(self) -> None:
        self.world.selector = None

    @precondition(lambda self: self.world.jobs)
    @rule()
    def user_deletes_the_jobs(self) -> None:
        self.world.jobs = {}
        self.world.started = {}

    @precondition(lambda self: self.world.history)
    @rule(sure=st.integers(0, 5))
    def user_deletes_the_release(self, sure: int) -> None:
        if sure == 5:
            self.world.delete()

    # -- the cluster
    @precondition(lambda self: any(j.facts.state is JobState.ACTIVE for j in self.world.jobs.values()))
    @rule(data=st.data(), outcome=st.sampled_from(OUTCOMES), latency=st.sampled_from([0.1, None, 0.0]))
    def job_ends(self, data: st.DataObject, outcome: str, latency: float | None) -> None:
        active = [k for k, j in self.world.jobs.items() if j.facts.state is JobState.ACTIVE]
        self.world.latency = latency
        self.world.end_job(data.draw(st.sampled_from(active)), outcome)

    @precondition(lambda self: self.world.pods)
    @rule(data=st.data(), what=st.sampled_from(POD_CHANGES), number=st.integers(1, 3))
    def pod_changes(self, data: st.DataObject, what: str, number: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.pods)))
        pod = self.world.pods[name]
        if what == "crash":
            self.world.crash_container(name)
        elif what == "mute":
            pod.mute = not pod.mute
        elif what == "refuses one":
            pod.refuses = {hex_of(adapter_digest(number))}
        elif what == "refuses all":
            pod.refuses = {hex_of(adapter_digest(n)) for n in range(1, 4)}
        elif what == "fails to replace":
            pod.replacing_fails = True
        elif what == "deleted":
            pod.deleting, pod.ready = True, False
        else:
            pod.ready = what == "ready"

    @precondition(lambda self: self.world.base)
    @rule()
    def pod_is_added(self) -> None:
        if len(self.world.pods) < 4:
            self.world.add_pod()

    @rule()
    def pods_that_were_deleted_go(self) -> None:
        for name in [n for n, p in self.world.pods.items() if p.deleting]:
            del self.world.pods[name]

    @precondition(lambda self: self.world.pods)
    @rule(data=st.data())
    def strangers_fill_the_slots(self, data: st.DataObject) -> None:
        pod = self.world.pods[data.draw(st.sampled_from(sorted(self.world.pods)))]
        for number in range(self.world.slots - len(pod.adapters)):
            pod.adapters[f"stranger-{number}"] = f"/elsewhere/{number}"

    @precondition(lambda self: self.world.merged)
    @rule(data=st.data(), what=st.sampled_from(MERGED_CHANGES))
    def merged_changes(self, data: st.DataObject, what: str) -> None:
        artifact_id = data.draw(st.sampled_from(sorted(self.world.merged)))
        merged = self.world.merged[artifact_id]
        if what in ("up", "down"):
            self.world.merged_goes(artifact_id, available=what == "up")
        elif what == "restarted":
            merged.container += 1
        elif what == "deleted":
            self.world.lose_deployment(artifact_id)
        elif what == "unreadable":
            merged.unreadable = not merged.unreadable
        else:
            merged.requests += 100
            merged.errors += 50 if what == "errors" else 0
            merged.milliseconds += 100_000 if what == "slow" else 100

    @rule(what=st.sampled_from(["lag", "catch up", "wrong", "right"]))
    def the_route_lies(self, what: str) -> None:
        if what in ("lag", "catch up"):
            self.world.let_endpoints_catch_up()
            self.world.endpoints_lag = what == "lag"
        else:
            self.world.answers_wrong = what == "wrong"

    @rule(what=st.sampled_from(["deleted", "broken", "back", "back"]))
    def the_base_changes(self, what: str) -> None:
        world = self.world
        if what == "deleted":
            world.base_is_deleted()
        elif what == "back":
            world.base_comes_back(pods=2)
        elif world.base is not None:
            problem = Problem(Reason.LORA_NOT_ENABLED, "no --enable-lora")
            world.base = replace(world.base, problems=(problem,))

    @rule(name=st.sampled_from([ROUTE, f"{ROUTE}-preview", "", ""]))
    def services_are_taken(self, name: str) -> None:
        if name == ROUTE and self.world.selector:
            return  # ours is there
        self.world.services_taken = {name} if name else set()

    @precondition(lambda self: not self.world.history)
    @rule(there=st.booleans())
    def an_older_release_has_the_name(self, there: bool) -> None:
        self.world.rivals = (RIVAL,) if there else ()

    # -- always
    @invariant()
    def nothing_is_done_twice(self) -> None:
        assert all(count == 1 for count in self.world.started.values())

    @invariant()
    def what_serves_was_proven(self) -> None:
        served = self.world.served
        if served is not None and not self.world.was_proven(served):
            raise Broken(f"1: {served} serves without proof")

    def teardown(self) -> None:
        """Whatever happened: when the cluster heals and the user waits, the release comes to rest and answers."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.heal()
        if self._is_deleted():
            self._check_that_it_goes()
            return
        world.edit(rollback=None)
        come_to_rest(world)
        world.heal()
        come_to_rest(world)
        quiet(world)
        status = world.status
        assert status.rollout.step is Step.IDLE, f"still {status.rollout.step} after the cluster healed"
        if status.serving is None:
            assert status.rollout.rejected, "nothing serves and nothing was rejected"
            assert world.reason("Ready")[0] == "False"
            return
        assert world.answering(), "the release has served and its route reaches nothing"
        self._check_what_serves()

    def _is_deleted(self) -> bool:
        return self.world.deleted_at is not None

    def _check_that_it_goes(self) -> None:
        """Nothing of it stays on a server that could be asked while the controller still waited for an answer."""
        was_waiting = self.world.finalizer
        settle(self.world, rounds=100)
        assert not self.world.finalizer
        assert not any(p.label for p in self.world.pods.values())
        left = [n for p in self.world.pods.values() for n in p.adapters if n.startswith(ROUTE)]
        assert not (was_waiting and left)

    def _check_what_serves(self) -> None:
        status, spec = self.world.status, self.world.release().spec
        assert status.serving is not None
        steps = {r.step for r in status.rollout.rejected}
        served = status.serving.backend
        if spec.stage == "Experimental" and not steps & {Step.IMPORTING, Step.SWITCHING}:
            assert served.kind is BackendKind.ADAPTER
            assert served.id == adapter_digest(self.world.version)
            assert self.world.reason("Ready") == ("True", "Serving")
        if spec.stage == "Stable" and not steps:
            assert served.kind is BackendKind.ARTIFACT
            assert self.world.reason("Promoted") == ("True", "Promoted")


TestLife = Life.TestCase
