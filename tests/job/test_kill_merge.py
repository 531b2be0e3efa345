"""A merge that is killed, or whose disk fails: never a half shard under its final name, and the rerun is the same."""

from __future__ import annotations

import errno
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.job import layout
from controller.job.base import read_base
from controller.job.check import check_adapter
from controller.job.merge import Weighted, merge
from controller.job.progress import Progress
from controller.job.run import failure_of
from controller.job.store import digest_of, directory_digests
from tests.job import tiny_models

CALLS = ("open", "preadv", "pwrite", "copy_file_range", "fsync", "rename")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base of three shards, an adapter, and blocks so small that there are many moments."""
    monkeypatch.setattr(layout, "BLOCK_BYTES", 400)
    monkeypatch.setattr(layout, "COPY_BYTES", 400)
    tiny_models.base(tmp_path / "base", shards=3)
    tiny_models.adapter(tmp_path / "adapter")
    return tmp_path


def run(work: Path, out: Path) -> str:
    base = read_base(work / "base")
    adapter, findings = check_adapter(work / "adapter", base)
    assert adapter is not None and not findings
    merge(base, [Weighted(adapter)], out, "auto", Progress(), threads=2)
    return digest_of(directory_digests(out))


def intercepted(monkeypatch: pytest.MonkeyPatch, before: Callable[[str], None], calls: tuple[str, ...] = CALLS) -> None:
    """`before` is told of every system call that touches files, at the edge of the process."""
    for name in calls:
        real = getattr(os, name)

        def call(*arguments: Any, _name: str = name, _real: Any = real, **more: Any) -> Any:
            before(_name)
            return _real(*arguments, **more)

        monkeypatch.setattr(os, name, call)


def killed_at(moment: int, work: Path, out: Path) -> bool:
    """Merges in a child that kills itself, as SIGKILL from outside would, before its call number `moment`."""
    child = os.fork()
    if not child:
        count = iter(range(1, 1 << 30))
        with pytest.MonkeyPatch.context() as patch:
            intercepted(patch, lambda _: os.kill(os.getpid(), signal.SIGKILL) if next(count) == moment else None)
            run(work, out)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_a_merge_killed_at_20_moments_leaves_no_half_shard_and_goes_on(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    with monkeypatch.context() as patch:
        intercepted(patch, calls.append)
        expected = run(work, work / "whole")
    whole = {p.name: p.read_bytes() for p in (work / "whole").iterdir()}
    chosen = random.Random(4)
    moments = sorted(chosen.sample(range(1, len(calls) * 9 // 10), 20))
    renamed = 0
    for number, moment in enumerate(moments):
        out = work / f"killed-{number}"
        assert killed_at(moment, work, out)
        shards = list(out.glob("*.safetensors"))
        renamed += len(shards)
        assert all(s.read_bytes() == whole[s.name] for s in shards)
        assert run(work, out) == expected
    assert 0 < renamed < 20 * 3  # the moments were of all sorts


@pytest.mark.parametrize(
    ("call", "code", "reason"),
    [
        ("pwrite", errno.ENOSPC, "DiskFull"),
        ("copy_file_range", errno.ENOSPC, "DiskFull"),
        ("fsync", errno.EIO, "StorageError"),
        ("preadv", errno.EIO, "StorageError"),
        ("copy_file_range", errno.EIO, "StorageError"),
        ("rename", errno.EDQUOT, "DiskFull"),
    ],
)
def test_a_disk_that_fails_leaves_nothing_half_and_is_named(
    call: str, code: int, reason: str, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = iter(range(1, 1 << 30))

    def fail(_: str) -> None:
        if next(count) == (2 if call in ("fsync", "rename") else 12):
            raise OSError(code, os.strerror(code))

    expected = run(work, work / "whole")
    with monkeypatch.context() as patch, pytest.raises(OSError) as e:
        intercepted(patch, fail, (call,))
        run(work, work / "out")
    assert failure_of(e.value).reason == reason
    left = list((work / "out").iterdir())
    assert all(p.read_bytes() == (work / "whole" / p.name).read_bytes() for p in left)
    assert run(work, work / "out") == expected


def test_a_base_that_is_cut_off_while_it_is_read_is_an_error(work: Path) -> None:
    base = read_base(work / "base")
    adapter, _ = check_adapter(work / "adapter", base)
    assert adapter is not None
    shard = work / "base" / sorted(base.shards)[-1]
    os.truncate(shard, shard.stat().st_size - 100)
    with pytest.raises(OSError, match="shorter while it was read") as e:
        merge(base, [Weighted(adapter)], work / "out", "auto", Progress())
    assert shard.name in str(e.value)
    assert not (work / "out" / shard.name).exists()


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_the_kernel_cannot_copy_the_bytes_are_the_same(
    code: int, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(work, work / "whole")

    def refuse(_: str) -> None:
        raise OSError(code, os.strerror(code))

    intercepted(monkeypatch, refuse, ("copy_file_range",))
    assert run(work, work / "out") == expected
