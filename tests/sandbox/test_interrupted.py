"""Ctrl-C while something slow is made for the cache: nothing of it goes on, and the next run need not wait for it."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.sandbox.traces import CHECKOUT

SECONDS = 30
# `alive` is a named pipe: whoever reads it sees its end when nothing that was started for it is left.
SLOW = """#!/bin/bash
set -euo pipefail
. "$(dirname "$0")/cache.sh"
make_it() {
  sh -c 'echo $$; exec sleep 300' >alive || true
}
lock "lock-$(basename "$0")"
with_progress "something slow" /dev/null make_it
"""


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """The sandbox's, but for what they make."""
    for name in ("cache.sh", "programs.sh"):
        shutil.copy(CHECKOUT / "sandbox" / name, tmp_path)
    for name in ("build-kube.sh", "ml-env.sh"):
        (tmp_path / name).write_text(SLOW)
        (tmp_path / name).chmod(0o755)
    os.mkfifo(tmp_path / "alive")
    return tmp_path


@pytest.mark.parametrize(
    ("script", "made"), [("ml-env.sh", ["ml-env.sh"]), ("programs.sh", ["build-kube.sh", "ml-env.sh"])]
)
def test_an_interrupted_script_leaves_no_process_and_no_lock(scripts: Path, script: str, made: list[str]) -> None:
    running = subprocess.Popen([scripts / script], cwd=scripts, stderr=subprocess.PIPE, start_new_session=True)
    with (scripts / "alive").open("rb", buffering=0) as alive:
        pids = [int(alive.readline()) for _ in made]
        try:
            os.killpg(running.pid, signal.SIGINT)
            running.communicate(timeout=SECONDS)
            ended = bool(select.select([alive], [], [], SECONDS)[0]) and alive.read() == b""
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    assert running.returncode == 128 + signal.SIGINT
    assert ended
    for name in made:
        assert is_free(scripts / f"lock-{name}")


def is_free(lock: Path) -> bool:
    directory = os.open(lock, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(directory)
    return True
