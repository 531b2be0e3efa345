"""Which alerts hold in each state of a release, whatever their `for`.

The states are those of tests/cli/states.py, made by the plan itself; the series are what the controller shows of them.
So a reason, a label or a metric that is not what an alert takes it for is found here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import pytest

from controller.cli.standing import Health
from controller.domain.people import waits_for_people
from controller.reconcile import release_metrics as metrics
from controller.reconcile.release_samples import base_samples, release_samples
from tests.cli.states import STATES, world_in
from tests.domain.lives import serving_v1
from tests.domain.turns import settle
from tests.domain.world import World
from tests.prometheus.life import Sample
from tests.prometheus.rules import rules
from tests.prometheus.scraped import BEGAN, blocks_of
from tests.prometheus.server import Prometheus

pytestmark = pytest.mark.prometheus

Held = dict[str, set[str]]
_AT = 1800  # seconds after BEGAN, when it is looked at; so long it has been as it is
_EVERY = 60
_IN_TIME = {metrics.STEP_STARTED, metrics.DEADLINE}
_OF_BASES = {"AdapterReleaseUpdatesNotGapFree"}  # their bases have no engine plugin
IMPORT, BUILD, PROOF = "ImportFailed", "BuildFailed", "ValidationFailed"
BLOCKED, MISSING, STUCK, PEOPLE = "Blocked", "AdapterMissing", "BuildStuck", "WaitingForPeople"
BACK, NOT_SERVING, NO_WAY_BACK = "RolledBack", "NotServing", "NoWayBack"
# In all others none does. What is on its way may be on it for too long: that is what their `for` is for.
HELD: dict[str, set[str]] = {
    "loading": {MISSING},
    "updating": {MISSING},
    "building": {STUCK},
    "build-waits": {STUCK},
    "next-version-builds": {STUCK},
    "awaits-approval": {PEOPLE},
    "deleting": {BLOCKED},
    "revision-not-found": {BLOCKED, PEOPLE},
    "revision-does-not-start": {BLOCKED, PEOPLE},
    "base-not-found": {BLOCKED, PEOPLE},
    "base-deleted": {BLOCKED, PEOPLE, NOT_SERVING},
    "base-without-lora": {BLOCKED, PEOPLE},
    "base-with-two-stores": {BLOCKED, PEOPLE},
    "base-serves-the-name": {BLOCKED, PEOPLE},
    "name-taken": {BLOCKED, PEOPLE},
    "service-taken": {BLOCKED, PEOPLE},
    "no-ready-base-pod": {BLOCKED},
    "outage": {NOT_SERVING},
    "import-rejected": {IMPORT, PEOPLE},
    "import-late": {IMPORT, PEOPLE},
    "update-rejected": {IMPORT, PEOPLE},
    "load-failed": {MISSING, BLOCKED},
    "load-failed-on-one-pod": {MISSING},
    "update-refused": {MISSING, BLOCKED, PEOPLE},
    "no-free-slot": {MISSING, BLOCKED},
    "name-held-by-a-pod": {MISSING, BLOCKED},
    "load-late": {MISSING, BLOCKED, PEOPLE},
    "first-switch-late": {BLOCKED, PEOPLE},
    "api-key-in-plain-text": {BUILD, PEOPLE},
    "build-failed": {BUILD, PEOPLE},
    "build-late": {BUILD, PEOPLE},
    "candidate-never-ready": {PROOF, PEOPLE},
    "artifact-corrupted": {PROOF, PEOPLE},
    "validation-failed": {PROOF, PEOPLE},
    "validation-inconclusive": {PROOF, PEOPLE},
    "retried": {BACK},
    "not-approved": {BACK, PEOPLE},
    "rolling-back": {BACK, PEOPLE},
    "rolled-back": {BACK, PEOPLE},
    "rolled-back-by-death": {BACK, PEOPLE},
    "no-way-back": {NO_WAY_BACK, NOT_SERVING, MISSING, PEOPLE},
    "merge-only-refused": {BLOCKED, PEOPLE},
    "merge-only-without-proof": {BUILD, PEOPLE},
    "merge-only-fails": {NO_WAY_BACK, PEOPLE},
}


def _base_deleted() -> World:
    """While its pods served."""
    world = serving_v1()
    world.base_is_deleted()
    return settle(world, 5)


def _awaits_approval() -> World:
    """The check of the canary's step has passed."""
    return settle(deepcopy(world_in("waits-for-person")), 20)


MORE: dict[str, Callable[[], World]] = {"base-deleted": _base_deleted, "awaits-approval": _awaits_approval}


def _series(state: str) -> Iterator[Sample]:
    """As the replica that leads shows them; the namespace is the state's name."""
    world = MORE[state]() if state in MORE else world_in(state)
    seen, now = world.snapshot(), world.now
    status = seen.release.status
    waits = waits_for_people(seen, status, now)
    for family, labels, value in [*release_samples(seen, status, waits), *base_samples(seen)]:
        moved = value - now.timestamp() + _AT if family in _IN_TIME else value
        yield Sample(family.name, dict(zip(family.labels, labels, strict=True)) | {"namespace": state}, moved)


def _scrapes() -> Iterator[tuple[int, Sample]]:
    for state in (*STATES, *MORE):
        found = list(_series(state))
        one = {"namespace": state, "name": "support-bot"}
        for at in range(0, _AT + 1, _EVERY):
            yield from ((at, sample) for sample in found)
            yield at, Sample(metrics.SYNCED.name, one, at)


@pytest.fixture(scope="module")
def held(prometheus_program: Path, promtool: Path, tmp_path_factory: pytest.TempPathFactory) -> Held:
    """The alerts that hold, by state."""
    directory = tmp_path_factory.mktemp("states")
    data = blocks_of(_scrapes(), promtool, directory, BEGAN)
    found: Held = {state: set() for state in (*STATES, *MORE)}
    with Prometheus(prometheus_program, directory / "run", data=data) as server:
        for rule in rules("alerts.yaml"):
            for series in server.instant(rule["expr"], BEGAN + _AT):
                if (state := series["metric"].get("namespace")) in found:
                    found[state].add(rule["alert"])
    return found


@pytest.mark.parametrize("state", (*STATES, *MORE))
def test_the_alerts_of_a_state(state: str, held: Held) -> None:
    assert held[state] - _OF_BASES == {f"AdapterRelease{name}" for name in HELD.get(state, ())}


def test_the_table_names_states_that_there_are() -> None:
    assert set(HELD) <= {*STATES, *MORE}


@pytest.mark.parametrize("state", STATES)
def test_whoever_has_to_do_something_is_told_and_nobody_else(state: str, held: Held) -> None:
    """A pod that refuses the adapter does not make a release unhealthy; what is on its way may be on it for long."""
    told, health = bool(held[state] - _OF_BASES), STATES[state].health
    if health is Health.DEGRADED:
        assert told
    elif health is Health.HEALTHY:
        assert told is (state == "load-failed-on-one-pod")
