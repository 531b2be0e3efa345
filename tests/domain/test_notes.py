"""What is told of a change reads as a sentence, and is told once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from controller.api.reasons import Reason
from controller.api.status import AdapterReleaseStatus, Condition
from controller.domain.notes import Note, awaiting_approval, notes, refusal
from tests.builders import T0
from tests.domain.lives import break_it, observing, serving_v1
from tests.domain.test_shifting import at, promoting
from tests.domain.turns import run, settle
from tests.domain.world import World

SENTENCE = re.compile(r"[A-Z].*[.!?]", re.DOTALL)


def broken() -> World:
    world = observing()
    settle(world, 3)
    break_it(world)
    return world


def without_base() -> World:
    world = serving_v1()
    world.base_is_deleted()
    return world


LIVES: list[Callable[[], World]] = [
    World,
    lambda: serving_v1().set_version(2),
    lambda: serving_v1().promote(),
    lambda: serving_v1(plugin=True).promote(),
    lambda: World(merge_only=(1,)),
    lambda: promoting(),
    lambda: serving_v1().edit(rollback={"revision": 7}),
    broken,
    without_base,
]


def told(world: World, finish: str = "good") -> Iterator[Note]:
    for done in run(world, 120, finish=finish):
        yield from done.notes


@pytest.mark.parametrize("finish", ["good", "bad", "fails", "nan"])
@pytest.mark.parametrize("life", LIVES)
def test_every_note_of_a_life_is_a_sentence(life: Callable[[], World], finish: str) -> None:
    found = list(told(life(), finish))
    assert [n.message for n in found if not SENTENCE.fullmatch(n.message) or n.message.endswith("..")] == []
    assert not any("step " in n.message for n in found if n.type == "Normal"), "a step is told by its words"


def test_a_promotion_is_told_in_this_order() -> None:
    found = [n.message.partition(",")[0].partition(":")[0].rstrip(".") for n in told(serving_v1().promote())]
    wanted = [
        "The artifact is being built",
        "The artifact is built",
        "The merged model is starting",
        "The artifact is being validated",
        "The artifact passed its validation",
        "The route moves to its new backend",
        "The artifact has the traffic and is being watched",
        "The release is promoted",
        "The release is ready",
    ]
    assert [m for m in found if m in wanted] == wanted


def test_a_step_is_told_with_its_deadline() -> None:
    (begun,) = [n for n in told(World()) if n.reason == Reason.IMPORTING]
    assert begun == Note(
        "Normal", "Importing", "The adapter is being imported, until 2026-01-01T00:15:00Z at the latest."
    )


def status_with(*conditions: tuple[str, str, str, str]) -> AdapterReleaseStatus:
    made = [
        Condition(type=kind, status=status, reason=reason, message=message, last_transition_time=T0)
        for kind, status, reason, message in conditions
    ]
    return AdapterReleaseStatus(conditions=made)


BEFORE = status_with()


def test_a_message_that_changes_is_no_news_and_a_reason_is() -> None:
    old = status_with(("AdapterLoaded", "False", "LoadFailed", "restart 1"))
    assert notes(old, status_with(("AdapterLoaded", "False", "LoadFailed", "restart 2"))) == ()
    assert len(notes(old, status_with(("AdapterLoaded", "False", "NoReadyBasePod", "restart 2")))) == 1


def test_two_conditions_that_say_the_same_are_told_once() -> None:
    said = ("False", "ImportFailed", "no such file.")
    (note,) = notes(BEFORE, status_with(("AdapterImported", *said), ("Promoted", *said)))
    assert note == Note("Warning", "ImportFailed", "The adapter was not imported: no such file.")


@pytest.mark.parametrize(
    "quiet",
    [
        ("Validated", "False", "NotRequested", "x"),
        ("Promoted", "False", "Pending", "x"),
        ("ArtifactBuilt", "Unknown", "Building", "x"),
        ("GapFree", "True", "EnginePlugin", "x"),
        ("Ready", "False", "Pending", "x"),
        ("Degraded", "False", "AsExpected", ""),
    ],
)
def test_what_is_no_news_is_not_told(quiet: tuple[str, str, str, str]) -> None:
    assert notes(BEFORE, status_with(quiet)) == ()


@pytest.mark.parametrize("reason", ["Unloaded", "MergedOnly"])
def test_an_adapter_that_is_not_needed_is_no_warning(reason: str) -> None:
    (note,) = notes(BEFORE, status_with(("AdapterLoaded", "False", reason, "x")))
    assert note.type == "Normal"


def test_a_canary_that_waits_says_what_to_write() -> None:
    world = settle(at(50), 30)
    said = awaiting_approval(world.status)
    assert SENTENCE.fullmatch(said)
    assert said.startswith("The canary waits at 50 % until a person goes on: set spec.rollout.canary.approved to {")


def test_a_refusal_says_what_was_to_be_done_and_who_said_no() -> None:
    assert refusal("run a Deployment: exceeded quota") == "An action was refused: run a Deployment: exceeded quota."


def test_a_warning_is_what_failed() -> None:
    kinds = {(n.reason, n.type) for n in told(broken())}
    assert ("RolledBack", "Warning") in kinds
    assert ("Serving", "Normal") in {(n.reason, n.type) for n in told(World())}
