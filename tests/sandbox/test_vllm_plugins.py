"""What the sandbox changes in vLLM's CPU build gives the same numbers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.vllm_server import ml_env

pytestmark = [pytest.mark.ml, pytest.mark.timeout(600)]
BFLOAT16 = 2**-7  # two roundings of 8 bits
FLOAT32 = 2**-20


def test_bfloat16_in_float32_is_vllms_own_but_for_rounding() -> None:
    script = Path(__file__).with_name("bf16_against_vllm.py")
    done = subprocess.run([ml_env() / "bin" / "python", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert len(told) == 6
    for batch, differences in told.items():
        limit = FLOAT32 if "float32" in batch else BFLOAT16
        assert {name: value for name, value in differences.items() if value > limit} == {}, batch
