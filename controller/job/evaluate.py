"""Evaluate: scores every suite through both live endpoints, times both under the same load, and keeps the result.

Without a reference the candidate is measured alone. It gives no verdict: that is `controller/domain/checks.py`. Must
not know what serves.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from controller.job.chat import Answer, Chat
from controller.job.contract import Benchmark, EvaluateContract, Suite
from controller.job.document import utc_now
from controller.job.progress import Progress
from controller.job.sources import downloader_for, local_file
from controller.job.statement import Statement
from controller.job.store import Store
from controller.job.suite import MAX_BYTES, Example, Examples, is_right, read_suite
from controller.job.summary import BenchmarkResult, EvaluateResult, SuiteResult, Throughput

log = logging.getLogger("adapterrelease.job")

SCORE_CONCURRENCY = 8
ROUNDS = 4
Prompt = tuple[Example, int]


def run_evaluate(
    contract: EvaluateContract,
    progress: Progress,
    clock: Callable[[], float] = time.perf_counter,
    now: Callable[[], str] = utc_now,
) -> EvaluateResult:
    """Scores and throughput; what is known of an artifact is kept beside it, and is not measured again.

    Raises PermanentError for a bad suite or artifact, TransientError if an endpoint is not there, OSError if the
    result cannot be kept.
    """
    progress.stage("fetch")
    statement = _statement(contract)
    if statement is not None and (kept := statement.kept()) is not None:
        log.info("%s: there already, so nothing is measured again", statement.path)
        return kept
    started = now()
    read = _read_suites(contract, progress)
    suites = [(suite, data.examples) for suite, data in read]
    key = Path(contract.api_key_file).read_text().strip() if contract.api_key_file else None
    with ExitStack() as stack:
        concurrency = max(SCORE_CONCURRENCY, contract.benchmark.concurrency if contract.benchmark else 0)
        asked = {"reference": contract.reference, "candidate": contract.candidate}
        chats = {
            who: stack.enter_context(Chat(endpoint, key, connections=concurrency, clock=clock))
            for who, endpoint in asked.items()
            if endpoint is not None
        }
        reference, candidate = chats.get("reference"), chats["candidate"]
        for chat in chats.values():
            chat.must_serve()
        progress.stage("score", len(chats) * sum(len(e) for _, e in suites), "answers")
        results = tuple(score(s, examples, reference, candidate, progress) for s, examples in suites)
        timed = None
        if contract.benchmark is not None:
            prompts = [(example, suite.max_tokens) for suite, examples in suites for example in examples]
            timed = benchmark(contract.benchmark, prompts, reference, candidate, progress, clock)
        for chat in chats.values():  # a Service that was pointed elsewhere meanwhile: whose scores are these?
            chat.must_serve()
    result = EvaluateResult(suites=results, benchmark=timed)
    if statement is not None:
        progress.stage("publish", unit="items")
        statement.publish(contract, result, [data.digest for _, data in read], started, now())
        return statement.kept() or result
    return result


def _statement(contract: EvaluateContract) -> Statement | None:
    if contract.store is None or contract.artifact is None:
        return None
    return Statement(Store(Path(contract.store)), contract.artifact)


def _read_suites(contract: EvaluateContract, progress: Progress) -> list[tuple[Suite, Examples]]:
    with tempfile.TemporaryDirectory() as directory:
        return [
            (
                suite,
                read_suite(
                    local_file(
                        suite.source, Path(directory), MAX_BYTES, progress.advance, downloader_for(suite.source)
                    ),
                    suite.name,
                ),
            )
            for suite in contract.suites
        ]


def score(
    suite: Suite, examples: Sequence[Example], reference: Chat | None, candidate: Chat, progress: Progress
) -> SuiteResult:
    """Shares of right answers, and of examples with the same answer from both. A failed answer is never right."""

    def ask(chat: Chat, example: Example) -> Answer:
        answer = chat.ask(example.messages, suite.max_tokens)
        progress.advance()
        return answer

    with _pool(SCORE_CONCURRENCY) as pool:
        of_reference = pool.map(partial(ask, reference), examples) if reference is not None else None
        of_candidate = list(pool.map(partial(ask, candidate), examples))
        compared = list(of_reference) if of_reference is not None else None

    def right(answers: Sequence[Answer]) -> float:
        pairs = zip(answers, examples, strict=True)
        return sum(a.text is not None and is_right(suite.scorer, a.text, e.expected) for a, e in pairs) / len(examples)

    def same(answers: Sequence[Answer]) -> float:
        pairs = zip(answers, of_candidate, strict=True)
        return sum(r.text is not None and r.text == c.text for r, c in pairs) / len(examples)

    return SuiteResult(
        name=suite.name,
        samples=len(examples),
        reference=None if compared is None else right(compared),
        candidate=right(of_candidate),
        agreement=None if compared is None else same(compared),
        errors=sum(answer.text is None for answer in [*of_candidate, *(compared or ())]),
    )


def benchmark(
    spec: Benchmark,
    prompts: Sequence[Prompt],
    reference: Chat | None,
    candidate: Chat,
    progress: Progress,
    clock: Callable[[], float] = time.perf_counter,
) -> BenchmarkResult:
    """The same prompts to both, in rounds that take turns (R C, C R, ...), so that drift hits both alike."""
    wanted = [prompts[i % len(prompts)] for i in range(spec.requests)]
    rounds = [r for r in (wanted[i::ROUNDS] for i in range(ROUNDS)) if r]
    order = [chat for chat in (reference, candidate) if chat is not None]
    progress.stage("benchmark", len(order) * len(wanted), "answers")
    runs: list[list[_Run]] = [[] for _ in order]
    for chat in order:
        _load(chat, wanted[: spec.concurrency], spec.concurrency, clock, None)  # warm up: connections, caches
    for number, prompts_of_round in enumerate(rounds):
        turns = list(zip(order, runs, strict=True))
        for chat, its_runs in turns if number % 2 == 0 else reversed(turns):
            its_runs.append(_load(chat, prompts_of_round, spec.concurrency, clock, progress))
    *compared, fast = (_throughput(r) for r in runs)
    slow = compared[0] if compared else None
    return BenchmarkResult(reference=slow, candidate=fast, speedup=_speedup(slow, fast))


def _speedup(slow: Throughput | None, fast: Throughput) -> float | None:
    if slow is None or slow.output_tokens_per_second <= 0 or fast.output_tokens_per_second <= 0:
        return None
    return fast.output_tokens_per_second / slow.output_tokens_per_second


@contextmanager
def _pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """A pool that, when the job is asked to stop, drops what it has not begun."""
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


_Run = tuple[list[Answer], float]


def _load(
    chat: Chat, prompts: Sequence[Prompt], concurrency: int, clock: Callable[[], float], progress: Progress | None
) -> _Run:
    """All answers, and the seconds from the first request to the last answer."""

    def ask(prompt: Prompt) -> Answer:
        answer = chat.ask(prompt[0].messages, prompt[1])
        if progress is not None:
            progress.advance()
        return answer

    began = clock()
    with _pool(concurrency) as pool:
        answers = list(pool.map(ask, prompts))
    return answers, clock() - began


def _throughput(runs: Sequence[_Run]) -> Throughput:
    answers = [a for answers, _ in runs for a in answers]
    good = [a for a in answers if a.text is not None]
    seconds = max(sum(s for _, s in runs), 1e-9)
    latencies = sorted(a.seconds for a in good)
    return Throughput(
        requests_per_second=len(good) / seconds,
        output_tokens_per_second=sum(a.tokens for a in good) / seconds,
        mean_latency_seconds=statistics.fmean(latencies) if latencies else 0.0,
        p95_latency_seconds=latencies[max(0, -(-95 * len(latencies) // 100) - 1)] if latencies else 0.0,
        errors=len(answers) - len(good),
    )
