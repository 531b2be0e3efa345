"""How far a command is: a bar on a terminal, plain lines elsewhere. To stderr, so that stdout is the result.

Must not know what the stages do.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from controller.job.progress import Progress

_LOG = "adapterrelease.job"
_EVERY = 0.2  # seconds


@contextmanager
def shown(progress: Progress) -> Iterator[Progress]:
    """Shows `progress` until the block is left, whatever ends it."""
    with _bar(progress) if sys.stderr.isatty() else _lines():
        yield progress


@contextmanager
def _lines() -> Iterator[None]:
    """What the job logs, as it logs it."""
    log = logging.getLogger(_LOG)
    handler, level = logging.StreamHandler(sys.stderr), log.level
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


@contextmanager
def _bar(progress: Progress) -> Iterator[None]:
    from rich import progress as rich
    from rich.console import Console

    columns = (
        rich.TextColumn("{task.description:<10}"),
        rich.BarColumn(),
        rich.TaskProgressColumn(),
        rich.TextColumn("{task.fields[rate]}"),
        rich.TimeElapsedColumn(),
        rich.TextColumn("ETA"),
        rich.TimeRemainingColumn(),
    )
    over = threading.Event()
    with rich.Progress(*columns, console=Console(stderr=True), refresh_per_second=5) as bar:
        follower = threading.Thread(target=_follow, args=(progress, bar, over), name="display", daemon=True)
        follower.start()
        try:
            yield
        finally:
            over.set()
            follower.join()


def _follow(progress: Progress, bar: Bar, over: threading.Event) -> None:
    """One line for each stage that there was: those that are over stay on the screen, complete."""
    task: TaskID | None = None
    shown_stage, ended = None, False
    while not ended:
        ended = over.wait(_EVERY)
        state = progress.state()
        if (state.stage, state.started_at) != shown_stage:
            if task is not None:
                bar.update(task, total=1, completed=1)
                bar.stop_task(task)
            shown_stage = (state.stage, state.started_at)
            if state.stage in ("start", "done"):
                task = None
                continue
            task = bar.add_task(state.stage, total=state.total or None, rate="")
        if task is not None:
            bar.update(task, completed=state.done, total=state.total or None)
            speed = bar.tasks[bar.task_ids.index(task)].speed
            bar.update(task, rate=f"{size(speed)}/s" if speed and state.unit == "bytes" else "")


def size(count: float) -> str:
    """Bytes, for people: 812 B, 1.5 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
