"""Times reference and candidate under the same load, in rounds that take turns, so that drift hits both alike.

Must not know what the answers are good for.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from controller.job.chat import Answer, Chat
from controller.job.contract import Benchmark
from controller.job.evaluation import Curves, Quantiles, Round, Turn
from controller.job.progress import Progress
from controller.job.suite import Example
from controller.job.summary import BenchmarkResult, Throughput

ROUNDS = 4
Prompt = tuple[Example, int]


@dataclass(frozen=True)
class Timed:
    """The result, and what a report draws of it."""

    result: BenchmarkResult
    curves: Curves


def benchmark(
    spec: Benchmark,
    prompts: Sequence[Prompt],
    reference: Chat | None,
    candidate: Chat,
    progress: Progress,
    clock: Callable[[], float] = time.perf_counter,
) -> Timed:
    """The same prompts to both, in rounds that take turns (R C, C R, ...)."""
    wanted = [prompts[i % len(prompts)] for i in range(spec.requests)]
    rounds = [r for r in (wanted[i::ROUNDS] for i in range(ROUNDS)) if r]
    order = [chat for chat in (reference, candidate) if chat is not None]
    progress.stage("benchmark", len(order) * len(wanted), "answers")
    runs: list[list[Run]] = [[] for _ in order]
    for chat in order:
        _load(chat, wanted[: spec.concurrency], spec.concurrency, clock, None)  # warm up: connections, caches
    for number, prompts_of_round in enumerate(rounds):
        turns = list(zip(order, runs, strict=True))
        for chat, its_runs in turns if number % 2 == 0 else reversed(turns):
            its_runs.append(_load(chat, prompts_of_round, spec.concurrency, clock, progress))
    *compared, fast = runs
    return timed(compared[0] if compared else None, fast)


@contextmanager
def pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """A pool that, when the job is asked to stop, drops what it has not begun."""
    executor = ThreadPoolExecutor(threads)
    try:
        yield executor
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


Run = tuple[list[Answer], float]  # of one round: its answers, and how long it took


def _load(
    chat: Chat, prompts: Sequence[Prompt], concurrency: int, clock: Callable[[], float], progress: Progress | None
) -> Run:
    """All answers, and the seconds from the first request to the last answer."""

    def ask(prompt: Prompt) -> Answer:
        answer = chat.ask(prompt[0].messages, prompt[1])
        if progress is not None:
            progress.advance()
        return answer

    began = clock()
    with pool(concurrency) as threads:
        answers = list(threads.map(ask, prompts))
    return answers, clock() - began


def timed(slow: Sequence[Run] | None, fast: Sequence[Run]) -> Timed:
    return Timed(_result(slow, fast), _curves(slow, fast))


def _result(slow: Sequence[Run] | None, fast: Sequence[Run]) -> BenchmarkResult:
    reference, candidate = (_throughput(slow) if slow is not None else None), _throughput(fast)
    return BenchmarkResult(reference=reference, candidate=candidate, speedup=_speedup(reference, candidate))


def _speedup(slow: Throughput | None, fast: Throughput) -> float | None:
    if slow is None or slow.output_tokens_per_second <= 0 or fast.output_tokens_per_second <= 0:
        return None
    return fast.output_tokens_per_second / slow.output_tokens_per_second


def _throughput(runs: Sequence[Run]) -> Throughput:
    answers = [a for answers, _ in runs for a in answers]
    seconds = max(sum(s for _, s in runs), 1e-9)
    latencies = _latencies(runs)
    return Throughput(
        requests_per_second=len(latencies) / seconds,
        output_tokens_per_second=sum(a.tokens for a in answers if a.text is not None) / seconds,
        mean_latency_seconds=statistics.fmean(latencies) if latencies else 0.0,
        p95_latency_seconds=_quantile(latencies, 95) if latencies else 0.0,
        errors=len(answers) - len(latencies),
    )


def _latencies(runs: Sequence[Run]) -> list[float]:
    """Of the requests that had an answer, in ascending order."""
    return sorted(a.seconds for answers, _ in runs for a in answers if a.text is not None)


def _quantile(ascending: Sequence[float], percent: int) -> float:
    """By nearest rank: a latency that was measured."""
    return ascending[max(0, -(-percent * len(ascending) // 100) - 1)]


def _curves(slow: Sequence[Run] | None, fast: Sequence[Run]) -> Curves:
    others: Sequence[Run | None] = slow if slow is not None else [None] * len(fast)
    return Curves(
        rounds=tuple(
            Round(reference=_turn(a) if a is not None else None, candidate=_turn(b))
            for a, b in zip(others, fast, strict=True)
        ),
        latency_quantiles=Quantiles(
            reference=_quantiles(slow) if slow is not None else None, candidate=_quantiles(fast)
        ),
    )


def _turn(run: Run) -> Turn:
    answers, seconds = run
    good = [a for a in answers if a.text is not None]
    return Turn(
        seconds=round(seconds, 6),
        requests=len(good),
        output_tokens=sum(a.tokens for a in good),
        errors=len(answers) - len(good),
    )


def _quantiles(runs: Sequence[Run]) -> tuple[float, ...]:
    ascending = _latencies(runs)
    return tuple(round(_quantile(ascending, percent), 6) for percent in range(101)) if ascending else ()
