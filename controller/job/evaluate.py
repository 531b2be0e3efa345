"""Evaluate: scores every suite through both live endpoints, times both under the same load, and keeps the result.

It measures and gives no verdict: that is `controller/domain/checks.py`. Must not know what serves.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
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

SCORE_CONCURRENCY = 8
ROUNDS = 4
Prompt = tuple[Example, int]


def run_evaluate(
    contract: EvaluateContract,
    progress: Progress,
    clock: Callable[[], float] = time.perf_counter,
    now: Callable[[], str] = utc_now,
) -> EvaluateResult:
    """Scores and throughput; what is known of an artifact is kept beside it.

    Raises PermanentError for a bad suite or artifact, TransientError if an endpoint is not there, OSError if the
    result cannot be kept.
    """
    progress.stage("fetch")
    statement = _statement(contract)
    started = now()
    read = _read_suites(contract, progress)
    suites = [(suite, data.examples) for suite, data in read]
    key = Path(contract.api_key_file).read_text().strip() if contract.api_key_file else None
    with ExitStack() as stack:
        concurrency = max(SCORE_CONCURRENCY, contract.benchmark.concurrency if contract.benchmark else 0)
        reference = stack.enter_context(Chat(contract.reference, key, connections=concurrency, clock=clock))
        candidate = stack.enter_context(Chat(contract.candidate, key, connections=concurrency, clock=clock))
        for chat in (reference, candidate):
            chat.must_serve()
        progress.stage("score", 2 * sum(len(e) for _, e in suites), "answers")
        results = tuple(score(s, examples, reference, candidate, progress) for s, examples in suites)
        timed = None
        if contract.benchmark is not None:
            prompts = [(example, suite.max_tokens) for suite, examples in suites for example in examples]
            timed = benchmark(contract.benchmark, prompts, reference, candidate, progress, clock)
        for chat in (reference, candidate):  # a Service that was pointed elsewhere meanwhile: whose scores are these?
            chat.must_serve()
    result = EvaluateResult(suites=results, benchmark=timed)
    if statement is not None:
        progress.stage("publish", unit="items")
        statement.publish(contract, result, [data.digest for _, data in read], started, now())
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
    suite: Suite, examples: Sequence[Example], reference: Chat, candidate: Chat, progress: Progress
) -> SuiteResult:
    """Shares of right answers, and of examples with the same answer from both. A failed answer is never right."""

    def ask(chat: Chat, example: Example) -> Answer:
        answer = chat.ask(example.messages, suite.max_tokens)
        progress.advance()
        return answer

    with _pool(SCORE_CONCURRENCY) as pool:
        of_reference = pool.map(lambda e: ask(reference, e), examples)
        of_candidate = pool.map(lambda e: ask(candidate, e), examples)
        pairs = list(zip(examples, of_reference, of_candidate, strict=True))

    def share(right: Sequence[bool]) -> float:
        return sum(right) / len(examples)

    def correct(answer: Answer, example: Example) -> bool:
        return answer.text is not None and is_right(suite.scorer, answer.text, example.expected)

    return SuiteResult(
        name=suite.name,
        samples=len(examples),
        reference=share([correct(r, e) for e, r, _ in pairs]),
        candidate=share([correct(c, e) for e, _, c in pairs]),
        agreement=share([r.text is not None and r.text == c.text for _, r, c in pairs]),
        errors=sum((r.text is None) + (c.text is None) for _, r, c in pairs),
    )


def benchmark(
    spec: Benchmark,
    prompts: Sequence[Prompt],
    reference: Chat,
    candidate: Chat,
    progress: Progress,
    clock: Callable[[], float] = time.perf_counter,
) -> BenchmarkResult:
    """The same prompts to both, in rounds that take turns (R C, C R, ...), so that drift hits both alike."""
    wanted = [prompts[i % len(prompts)] for i in range(spec.requests)]
    rounds = [r for r in (wanted[i::ROUNDS] for i in range(ROUNDS)) if r]
    progress.stage("benchmark", 2 * len(wanted), "answers")
    runs: dict[str, list[_Run]] = {"reference": [], "candidate": []}
    order = [("reference", reference), ("candidate", candidate)]
    for _, chat in order:
        _load(chat, wanted[: spec.concurrency], spec.concurrency, clock, None)  # warm up: connections, caches
    for number, prompts_of_round in enumerate(rounds):
        for name, chat in order if number % 2 == 0 else reversed(order):
            runs[name].append(_load(chat, prompts_of_round, spec.concurrency, clock, progress))
    both = {name: _throughput(r) for name, r in runs.items()}
    slow, fast = (both[n].output_tokens_per_second for n in ("reference", "candidate"))
    speedup = fast / slow if slow > 0 and fast > 0 else None
    return BenchmarkResult(reference=both["reference"], candidate=both["candidate"], speedup=speedup)


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
