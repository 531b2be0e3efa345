"""The eight invariants of the design, under every misfortune in any order (Hypothesis).

deeds.py raises Broken at the very action that breaks an invariant. Two controllers take turns, each of them stopped
between any two writes; either may crash at any moment. `HYPOTHESIS_PROFILE=thorough` looks much longer.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import cache

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from controller.api.reasons import Reason
from controller.api.status import Backend, BackendKind, Step
from controller.domain.inputs import spec_inputs
from controller.domain.snapshot import JobState, Problem, hex_of
from controller.domain.traffic import UNAVAILABLE_GRACE
from tests.builders import BUILD, VALIDATION
from tests.domain.turns import Controller, come_to_rest, quiet, settle, until
from tests.domain.world import RIVAL, ROUTE, Broken, World, adapter_digest

pytestmark = pytest.mark.slow

OUTCOMES = ["bad", "nan", "errors", "fails", "empty", "no result", "good", "good"]
EDITS = [
    "retry a",
    "retry b",
    "memory",
    "history",
    "validation",
    "no minScore",
    "observation",
    "canary",
    "canary",
    "blue green",
    "approval",
    "settle",
    "no settle",
]
POD_CHANGES = ["crash", "ready", "mute", "unready", "deleted", "refuses one", "refuses all", "fails to replace", "full"]
POD_CHANGES += ["loses writes", "streams", "streams end"]
MERGED_CHANGES = [
    "up",
    "up",
    "down",
    "refuses",
    "restarted",
    "errors",
    "slow",
    "requests",
    "deleted",
    "unreadable",
    "none",
    "streams",
]
SURROUNDINGS = [
    "base deleted",
    "base broken",
    "base back",
    "base port",
    "taken",
    "preview taken",
    "free",
    "rival",
    "plugin",
    "base to zero",
    "base up",
]
CANARY = {
    "httpRoute": "bot",
    "steps": [{"weight": 10, "pause": "10s"}, {"weight": 60}, {"weight": 100, "pause": "1s"}],
    "approvalDeadline": "5m",
}
DELETIONS = ["the service", "its port", "the preview", "jobs", "the release"]
BEGINNINGS = ["applied", "served", "updating", "building", "validating", "observed", "promoted", "renewing", "shifting"]
BEGINNINGS += ["settled", "third"]


@cache
def _begun(beginning: str, pods: int, slots: int, merge_only: tuple[int, ...], plugin: bool) -> World:
    """A world in which the release has come so far."""
    world = World(pods, slots, merge_only, plugin)
    if beginning == "applied":
        return world
    settle(world, 12)
    if beginning == "updating":
        return settle(world.set_version(2), 5)
    if beginning == "served":
        return world
    stops = {"building": Step.BUILDING, "validating": Step.VALIDATING, "observed": Step.OBSERVING}
    world.promote()
    if beginning == "shifting" and 1 not in merge_only:  # else nothing serves that could be left
        world.edit(rollout=world.builder.wire["spec"]["rollout"] | {"strategy": "Canary", "canary": CANARY})
        return until(world, lambda w: w.accepted == 60)
    if beginning in stops:
        return until(world, lambda w: w.status.rollout.step is stops[beginning])
    settle(world, 80)
    if beginning == "third":  # of three artifacts: it is shifting, the second serves, and the first is only history
        settle(world.set_version(2), 120)
        world.set_version(3)
        world.edit(rollout=world.builder.wire["spec"]["rollout"] | {"strategy": "Canary", "canary": CANARY})
        return settle(world, 60)
    if beginning == "settled":
        world.edit(rollout=world.builder.wire["spec"]["rollout"] | {"settle": {"scaleBaseTo": 0}})
        return settle(world.pass_time(4000), 20)
    return settle(world.set_version(2), 8) if beginning == "renewing" else world


class Life(RuleBasedStateMachine):
    @initialize(
        beginning=st.sampled_from(BEGINNINGS),
        pods=st.sampled_from([2, 1, 3, 4]),
        slots=st.sampled_from([4, 2, 1]),
        route=st.sampled_from(["true", "true", "lags", "wrong"]),
        merge_only=st.sampled_from([(), (2,), (1,), (1, 3), (1, 2, 3)]),
        plugin=st.booleans(),
    )
    def a_release(
        self, beginning: str, pods: int, slots: int, route: str, merge_only: tuple[int, ...], plugin: bool
    ) -> None:
        self.world = deepcopy(_begun(beginning, pods, slots, merge_only, plugin))
        self.world.endpoints_lag, self.world.answers_wrong = route == "lags", route == "wrong"
        self.controllers = [Controller(self.world), Controller(self.world)]

    # -- the controllers and time
    @rule(who=st.sampled_from([0, 0, 0, 1]), writes=st.integers(1, 6))
    def write(self, who: int, writes: int) -> None:
        for _ in range(writes):
            self.controllers[who].step()

    @rule(rounds=st.integers(1, 40), tick=st.sampled_from([1, 1, 5, 20]), outcome=st.sampled_from(OUTCOMES))
    def go_on(self, rounds: int, tick: int, outcome: str) -> None:
        settle(self.world, rounds, tick, finish=outcome)

    @rule(outcome=st.sampled_from(OUTCOMES))
    def its_jobs_end(self, outcome: str) -> None:
        settle(self.world, 4, finish=outcome)

    @rule(who=st.integers(0, 1), what=st.sampled_from(["crashes", "lags", "hears"]))
    def something_happens_to_a_controller(self, who: int, what: str) -> None:
        if what == "crashes":
            self.controllers[who].crash()
        else:
            self.controllers[who].lagging = what == "lags"

    @rule(seconds=st.sampled_from([1, 5, 30, 90, 700, 4000, 90000]))
    def time_passes(self, seconds: int) -> None:
        self.world.pass_time(seconds)

    @rule()
    def nothing_new(self) -> None:
        """Left alone, it finishes what there is to do; then the route reaches what serves, if that is up."""
        world = self.world
        quiet(world)
        moving = world.status.rollout.step in (Step.SWITCHING, Step.ROLLING_BACK)
        self._the_http_route_is_given_back()
        away = world.base is None or ROUTE in world.services_taken or self._is_deleted()
        if not away and (lying := [p.name for p in world.pods.values() if world.lies(p)]):
            raise Broken(f"1: {lying} say in a label that they hold what they do not")
        if not away:
            self._nothing_waits_beyond_its_deadline()
        if world.served is None or moving or ROUTE in world.services_taken or self._is_deleted():
            return
        selector = world.snapshot().selector_for(world.served)
        if world.routed_pods(selector) and world.selector != selector:
            raise Broken(f"1: {world.served} is up, and the route points elsewhere")
        heard = [p for p in world.routed_pods(selector) if p not in world.pods or not world.pods[p].mute]
        if heard and world.target_port != world.snapshot().port_for(world.served):
            raise Broken(f"1: {world.served} is up, and the route leads to another port")

    def _the_http_route_is_given_back(self) -> None:
        """But while a canary is under way, or the candidate is the only one that answers."""
        world, canary = self.world, self.world.status.rollout.canary
        if world.status.rollout.step in (Step.SHIFTING, Step.SWITCHING) or ROUTE in world.services_taken:
            return
        alone = not world.routed_pods() and canary is not None and world.merged.get(canary.artifact) is not None
        is_gone = self._is_deleted() and not world.finalizer
        if world.weight and not (alone or is_gone or world.http_route_is_frozen):
            raise Broken(f"canary: {world.weight} % are left in the HTTPRoute")

    def _nothing_waits_beyond_its_deadline(self) -> None:
        """But for a load, a first switch, a way back, and a revision that the user insists on: there is nothing
        better to do."""
        rollout, spec = self.world.status.rollout, self.world.release().spec
        ends = [Step.IMPORTING, Step.BUILDING, Step.VALIDATING, Step.SHIFTING, Step.OBSERVING]
        if self.world.served is not None:
            ends.append(Step.SWITCHING)
        if spec.rollback is None:
            ends.append(Step.STARTING)
        if rollout.step in ends and rollout.deadline is not None and self.world.now >= rollout.deadline:
            raise Broken(f"6: {rollout.step} goes on although its time is over")
        self._no_artifact_is_waited_for_in_vain(rollout.step)

    def _no_artifact_is_waited_for_in_vain(self, step: Step) -> None:
        serving, world = self.world.status.serving, self.world
        moving = step in (Step.SWITCHING, Step.ROLLING_BACK)
        if serving is None or serving.backend.kind is BackendKind.ADAPTER or moving:
            return
        answers = bool(world.routed_pods(world.snapshot().selector_for(serving.backend)))
        if answers or not any(pod.up for pod in world.pods.values()) or not self._has_a_way_back(serving.backend):
            return
        since = serving.unavailable_since
        if since is None or world.now >= since + UNAVAILABLE_GRACE:
            raise Broken("6: what serves does not answer, and nothing comes of it")

    def _has_a_way_back(self, served: Backend) -> bool:
        status, key = self.world.status, spec_inputs(self.world.release())
        rejected = {r.id for r in status.rollout.rejected if r.inputs == key}
        known = [b for h in status.history if (b := h.backend) != served]
        servable = status.adapter is not None and status.adapter.digest not in self.world.merge_only
        return servable or any(b.kind is BackendKind.ADAPTER or b.id not in rejected for b in known)

    # -- the users
    @rule()
    def user_promotes(self) -> None:
        self.world.promote()

    @rule()
    def user_goes_back(self) -> None:
        self.world.edit(stage="Experimental")

    @rule(number=st.integers(1, 3))
    def user_changes_the_version(self, number: int) -> None:
        self.world.set_version(number)

    @rule(data=st.data())
    def user_names_a_revision(self, data: st.DataObject) -> None:
        known = [h.revision for h in self.world.history]
        revision = data.draw(st.sampled_from([None, *known, 99]))
        self.world.edit(rollback=None if revision is None else {"revision": revision})

    @rule(what=st.sampled_from(EDITS), limit=st.integers(1, 3))
    def user_changes_something_else(self, what: str, limit: int) -> None:
        spec = self.world.builder.wire["spec"]
        if what.startswith("retry"):
            self.world.annotate(retry=what)
        elif what == "validation":
            suite = VALIDATION["suites"][0] | {"minScore": f"0.{limit}"}
            self.world.edit(validation={"suites": [suite]})
        elif what == "no minScore":
            suite = {key: value for key, value in VALIDATION["suites"][0].items() if key != "minScore"}
            self.world.edit(validation={"suites": [suite]})
        elif what == "memory" and "build" in spec:
            job = {"name": "job", "resources": {"limits": {"memory": f"{limit}Gi"}}}
            self.world.edit(build=BUILD | {"podTemplate": {"spec": {"containers": [job]}}})
        elif what == "canary":
            changed = CANARY | {"httpRoute": f"bot-{limit}"} if limit > 1 else CANARY
            self.world.edit(rollout=spec["rollout"] | {"strategy": "Canary", "canary": changed})
        elif what == "blue green":
            kept = {k: v for k, v in spec["rollout"].items() if k not in ("strategy", "canary")}
            self.world.edit(rollout=kept)
        elif what == "approval":
            artifact, canary = self.world.status.artifact, spec["rollout"].get("canary")
            if canary and artifact:
                approved = {"approved": {"artifact": artifact.id, "weight": 100}}
                self.world.edit(rollout=spec["rollout"] | {"canary": canary | approved})
        elif what in ("settle", "no settle"):
            self.world.edit(rollout=spec["rollout"] | {"settle": {"scaleBaseTo": 0} if what == "settle" else {}})
        elif what == "history":
            self.world.edit(rollout=spec["rollout"] | {"revisionHistoryLimit": limit})
        else:
            observe = {"duration": f"{limit}0s", "interval": "10s"}
            self.world.edit(rollout=spec["rollout"] | {"observe": observe})

    @rule(what=st.sampled_from(DELETIONS), sure=st.integers(0, 4))
    def user_deletes(self, what: str, sure: int) -> None:
        if what == "the service":
            self.world.selector = None
        elif what == "its port":
            self.world.target_port = 1
        elif what == "the preview":
            self.world.preview = None
        elif what == "jobs":
            self.world.jobs, self.world.started = {}, {}
        elif sure == 4:
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
        elif what == "full":
            free = self.world.slots - len(pod.adapters)
            pod.adapters |= {f"stranger-{n}": f"/elsewhere/{n}" for n in range(free)}
        elif what == "deleted":
            pod.deleting, pod.ready = True, False
        elif what == "loses writes":
            pod.loses_writes = not pod.loses_writes
        elif what == "streams" and pod.alias is not None:
            pod.running[pod.alias] = number
        elif what == "streams end":
            pod.running.clear()
        else:
            pod.ready = what == "ready"

    @precondition(lambda self: self.world.base)
    @rule()
    def pods_come_and_go(self) -> None:
        for name in [n for n, p in self.world.pods.items() if p.deleting]:
            del self.world.pods[name]
        if len(self.world.pods) < 4 and self.world.base is not None and self.world.base.replicas:
            self.world.add_pod()

    @precondition(lambda self: self.world.merged)
    @rule(data=st.data(), what=st.sampled_from(MERGED_CHANGES))
    def merged_changes(self, data: st.DataObject, what: str) -> None:
        artifact_id = data.draw(st.sampled_from(sorted(self.world.merged)))
        merged = self.world.merged[artifact_id]
        if what in ("up", "down", "refuses"):
            self.world.scale(artifact_id, 1)
            self.world.merged_goes(artifact_id, available=what == "up")
            merged.never_starts = what != "up"
            merged.refused = Problem("ArtifactCorrupted", "it was changed") if what == "refuses" else None
        elif what == "none":
            self.world.scale(artifact_id, 0)
        elif what == "restarted":
            merged.container += 1
        elif what == "deleted":
            self.world.lose_deployment(artifact_id)
        elif what == "streams":
            merged.running = 2 - merged.running
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

    @rule(what=st.sampled_from(["late", "on time", "accepts", "its owner applies", "frozen", "thawed"]))
    def the_gateway(self, what: str) -> None:
        if what in ("frozen", "thawed"):
            self.world.http_route_is_frozen = what == "frozen"
            return
        if what == "its owner applies":
            self.world.weight = 0
        elif what != "accepts":
            self.world.gateway_is_late = what == "late"
        if what != "late" and not (what == "its owner applies" and self.world.gateway_is_late):
            self.world.accepted = self.world.weight

    @rule(what=st.sampled_from(SURROUNDINGS))
    def the_surroundings_change(self, what: str) -> None:
        world = self.world
        if what == "base deleted":
            world.base_is_deleted()
        elif what == "base back":
            world.base_comes_back(pods=2)
        elif what == "base port":
            world.base_gets_another_port()
        elif what == "base broken" and world.base is not None:
            world.base = replace(world.base, problems=(Problem(Reason.LORA_NOT_ENABLED, "no --enable-lora"),))
        elif what in ("base to zero", "base up"):
            world.person_scales_base(0 if what == "base to zero" else 2)
        elif what == "plugin":
            world.base_gets_the_plugin()
        elif what == "rival" and not world.history:
            world.rivals = (RIVAL,)
        elif what == "free":
            world.services_taken, world.rivals = set(), ()
        elif what == "preview taken" or (what == "taken" and not world.selector):
            world.services_taken = {ROUTE if what == "taken" else f"{ROUTE}-preview"}

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
        assert (status.rollout.canary, world.weight) == (None, 0), "the HTTPRoute is not given back"
        assert status.rollout.step is Step.IDLE, f"still {status.rollout.step} after the cluster healed"
        if status.serving is None:
            assert status.rollout.rejected or world.is_refused(), "nothing serves and nothing was rejected"
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
        assert not any(p.label or p.routed for p in self.world.pods.values())
        left = [n for p in self.world.pods.values() for n in p.adapters if n.startswith(ROUTE)]
        assert not (was_waiting and left)
        assert self.world.base is None or self.world.base_had is None, "its base does not get back what it had"

    def _check_what_serves(self) -> None:
        status, spec = self.world.status, self.world.release().spec
        assert status.serving is not None
        steps = {r.step for r in status.rollout.rejected}
        served = status.serving.backend
        if self.world.is_refused():
            assert served.id not in self.world.merge_only
            assert self.world.reason("Ready")[0] == "False" or served.kind is BackendKind.ARTIFACT
            return
        if spec.stage == "Experimental" and not steps & {Step.IMPORTING, Step.SWITCHING}:
            assert served.kind is BackendKind.ADAPTER
            assert served.id == adapter_digest(self.world.version)
            assert self.world.reason("Ready") == ("True", "Serving")
        if spec.stage == "Stable" and not steps:
            assert served.kind is BackendKind.ARTIFACT
            assert self.world.reason("Promoted") == ("True", "Promoted")


TestLife = pytest.mark.timeout(600)(Life.TestCase)  # hundreds of lives, on a machine that may be busy
