"""The board that Prometheus reads: what appears, what vanishes, and what is counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from controller.api.status import AdapterReleaseStatus, HistoryEntry, RolloutStatus, Step
from controller.domain.snapshot import Snapshot
from controller.reconcile.board import Board
from controller.reconcile.happenings import SWITCHES
from controller.runtime.metrics import registry_with
from controller.runtime.resources import Key
from tests.builders import D1, T0, adapter, base, release
from tests.runtime.waiting import FakeClock

KEY = Key("llm", "support-bot")
AT = T0.timestamp()


class Shown:
    """What a scrape of the process that has the board gets, of the board's: by name and values of the labels."""

    def __init__(self, board: Board) -> None:
        self.samples = {
            (s.name.removeprefix("adapterrelease_"), *s.labels.values()): s.value
            for family in registry_with(board).collect()
            for s in family.samples
            if s.name.startswith("adapterrelease_")
        }

    def of(self, name: str) -> dict[tuple[str, ...], float]:
        return {key[1:]: value for key, value in self.samples.items() if key[0] == name}


def seen(name: str = "support-bot", base_name: str = "tiny-llama", namespace: str = "llm") -> Snapshot:
    made = release(name).metadata(namespace=namespace).spec(baseRef={"name": base_name}).build()
    return Snapshot(made, base=base(name=base_name))


def look(board: Board, *snapshots: Snapshot, waits: Iterable[str] = ()) -> None:
    for snapshot in snapshots:
        board.looked(snapshot, snapshot.release.status, list(waits))


def test_nothing_is_shown_before_the_first_look() -> None:
    assert Shown(Board()).samples == {}


def test_a_release_is_shown_until_it_is_gone() -> None:
    board = Board(lambda namespace: T0)
    look(board, seen())
    board.synced(KEY, T0)
    assert ("llm", "support-bot", "tiny-llama", "Experimental", "support-bot") in Shown(board).of("info")
    board.gone(KEY)
    left = {key[0] for key in Shown(board).samples}
    assert left == {f"step_duration_seconds_{end}" for end in ("bucket", "count", "sum")}, "of all releases together"
    board.gone(KEY)


def test_what_was_true_at_an_earlier_look_is_gone() -> None:
    board = Board()
    first = seen()
    status = first.release.status.model_copy(update={"rollout": RolloutStatus(step=Step.LOADING)})
    board.looked(first, status, ())
    look(board, first)
    assert Shown(board).of("rollout_step") == {("llm", "support-bot", "Idle"): 1}


def test_a_base_that_two_releases_share_is_there_once_and_as_long_as_one_of_them() -> None:
    board = Board()
    look(board, seen(), seen("other"), seen("third", base_name="big"))
    names = {key[1] for key in Shown(board).of("base_info")}
    assert (names, len(Shown(board).of("base_info"))) == ({"tiny-llama", "big"}, 2)
    board.gone(KEY)
    assert {key[1] for key in Shown(board).of("base_info")} == {"tiny-llama", "big"}
    board.gone(Key("llm", "other"))
    assert {key[1] for key in Shown(board).of("base_info")} == {"big"}


def test_bases_of_the_same_name_in_two_namespaces_are_two() -> None:
    board = Board()
    look(board, seen(), seen(namespace="prod"))
    assert {key[:2] for key in Shown(board).of("base_info")} == {("llm", "tiny-llama"), ("prod", "tiny-llama")}


def test_a_release_that_was_made_anew_for_another_base_leaves_nothing_of_the_old_one() -> None:
    """Nobody has seen it gone: keys come together in the queue."""
    board = Board()
    look(board, seen(), seen("other"), seen(base_name="big"))
    assert {key[1] for key in Shown(board).of("base_info")} == {"tiny-llama", "big"}, "the other one has it still"
    look(board, seen("other", base_name="big"))
    assert {key[1] for key in Shown(board).of("base_info")} == {"big"}


def test_a_base_that_was_deleted_is_not_shown_any_more() -> None:
    board = Board()
    look(board, seen())
    look(board, replace(seen(), base=None))
    assert Shown(board).of("base_info") == {}


# -- counters


def entry(revision: int, reason: str) -> HistoryEntry:
    return HistoryEntry(revision=revision, backend=adapter(D1), since=T0, reason=reason)


def test_every_counter_of_switches_is_there_as_zero_whatever_the_history_says() -> None:
    """Else the first switch is hidden from `increase`, and a restart of the controller looks like many switches."""
    board = Board()
    snapshot = seen()
    board.looked(snapshot, AdapterReleaseStatus(history=[entry(9, "AdapterUpdated")]), ())
    found = Shown(board).of("switches_total")
    assert found == {(*KEY, *switch): 0 for switch in SWITCHES}


