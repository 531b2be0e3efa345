"""The directory that a command makes: it appears under its name whole and on the disk, or not at all.

Must not know what is made.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controller.errors import PermanentError
from controller.job.files import named
from controller.job.reasons import Reason
from controller.job.store import make_directory, remove_directory, sync, takes


@contextmanager
def made(out: Path) -> Iterator[Path]:
    """`OUT.partial`, for this process alone, which may hold what a killed run has left; then it is called `out`.

    Raises PermanentError if `out` is there, or if another process is making it.
    """
    _is_free(out)
    make_directory(out.parent)
    partial = out.with_name(f"{out.name}.partial")
    with _alone(partial):
        _is_free(out)
        try:
            yield partial
        except PermanentError:
            remove_directory(partial)  # nobody will go on from here
            raise
        for path in (*partial.iterdir(), partial):
            with named(path):
                sync(path)
        partial.rename(out)
        sync(out.parent)


def _is_free(out: Path) -> None:
    if out.exists():
        raise PermanentError(f"{out} exists already", reason=Reason.INVALID_ARGUMENT)


@contextmanager
def _alone(partial: Path) -> Iterator[None]:
    """Holds a lock beside `partial`. The kernel drops it with its process, so a killed one keeps nobody away."""
    path = partial.with_name(f"{partial.name}.lock")
    with path.open("a") as lock:
        # Without a name it is the lock of a run that has just ended, and keeps nobody else away.
        if not takes(lock) or not os.fstat(lock.fileno()).st_nlink:
            raise PermanentError(
                f"another run is writing {partial}: wait until it has ended, or give another --out",
                reason=Reason.INVALID_ARGUMENT,
            )
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
