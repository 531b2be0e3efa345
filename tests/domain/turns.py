"""Controllers at work on the world: one write at a time, stopped at any of them, or left alone until all is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from controller.api.status import AdapterReleaseStatus
from controller.domain import actions as act
from controller.domain.plan import Plan, plan
from controller.domain.snapshot import JobState, PodFacts, Snapshot
from tests.domain.deeds import do, write_status
from tests.domain.world import Broken, World

# More plans than any real chain of decisions needs while the clock stands still.
QUIET_ROUNDS = 25


def _decision(status: AdapterReleaseStatus) -> tuple[object, ...]:
    """What the next plan must find written down: where the release stands, and what is ruled out."""
    rollout = status.rollout
    return status.serving, rollout.step, rollout.target, rollout.origin, rollout.deadline, rollout.rejected


@dataclass
class Controller:
    """One controller process, stopped between any two writes."""

    world: World
    seen: Snapshot | None = None
    plan: Plan | None = None
    todo: list[act.Action] = field(default_factory=list)
    lagging: bool = False  # its informers hear nothing new
    cached: Snapshot | None = None

    def look(self) -> Plan:
        return self._think(self._observe())

    def _think(self, seen: Snapshot) -> Plan:
        self.seen = seen
        self.plan = plan(self.seen, self.world.now)
        news = bool(self.plan.actions) or self.plan.status != self.world.status
        if news and plan(self.seen, self.world.now) != self.plan:
            raise Broken("8: the same snapshot gives another plan")
        if self.plan.actions and _decision(self.plan.status) != _decision(self.seen.release.status):
            raise Broken("8: a decision is carried out before it is written down")
        self.todo = list(self.plan.actions)
        return self.plan

    def _observe(self) -> Snapshot:
        """The release is read afresh and vLLM is asked; all else comes from caches, which may lag behind."""
        fresh = self.world.snapshot()
        if not self.lagging or self.cached is None:
            self.cached = fresh
            return fresh
        asked_at = self.cached.base.port if self.cached.base else None
        listening = fresh.base is not None and fresh.base.port == asked_at
        now = {p.container_id: p for p in fresh.base_pods if listening}
        route = self.cached.route
        if route is not None:
            route = replace(route, answered_root=fresh.route.answered_root if fresh.route else None)
        return replace(
            fresh,
            base=fresh.base if fresh.release.status.base is not None else self.cached.base,
            base_pods=tuple(_asked(p, now.get(p.container_id)) for p in self.cached.base_pods),
            jobs=self.cached.jobs,
            merged=self.cached.merged,
            route=route,
        )

    def step(self) -> None:
        """One write."""
        if self.plan is None or self.seen is None:
            self.look()
        elif self.todo:
            do(self.world, self.todo.pop(0), self.seen)
        else:
            is_written = write_status(self.world, self.plan.status, self.seen)
            written, self.plan = self.plan, None
            if is_written and written.moves_route:  # it looks not again before it does so
                self._think(replace(self.seen, release=self.world.release()))

    def crash(self) -> None:
        self.plan, self.todo = None, []

    def reconcile(self) -> Plan:
        """What was decided last, with all that was done and told."""
        plans = [self.look()]
        while self.plan is not None:
            if self.plan is not plans[-1]:
                plans.append(self.plan)
            self.step()
        actions = tuple(a for p in plans for a in p.actions)
        return replace(plans[-1], actions=actions, notes=tuple(n for p in plans for n in p.notes))


def _asked(cached: PodFacts, now: PodFacts | None) -> PodFacts:
    return replace(cached, adapters=now.adapters if now else None, plugin=now.plugin if now else None)


def run(world: World, rounds: int = 60, tick: float = 1.0, finish: str = "good", slow: bool = False) -> Iterator[Plan]:
    """Let one controller work in a world where everything goes well: jobs end, Deployments come up, time passes.

    `slow`: jobs never end.
    """
    controller = Controller(world)
    for _ in range(rounds):
        yield controller.reconcile()
        for key, job in list(world.jobs.items()):
            if job.facts.state is JobState.ACTIVE and not slow:
                world.end_job(key, finish)
        for merged in world.merged.values():
            merged.available = merged.replicas > 0 and not merged.never_starts
            merged.requests += 10
        world.pass_time(tick)


def settle(world: World, rounds: int = 60, tick: float = 1.0, finish: str = "good", slow: bool = False) -> World:
    for _ in run(world, rounds, tick, finish, slow):
        pass
    return world


def come_to_rest(world: World, rounds: int = 120, tick: float = 20.0) -> World:
    """Let it work until nothing has changed for longer than any delay."""
    still, before = 0, fingerprint(world)
    for _ in run(world, rounds, tick):
        after = fingerprint(world)
        still, before = (still + 1 if after == before else 0), after
        if still * tick > 120:
            break
    return world


def until(world: World, happens: Callable[[World], Any], rounds: int = 200, **how: Any) -> World:
    """Let it work until something is the case."""
    for _ in run(world, rounds, **how):
        if happens(world):
            return world
    raise AssertionError(f"it did not happen within {rounds} rounds; {world.status.rollout.step} now")


def quiet(world: World) -> None:
    """The clock stands still and there is no news: soon there is nothing more to do."""
    controller = Controller(world)
    before = None
    for _ in range(QUIET_ROUNDS):
        controller.reconcile()
        after = fingerprint(world)
        if after == before:
            return
        before = after
    raise Broken(f"8: without any news it is never done: {[a.why for a in controller.look().actions]}")


def fingerprint(world: World) -> str:
    """All that an action or a status write can change."""
    up = [(m.uid, m.available) for m in world.merged.values()]
    has = world.base.replicas if world.base else None
    services = world.selector, world.target_port, world.preview
    return repr((world.status, world.pods, up, sorted(world.jobs), services, has, world.finalizer))
