"""Evaluate: scores every suite through both live endpoints, times both under the same load, and keeps the result.

Without a reference the candidate is measured alone. It gives no verdict: that is `controller/domain/checks.py`. Must
not know what serves.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from controller.job.benchmark import benchmark, pool
from controller.job.chat import Answer, Chat
from controller.job.contract import EvaluateContract, Suite
from controller.job.document import utc_now
from controller.job.outcomes import Scored, scored
from controller.job.progress import Progress
from controller.job.sources import downloader_for, local_file
from controller.job.statement import Kept, Statement
from controller.job.store import Store
from controller.job.suite import MAX_BYTES, Example, Examples, read_suite
from controller.job.summary import EvaluateResult

log = logging.getLogger("adapterrelease.job")

SCORE_CONCURRENCY = 8


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
        found = [score(s, examples, reference, candidate, progress) for s, examples in suites]
        timed = None
        if contract.benchmark is not None:
            prompts = [(example, suite.max_tokens) for suite, examples in suites for example in examples]
            timed = benchmark(contract.benchmark, prompts, reference, candidate, progress, clock)
        for chat in chats.values():  # a Service that was pointed elsewhere meanwhile: whose scores are these?
            chat.must_serve()
    result = EvaluateResult(suites=tuple(f.result for f in found), benchmark=timed.result if timed else None)
    if statement is not None:
        progress.stage("publish", unit="items")
        seconds = {stage: round(took, 3) for stage, took in progress.seconds.items()}
        digests = [data.digest for _, data in read]
        beside = Kept(digests, found, timed.curves if timed else None, started, now(), seconds)
        statement.publish(contract, result, beside)
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
) -> Scored:
    """Both are asked every example of the suite."""

    def ask(chat: Chat, example: Example) -> Answer:
        answer = chat.ask(example.messages, suite.max_tokens)
        progress.advance()
        return answer

    with pool(SCORE_CONCURRENCY) as threads:
        of_reference = threads.map(partial(ask, reference), examples) if reference is not None else None
        of_candidate = list(threads.map(partial(ask, candidate), examples))
        compared = list(of_reference) if of_reference is not None else None
    return scored(suite, examples, compared, of_candidate)
