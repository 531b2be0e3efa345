"""Runs one job: reads its contract, does the stages, and says how it ended by summary and exit code.

Must not know how any stage works.
"""

from __future__ import annotations

import logging
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NoReturn

from controller.errors import PermanentError
from controller.job.build import run_build
from controller.job.contract import BuildContract, EvaluateContract, ImportContract, parse_contract
from controller.job.evaluate import run_evaluate
from controller.job.failures import failure, failure_of
from controller.job.importer import run_import
from controller.job.progress import Progress, ProgressServer
from controller.job.reasons import Reason
from controller.job.summary import FailureKind, Summary, termination_message

log = logging.getLogger("adapterrelease.job")

DONE, FAILED, REJECTED, NO_VERDICT = 0, 1, 2, 3
Contract = ImportContract | BuildContract | EvaluateContract
Kind = Literal["Import", "Build", "Evaluate", "Unknown"]


class Terminated(BaseException):
    """SIGTERM: the node drains, the job was deleted, or its deadline is over."""


def main(contract: Path, termination_log: Path, progress_port: int | None) -> int:
    """Runs the job in `contract`; the exit code: 0 done, 1 failed for now, 2 rejected for good."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        with ExitStack() as stack:
            progress = Progress()
            if progress_port is not None:
                _serve_progress(stack, progress, progress_port)
            summary = run(contract, progress)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the end is known: let it be written
        _say(summary, termination_log)
    finally:
        signal.signal(signal.SIGTERM, previous)
    return exit_code(summary)


def _say(summary: Summary, termination_log: Path) -> None:
    message = termination_message(summary)
    if termination_log.exists() or termination_log.parent != Path("/dev"):  # outside of a pod /dev has none
        termination_log.write_text(message, encoding="utf-8")
    print(message, flush=True)  # noqa: T201 - the result is what a job prints


def run(path: Path, progress: Progress) -> Summary:
    """Does the job; whatever happens ends in a summary."""
    kind: Kind = "Unknown"
    try:
        contract = _read(path)
        kind = contract.kind
        log.info("job %s for %s/%s", kind, contract.release.namespace, contract.release.name)
        result = _do(contract, progress)
        log.info("job %s done: %s", kind, progress.finish())
        return Summary(kind=kind, result=result)
    except Terminated:
        ended = failure(
            FailureKind.TRANSIENT, Reason.TERMINATED, "the job was asked to stop; a retry goes on from here"
        )
    except Exception as e:
        ended = failure_of(e)
    log.error("job %s failed: %s %s: %s", kind, ended.kind, ended.reason, ended.message)
    return Summary(kind=kind, failure=ended)


def _serve_progress(stack: ExitStack, progress: Progress, port: int) -> None:
    try:
        stack.enter_context(ProgressServer(progress, port))
    except OSError as e:  # progress is a comfort, the job is the work
        log.warning("progress is not served on port %d: %s", port, e)


def _do(contract: Contract, progress: Progress) -> Any:
    if isinstance(contract, ImportContract):
        return run_import(contract, progress)
    if isinstance(contract, BuildContract):
        return run_build(contract, progress)
    return run_evaluate(contract, progress)


def _read(path: Path) -> Contract:
    try:
        return parse_contract(path.read_bytes())
    except (OSError, ValueError) as e:
        raise PermanentError(f"contract {path}: {e}", reason=Reason.INVALID_CONTRACT) from e


def exit_code(summary: Summary) -> int:
    if summary.failure is None:
        return DONE
    return REJECTED if summary.failure.kind is FailureKind.PERMANENT else FAILED


def _terminate(_: int, __: FrameType | None) -> NoReturn:
    raise Terminated
