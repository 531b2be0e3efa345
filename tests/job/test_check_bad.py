"""Every adapter that must not get in, by the command that a user has. docs/checks.md lists what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from controller.job.store import file_digest
from tests.docs.pages import rows, section
from tests.job.bad.making import Bad, check
from tests.job.bad.table import ALL, PAGE, said

DOCUMENTED = {row[0]: row[1:] for row in rows(section(PAGE, "What is refused"))}


def digests(directory: Path) -> dict[str, str]:
    """Every regular file below, without opening anything else."""
    files = sorted(p for p in directory.rglob("*") if p.is_file() and not p.is_symlink())
    return {str(p.relative_to(directory)): file_digest(p) for p in files}


def test_the_page_lists_them_all() -> None:
    assert list(DOCUMENTED) == [bad.what for bad in ALL]
    assert len(ALL) >= 40


@pytest.mark.parametrize("bad", ALL, ids=lambda bad: bad.what)
def test_it_is_refused_for_the_documented_reason_alone_and_nothing_changes(bad: Bad, tmp_path: Path) -> None:
    bad.make(tmp_path)
    before = digests(tmp_path)
    done = check(tmp_path, bad, "--json")
    assert done.exit_code == 2
    answer = json.loads(done.stdout)
    assert (answer["ok"], {f["reason"] for f in answer["findings"]}) == (False, {bad.reason})
    assert DOCUMENTED[bad.what] == [f"`{bad.reason}`", said(done.stdout, bad)]
    assert digests(tmp_path) == before


@pytest.mark.parametrize("bad", ALL[::45], ids=lambda bad: bad.what)
def test_a_shell_gets_exit_code_2_and_the_reasons_on_stderr(bad: Bad, tmp_path: Path) -> None:
    bad.make(tmp_path)
    command = [sys.executable, "-m", "controller", "check", tmp_path / "adapter", "--base", tmp_path / "base"]
    done = subprocess.run([*command, *bad.arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{bad.reason}: ")
