"""`status` of a release in each of its states: a picture of each, in tests/cli/snapshots.

After a change of the tree: `ADAPTERRELEASE_SNAPSHOTS=write pytest tests/cli/test_states.py`, and read the diff.
"""

from __future__ import annotations

import copy
import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from controller.api.reasons import Reason
from controller.api.status import ConditionType, Step
from controller.cli.layout import ASCII, UNICODE, Glyphs
from controller.cli.reading import read_view
from controller.cli.standing import Health, Outcome, outcome, standing
from controller.cli.tree import shown
from controller.cli.view import View
from tests.cli.place import place_in
from tests.cli.states import STATES, world_in
from tests.domain.turns import settle
from tests.domain.world import ROUTE

pytestmark = pytest.mark.slow

SNAPSHOTS = Path(__file__).parent / "snapshots"
WRITE = os.environ.get("ADAPTERRELEASE_SNAPSHOTS") == "write"
WIDTH = 80
every_state = pytest.mark.parametrize("name", STATES)


@cache
def view_in(name: str) -> View:
    """Read from an API server, once."""
    with TemporaryDirectory() as directory, place_in(Path(directory)) as place:
        place.hold(world_in(name))
        with place.cluster() as cluster:
            return read_view(cluster, ROUTE)


def text_of(name: str, glyphs: Glyphs = UNICODE, width: int = WIDTH) -> str:
    return "".join(f"{line.plain}\n" for line in shown(view_in(name), world_in(name).now, glyphs, width))


@every_state
def test_its_picture(name: str) -> None:
    text, path = text_of(name), SNAPSHOTS / f"{name}.txt"
    if WRITE:
        SNAPSHOTS.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@every_state
def test_it_says_how_healthy_the_release_is_and_whether_that_is_final(name: str) -> None:
    world, state = world_in(name), STATES[name]
    found = standing(world.release(), world.now)
    assert (found.health, found.final) == (state.health, state.final), found
    result, _ = outcome(world.release(), world.now)
    expected = Outcome.DONE if state.health is Health.HEALTHY else Outcome.FAILED if state.final else Outcome.WAITING
    assert result is expected


@every_state
def test_what_needs_a_person_says_what_to_do(name: str) -> None:
    world, state = world_in(name), STATES[name]
    found = standing(world.release(), world.now)
    if state.final or state.health is Health.SUSPENDED:
        assert found.todo, found
    if found.health is Health.HEALTHY and "load-failed" not in name:
        assert not found.todo and not found.commands


@every_state
@pytest.mark.parametrize("width", [80, 60, 40])
def test_no_line_is_longer_than_the_terminal_and_ascii_is_enough(name: str, width: int) -> None:
    text = text_of(name, ASCII, width)
    assert [line for line in text.splitlines() if len(line) > width] == []
    assert text.isascii()


def test_there_is_no_picture_of_a_state_that_is_gone() -> None:
    assert {path.stem for path in SNAPSHOTS.iterdir()} == set(STATES)


def test_each_step_of_a_rollout_has_a_picture() -> None:
    assert {world_in(name).status.rollout.step for name in STATES} == set(Step)


# Neither Ready nor Degraded ever has these: they are other conditions', of events, or of the history.
ELSEWHERE = {
    *(Reason.IDLE, Reason.ACTION_REFUSED, Reason.FIRST_LOAD, Reason.ADAPTER_UPDATED, Reason.PROMOTED),
    *(Reason.IMPORTED, Reason.IMPORTING, Reason.LOADED, Reason.LOADING, Reason.UNLOADED, Reason.MERGED_ONLY),
    *(Reason.ENGINE_PLUGIN, Reason.ENGINE_PLUGIN_DIFFERS, Reason.ENGINE_PLUGIN_NOT_ASKED, Reason.NO_ENGINE_PLUGIN),
    *(Reason.ONE_ADAPTER_SLOT, Reason.NOT_REQUESTED, Reason.BUILT, Reason.BUILDING, Reason.STARTING),
    *(Reason.VALIDATING, Reason.PASSED, Reason.SHIFTING, Reason.SWITCHING, Reason.OBSERVING),
    Reason.ROLLED_BACK_BY_USER,
}
# Another state looks just the same, with another name of the problem or other words in the message.
ALIKE = {
    Reason.RUNTIME_UPDATING_NOT_ALLOWED: "base-without-lora",
    Reason.STORE_NOT_MOUNTED: "base-without-lora",
    Reason.NO_VLLM_CONTAINER: "base-without-lora",
    Reason.API_KEY_NOT_READABLE: "base-without-lora",
    Reason.IMPORT_FAILED: "import-rejected",
    Reason.BUILD_FAILED: "build-failed",
    Reason.VALIDATION_DEADLINE_EXCEEDED: "validation-inconclusive",
    Reason.NOT_APPROVED: "not-approved",
    Reason.CHECKS_FAILED: "rolled-back",
    Reason.BACKEND_UNAVAILABLE: "rolled-back-by-death",
    Reason.NO_DATA: "rolled-back",
}


def test_each_reason_that_ready_or_degraded_can_have_has_a_picture() -> None:
    """A new reason is to be put into one of the two lists, or into a state."""
    seen = {
        condition.reason
        for name in STATES
        for condition in world_in(name).status.conditions
        if condition.type in (ConditionType.READY, ConditionType.DEGRADED)
    }
    assert set(Reason) - ELSEWHERE - set(ALIKE) - seen == set()
    assert (ELSEWHERE | set(ALIKE)) & seen == set()
    assert set(ALIKE.values()) <= set(STATES)


@pytest.mark.parametrize("name", [name for name, state in STATES.items() if state.final])
def test_what_is_final_is_as_it_was_after_an_hour(name: str) -> None:
    world = copy.deepcopy(world_in(name))
    before = (world.served, world.reason("Stalled"), world.reason("Ready"))
    settle(world, 60, tick=60, slow=True)
    assert (world.served, world.reason("Stalled"), world.reason("Ready")) == before
