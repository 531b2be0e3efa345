"""How much memory a piece of work took."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.job.peak_memory import PeakMemory


def test_the_peak_begins_anew_with_each_measurement(tmp_path: Path) -> None:
    for name in ("clear_refs", "status"):
        (tmp_path / name).write_text("Name: python\nVmPeak:  9000 kB\nVmHWM:  2048 kB\n")
    peak = PeakMemory(tmp_path)
    assert (tmp_path / "clear_refs").read_text() == "5"
    assert peak.host() == 2 << 20


@pytest.mark.parametrize("status", [None, "Name: python\n", "VmHWM: many kB\n"])
def test_without_the_kernels_word_it_is_that_of_the_process(status: str | None, tmp_path: Path) -> None:
    if status is not None:
        (tmp_path / "status").write_text(status)
    assert PeakMemory(tmp_path / "none" if status is None else tmp_path).host() > 1 << 20


def test_what_was_allocated_and_freed_counts() -> None:
    peak = PeakMemory()
    before = peak.host()
    block = bytearray(64 << 20)
    block[::4096] = b"x" * len(block[::4096])
    del block
    assert peak.host() - before > 48 << 20


def test_without_torch_no_device_was_used() -> None:
    assert PeakMemory().device() == 0
