"""What rounds say about the plugin's cost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from typing import Any

import pytest

from bench.overhead.guidellm import block_in
from bench.overhead.processor import Processes
from bench.overhead.statistics import Block, Cost, Estimate, Round, Spent, Work, cost, estimate, table


def rounds(slower: float = 1.0, later: float = 0.0, noise: float = 0.002, first: float = 0.02) -> list[Round]:
    """Sixteen rounds, on a machine that is at times half as fast, of a plugin of known cost."""
    choice = random.Random(1)

    def block(pace: float, factor: float = 1.0, more: float = 0.0) -> Block:
        jitter = 1 + choice.uniform(-noise, noise)
        return Block(pace * factor * jitter, 1000, (first * jitter + more,) * 4)

    paces = [choice.choice((1.0, 2.0)) for _ in range(16)]
    return [Round(block(p), block(p), block(p, slower, later)) for p in paces]


def test_a_cost_is_found_on_a_machine_of_changing_speed() -> None:
    found = cost(rounds(slower=1 / 0.95, later=0.003))
    assert found.throughput.value == pytest.approx(0.95, abs=0.002)
    assert 0 < found.throughput.high - found.throughput.low < 0.005
    assert found.later.value == pytest.approx(0.003, abs=0.0001)
    assert 0 < found.later.high - found.later.low < 0.0005
    assert found.again_throughput.value == pytest.approx(1, abs=0.005)
    assert found.again_later.value == pytest.approx(0, abs=0.0005)
    assert found.verdict == "not met"


def test_no_cost_is_met() -> None:
    assert cost(rounds()).verdict == "met"


@pytest.mark.parametrize(
    ("costs", "verdict"),
    [
        ({"slower": 1 / 0.985}, "met"),
        ({"slower": 1 / 0.975}, "not met"),
        ({"later": 0.0008}, "met"),
        ({"later": 0.0013}, "not met"),
        ({"later": 0.0013, "first": 0.2}, "met"),  # within 2 %
        ({"later": 0.005, "first": 0.2}, "not met"),
    ],
)
def test_each_limit_decides(costs: dict[str, float], verdict: str) -> None:
    assert cost(rounds(**costs, noise=0.0005)).verdict == verdict


def test_an_interval_that_holds_the_limit_decides_nothing() -> None:
    assert cost(rounds(noise=0.2)).verdict.startswith("open")


def test_an_interval_is_held_against_the_limit_and_not_its_middle() -> None:
    def verdict(low: float, high: float) -> str:
        middle = Estimate((low + high) / 2, low, high)
        return Cost(9, 9, middle, Estimate(1, 1, 1), 0.02, Estimate(0, 0, 0), Estimate(0, 0, 0)).verdict

    assert verdict(0.985, 1.0) == "met"
    assert verdict(0.975, 0.995).startswith("open")
    assert verdict(0.96, 0.979) == "not met"


@pytest.mark.parametrize(
    ("again", "later"), [((0.97, 1), (0, 0)), ((1, 1.03), (0, 0)), ((1, 1), (-0.002, 0)), ((1, 1), (0, 0.002))]
)
def test_nothing_is_decided_where_the_noise_is_larger_than_the_limit(
    again: tuple[float, float], later: tuple[float, float]
) -> None:
    good, none = Estimate(1, 1, 1), Estimate(0, 0, 0)
    assert Cost(9, 9, good, good, 0.02, none, none).verdict == "met"
    assert "noise" in Cost(9, 9, good, Estimate(1, *again), 0.02, none, Estimate(0, *later)).verdict


@pytest.mark.parametrize(("more", "verdict"), [(1.0, "met"), (1.015, "met"), (1.03, "not met")])
def test_processor_time_counts_as_throughput(more: float, verdict: str) -> None:
    """Requests past the plugin wait for the processor, too, that those through it take: only this shows it."""
    bare = [Spent(pace, 10 * pace) for pace in (0.01, 0.02, 0.01)]
    works = [Work(b, b, Spent(b.api_server + (more - 1) * b.server, b.server)) for b in bare]
    assert cost(rounds(noise=0.0005), works).verdict == verdict


def test_what_the_engine_took_by_chance_is_not_the_plugins() -> None:
    works = [Work(Spent(0.01, 0.1), Spent(0.01, 0.1), Spent(0.01, engine)) for engine in (0.09, 0.12, 0.12)]
    assert cost(rounds(noise=0.0005), works).work == Estimate(1, 1, 1)


def test_the_plugin_is_held_against_both_bare_ports() -> None:
    def block(seconds: float, first: float) -> Block:
        return Block(seconds, 100, (first,))

    found = cost([Round(block(1, 0.01), block(4, 0.03), block(2, 0.02))] * 8)
    assert (found.throughput.value, found.again_throughput.value) == (pytest.approx(1), pytest.approx(0.25))
    assert (found.later.value, found.again_later.value) == (pytest.approx(0), pytest.approx(0.02))


BURN = "import os, time\nwhile time.process_time() < 0.3: pass\nos.write(1, b'.'); os.read(0, 1)"


@pytest.mark.parametrize("environment", ["os.environ", "{}"])  # an engine's has gone: its title stands there
def test_processor_time_is_that_of_the_first_process_and_of_all(environment: str) -> None:
    fork = f"import os, sys\nos.fork() or os.execve(sys.executable, [sys.executable, '-c', {BURN!r}], {environment})\n"
    with subprocess.Popen(
        [sys.executable, "-c", fork + BURN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"OF_THIS_TEST": "a b"},
    ) as process:
        assert process.stdout is not None and process.stdout.read(2) == b".."
        first, of_all = Processes("OF_THIS_TEST", "a b").seconds()
        assert first >= 0.29 and of_all - first >= 0.29
        assert Processes("OF_THIS_TEST", "a").seconds() == (0, 0)
        assert process.stdin is not None
        process.stdin.close()


def test_nothing_is_decided_by_few_rounds() -> None:
    assert cost(rounds()[:7]).verdict == "open: too few rounds"


def test_the_time_to_the_first_token_is_that_of_rounds_of_its_own_where_there_are_some() -> None:
    found = cost(rounds(later=0.005, first=0.2), firsts=rounds(later=0.0003)[:10])
    assert (found.rounds, found.first_rounds) == (16, 10)
    assert found.first_token == pytest.approx(0.02, rel=0.01)
    assert found.later.value == pytest.approx(0.0003, abs=0.0001)
    assert cost(rounds(), firsts=rounds()[:7]).verdict == "open: too few rounds"


def test_an_estimate_of_values_that_do_not_vary_has_no_width() -> None:
    found = estimate([2.0] * 5)
    assert found.value == found.low == found.high == 2.0


def test_the_table_has_a_line_for_each_concurrency() -> None:
    _, _, one, eight = table({1: cost(rounds()), 8: cost(rounds(slower=2))}).splitlines()
    assert one.startswith("| 1 | 16 | ") and one.endswith("| met |")
    assert eight.startswith("| 8 | 16 | 0.4998 (0.499") and " | 16 | 20.0" in eight and eight.endswith("| not met |")


def report(**requests: Any) -> dict[str, Any]:
    return {"benchmarks": [{"requests": requests}]}


def test_guidellms_report_is_read_from_its_requests() -> None:
    def request(start: float, end: float) -> dict[str, float]:
        return {
            "request_start_time": start,
            "request_end_time": end,
            "time_to_first_token_ms": 20,
            "output_tokens": 32,
        }

    block = block_in(report(successful=[request(10, 12), request(11, 14)], errored=None))
    assert (block.seconds, block.tokens, block.first) == (4, 64, (0.02, 0.02))


@pytest.mark.parametrize("requests", [{"successful": [], "errored": []}, {"successful": [{}], "errored": [{}]}])
def test_a_block_with_a_failed_request_is_none(requests: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="failed"):
        block_in(report(**requests))
