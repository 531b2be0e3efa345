"""Reads, writes and copies at given places of files, by as few copies in memory as Linux allows.

Nothing is mapped: mapped pages would count as this process's memory. Errors name their file. Must not know of
tensors.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COPIED = 1 << 20  # bytes at a time where the kernel does not copy by itself
_NO_COPY = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY}
_SYNC_FILE_RANGE_WRITE = 2
_libc = ctypes.CDLL(None, use_errno=True)


class Sources:
    """Files that are read, each opened once, by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Path, int] = {}

    def __enter__(self) -> Sources:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def read(self, path: Path, start: int, buffer: memoryview) -> None:
        """Fills `buffer` with what lies at `start`. Raises OSError, also when the file ends before."""
        fd, done = self._fd(path), 0
        with named(path):
            while done < len(buffer):
                n = os.preadv(fd, [buffer[done:]], start + done)
                if not n:
                    raise _cut_off()
                done += n

    def copy(self, path: Path, start: int, target: Target, at: int, length: int) -> None:
        """Copies inside the kernel, or through memory where the file systems cannot do that."""
        fd, done = self._fd(path), 0
        while done < length:
            try:
                n = os.copy_file_range(fd, target.fd, length - done, start + done, at + done)
            except OSError as e:
                if e.errno not in _NO_COPY:
                    raise OSError(e.errno, e.strerror, str(target.path)) from e
                return self._copy_through_memory(path, start + done, target, at + done, length - done)
            if not n:
                with named(path):
                    raise _cut_off()
            done += n
        return None

    def _copy_through_memory(self, path: Path, start: int, target: Target, at: int, length: int) -> None:
        buffer = memoryview(bytearray(min(COPIED, length)))
        for done in range(0, length, COPIED):
            part = buffer[: min(COPIED, length - done)]
            self.read(path, start + done, part)
            target.write(part, at + done)

    def _fd(self, path: Path) -> int:
        with self._lock:
            if path not in self._open:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                self._open[path] = fd
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            return self._open[path]


class Target:
    """A file of a known size that is written in any order."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            with named(path):
                os.fchmod(self.fd, 0o644)  # whatever the umask: vLLM runs as another user
                _allocate(self.fd, size)
        except OSError:
            os.close(self.fd)
            raise

    def write(self, data: memoryview, at: int) -> None:
        done = 0
        with named(self.path):
            while done < len(data):
                done += os.pwrite(self.fd, data[done:], at + done)

    def start_writing_back(self) -> None:
        """Lets the disk begin with what is written so far, so that `sync` at the end has less to wait for."""
        _libc.sync_file_range(self.fd, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)

    def sync(self) -> None:
        with named(self.path):
            os.fsync(self.fd)

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Puts the file's name into an error of a call that knows only its number."""
    try:
        yield
    except OSError as e:
        if e.filename is None:
            raise OSError(e.errno, e.strerror, str(path)) from e
        raise


def _allocate(fd: int, size: int) -> None:
    """Takes the space now: a full disk is found before the work, not after it.

    Not by posix_fallocate, which writes every block where the file system cannot allocate.
    """
    if size and _libc.fallocate(fd, 0, ctypes.c_int64(0), ctypes.c_int64(size)) != 0:
        code = ctypes.get_errno()
        if code not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise OSError(code, os.strerror(code))
        os.ftruncate(fd, size)


def _cut_off() -> OSError:
    return OSError(errno.EIO, "the file has become shorter while it was read")