def test_a_switch_is_counted_once_and_not_again_when_the_pass_is_repeated() -> None:
    board = Board()
    look(board, seen())
    before, after = AdapterReleaseStatus(), AdapterReleaseStatus(history=[entry(1, "FirstLoad")])
    board.wrote(KEY, before, after, T0)
    board.wrote(KEY, after, after, T0)
    found = Shown(board).of("switches_total")
    assert found[*KEY, "Adapter", "FirstLoad"] == sum(found.values()) == 1


def test_a_step_that_ended_is_in_its_bucket_and_all_steps_are_there_from_the_beginning() -> None:
    board = Board()
    look(board, seen())
    building = AdapterReleaseStatus(rollout=RolloutStatus(step=Step.BUILDING, started_at=T0))
    assert Shown(board).of("step_duration_seconds_count") == {(str(s),): 0 for s in Step if s is not Step.IDLE}
    board.wrote(KEY, building, AdapterReleaseStatus(), T0 + timedelta(minutes=4))
    found = Shown(board)
    assert found.of("step_duration_seconds_sum")["Building",] == 240
    assert found.of("step_duration_seconds_bucket")["Building", "300.0"] == 1
    assert found.of("step_duration_seconds_bucket")["Building", "120.0"] == 0


def test_buckets_go_from_a_second_to_four_hours() -> None:
    board = Board()
    look(board, seen())
    bounds = {float(key[1]) for key in Shown(board).of("step_duration_seconds_bucket")}
    assert (min(bounds), sorted(bounds)[-2], sorted(bounds)[-1]) == (1, 4 * 3600, float("inf"))


def test_seconds_of_waiting_for_people_grow_while_it_waits_and_stay_when_it_does_not() -> None:
    clock = FakeClock()
    board = Board(clock=clock)

    def waited() -> float:
        return Shown(board).of("waited_for_people_seconds_total")[tuple(KEY)]

    look(board, seen())
    clock.advance(50)
    assert waited() == 0
    look(board, seen(), waits=["Decision"])
    clock.advance(30)
    assert waited() == 30, "also between two looks"
    look(board, seen(), waits=["Decision", "Mending"])
    clock.advance(10)
    assert waited() == 40
    look(board, seen())
    clock.advance(1000)
    assert waited() == 40
    look(board, seen(), waits=["Decision"])
    clock.advance(1)
    assert waited() == 41


def test_seconds_of_waiting_never_go_back_not_even_by_a_scrape_in_the_midst_of_a_look() -> None:
    """A counter that goes back is taken for one that began at 0: its whole value would be counted again."""
    clock = FakeClock()
    board = Board(clock=clock)
    shown: list[float] = []

    class Scraped(list[str]):
        """Nothing to wait for; while the look goes through it, time passes and Prometheus comes."""

        def __iter__(self) -> Iterator[str]:
            clock.advance(5)
            shown.append(Shown(board).of("waited_for_people_seconds_total")[tuple(KEY)])
            return super().__iter__()

    look(board, seen(), waits=["Decision"])
    clock.advance(30)
    snapshot = seen()
    board.looked(snapshot, snapshot.release.status, Scraped())
    shown.append(Shown(board).of("waited_for_people_seconds_total")[tuple(KEY)])
    assert shown == [35, 35]


def test_a_sync_is_shown_with_its_time_and_a_failed_one_does_not_move_it() -> None:
    board = Board()
    board.synced(KEY, T0)
    assert Shown(board).samples == {}, "of a release that was never seen"
    look(board, seen())
    assert Shown(board).of("last_successful_sync_timestamp_seconds") == {}
    board.synced(KEY, T0)
    look(board, seen())
    assert Shown(board).of("last_successful_sync_timestamp_seconds") == {tuple(KEY): AT}


# -- the rest


@pytest.mark.parametrize(("known", "shown"), [(T0, {("llm",): AT}), (None, {})])
def test_the_age_of_a_token_is_shown_where_it_is_known_and_for_namespaces_with_releases(known: Any, shown: Any) -> None:
    board = Board({"llm": known, "empty": T0}.get)
    look(board, seen(), seen("other"))
    assert Shown(board).of("engine_token_created_timestamp_seconds") == shown


def test_a_board_that_was_closed_shows_nothing_whatever_still_runs() -> None:
    board = Board(lambda namespace: T0)
    look(board, seen())
    board.close()
    look(board, seen())
    board.synced(KEY, T0)
    board.wrote(KEY, AdapterReleaseStatus(), AdapterReleaseStatus(history=[entry(1, "FirstLoad")]), T0)
    assert Shown(board).samples == {}
