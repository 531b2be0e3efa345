"""The ML environment, for tests that need torch."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
Ml = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def ml() -> Ml:
    """Runs the ML environment's Python with these arguments; `check=False` gives back a failure."""
    made = subprocess.run([CHECKOUT / "sandbox" / "ml-env.sh"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    python = Path(made.stdout.splitlines()[-1]) / "bin" / "python"
    environment = {
        "PYTHONPATH": str(CHECKOUT),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }

    def run(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [python, *arguments], capture_output=True, text=True, env=os.environ | environment, cwd=CHECKOUT
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    return run
