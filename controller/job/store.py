"""The store on disk: what is published there is complete, durable, readable by every user and never changed.

Layout: `adapters/NAME/HEX/`, `artifacts/HEX/`, `artifacts/HEX.evaluations/`, `.work/` for what is not finished.
A directory is made under `.work/`, written to the disk, and gets its name by one rename; so a job may be killed
at any moment.
Must not know what the files mean.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from controller.errors import PermanentError
from controller.job.reasons import Reason

log = logging.getLogger("adapterrelease.job")
BLOCK = 8 << 20
ASK_AGAIN_SECONDS = 1.0
_READ = 1 << 20
_THREADS = min(8, os.cpu_count() or 1)
Advance = Callable[[int], None]


def _ignore(_: int) -> None:
    """No progress wanted."""


class Store:
    """Paths and rules of one store."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def adapter(self, name: str, digest: str) -> Path:
        return self.root / "adapters" / name / digest.removeprefix("sha256:")

    def artifact(self, artifact_id: str) -> Path:
        return self.root / "artifacts" / artifact_id.removeprefix("sha256:")

    def evaluations(self, artifact_id: str) -> Path:
        """What was measured of an artifact: beside it, since it is never changed."""
        artifact = self.artifact(artifact_id)
        return artifact.with_name(f"{artifact.name}.evaluations")

    def work(self, name: str) -> Path:
        return self.root / ".work" / name.removeprefix("sha256:")

    @contextmanager
    def working(self, name: str) -> Iterator[Path]:
        """The work directory `name`, for this process alone. Waits as long as another job has it.

        The kernel drops the lock with its process, so a killed job leaves nothing to take over. What the
        directory holds is kept: clear it, or go on with it.
        """
        work = self.work(name)
        make_directory(work.parent)
        with work.with_name(f"{work.name}.lock").open("a") as lock:
            _wait_for(lock, work)
            make_directory(work)
            yield work

    def sweep(self, before: float) -> None:
        """Removes work that nobody has touched since `before` (Unix time): its job will not come back."""
        for path in sorted((self.root / ".work").glob("*.lock")):
            work = path.with_suffix("")
            if work.is_dir() and work.stat().st_mtime < before:
                with path.open("a") as lock:
                    if takes(lock):
                        remove_directory(work)


def _wait_for(lock: IO[str], work: Path) -> None:
    """Takes the lock. The wait has no end of its own: the Job's activeDeadlineSeconds does that, by SIGTERM.

    Asks again and again: in a flock that blocks, a SIGTERM that comes just before it is not noticed before its end.
    """
    if takes(lock):
        return
    log.info("another job is working in %s: waiting for it to end", work)
    while not takes(lock):
        time.sleep(ASK_AGAIN_SECONDS)
    log.info("%s is free: going on", work)


def takes(lock: IO[str]) -> bool:
    """Is the lock ours now? It is until the file is closed."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def make_directory(path: Path) -> None:
    """The directory and its parents, mode 0755 whatever the umask: vLLM runs as another user."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    path.chmod(0o755)


def remove_directory(path: Path) -> None:
    """Removes a directory that may hold read-only directories. Nothing happens if it is not there."""
    if path.is_symlink() or not path.is_dir():
        return
    for directory, _, _ in os.walk(path):
        Path(directory).chmod(0o755)
    shutil.rmtree(path)


def file_digest(path: Path, advance: Advance = _ignore) -> str:
    """sha256 of a file, as hex. Reads through one buffer, so memory does not depend on the file."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_READ))
    with path.open("rb", buffering=0) as f:
        while n := f.readinto(buffer):
            digest.update(buffer[:n])
            advance(n)
    return digest.hexdigest()


def digest_of(files: Mapping[str, str]) -> str:
    """`sha256:` and the digest of a directory, from its files' names and hex digests.

    It is the sha256 of the lines `HEX  NAME\\n` sorted by name, so `sha256sum` gives the same:
    `sha256sum * | LC_ALL=C sort -k2 | sha256sum`.
    """
    lines = "".join(f"{files[name]}  {name}\n" for name in sorted(files))
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def directory_digests(path: Path, names: Iterable[str] | None = None, advance: Advance = _ignore) -> dict[str, str]:
    """Hex digests of the files in `path` (of all, or of `names`), several at a time.

    hashlib lets go of the interpreter's lock, so this uses as many cores as there are, up to eight.
    """
    chosen = sorted(set(names)) if names is not None else sorted(p.name for p in path.iterdir() if p.is_file())
    largest_first = sorted(chosen, key=lambda n: (path / n).stat().st_size, reverse=True)
    stopped = threading.Event()

    def digest(name: str) -> str:
        return file_digest(path / name, count)

    def count(n: int) -> None:
        if stopped.is_set():
            raise InterruptedError("another file could not be read")
        advance(n)

    with ThreadPoolExecutor(min(_THREADS, len(chosen)) or 1, thread_name_prefix="digest") as pool:
        try:
            found = dict(zip(largest_first, pool.map(digest, largest_first), strict=True))
        except BaseException:  # an error, or SIGTERM: the rest is not read for nothing
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {name: found[name] for name in chosen}


def copy_file(source: Path, target: Path, max_bytes: int, advance: Advance = _ignore) -> int:
    """Copies a regular file of at most `max_bytes`; its size. Raises PermanentError if there is more."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    size = 0
    with os.fdopen(os.open(source, flags), "rb") as f, target.open("wb") as out:
        while block := f.read(BLOCK):
            size += len(block)
            if size > max_bytes:
                raise PermanentError(f"{source.name} is larger than {max_bytes} bytes", reason=Reason.SOURCE_TOO_LARGE)
            out.write(block)
            advance(len(block))
    return size


def sync(path: Path) -> None:
    """Writes a file or a directory to the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_text(path: Path, text: str) -> None:
    """Writes a file of a directory that is not published yet; an earlier try may have left it read-only."""
    path.unlink(missing_ok=True)
    with _naming(path):
        path.write_text(text, encoding="utf-8")


def publish(work: Path, final: Path) -> bool:
    """Gives the finished directory `work` its name. False if another process has published `final` before.

    Files become 0444. The rename is the only moment at which anything appears under `final`. An OSError names
    the file that could not be kept.
    """
    for path in sorted(work.iterdir()):
        with _naming(path):
            path.chmod(0o444)
            sync(path)
    work.chmod(0o755)
    with _naming(work):
        sync(work)
    make_directory(final.parent)
    if final.exists():
        return False
    try:
        work.rename(final)
    except OSError:
        if final.is_dir():  # somebody else was quicker: a directory that is not empty is never replaced
            return False
        raise
    with _naming(final.parent):
        sync(final.parent)
    return True


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """fsync says what went wrong, but not where."""
    try:
        yield
    except OSError as e:
        if e.filename is not None:
            raise
        raise OSError(e.errno, f"could not be written to the disk: {e.strerror}", str(path)) from e


def publish_file(text: str, final: Path) -> bool:
    """Writes the file `final`, mode 0444. False, with nothing changed, if it is there already.

    As with a directory, one rename is the only moment at which anything appears under `final`. A rename would
    replace a file, so a lock beside it keeps others away: not every network file system has hard links.
    """
    partial = final.with_name(f".{final.name}.partial")
    with final.with_name(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if final.exists():
            return False
        partial.unlink(missing_ok=True)  # of a job that was killed
        try:
            with partial.open("x", encoding="utf-8") as out:
                out.write(text)
                out.flush()
                os.fchmod(out.fileno(), 0o444)
                os.fsync(out.fileno())
            partial.rename(final)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        sync(final.parent)
    return True
