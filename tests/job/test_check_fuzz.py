"""Whatever an adapter is made of, a check ends with findings. bench/fuzz.py runs the same for longer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.job.base import Base, read_base
from controller.job.check import examine
from controller.job.contract import Use
from tests.job.fuzzing import GOOD, TOKENIZERS, Files, adapters, carry_out
from tests.job.odd_models import LLAMA, base_of


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return read_base(base_of(tmp_path_factory.mktemp("fuzz") / "base", LLAMA))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapter")


def test_what_is_changed_is_good_at_first(directory: Path, base: Base) -> None:
    assert carry_out(directory, base, GOOD, Use.SERVE) == 0
    assert carry_out(directory, base, GOOD | TOKENIZERS, Use.SERVE) == 0


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))  # the machine may be busy
@given(files=adapters(), use=st.sampled_from(Use))
def test_a_check_ends_with_findings(files: Files, use: Use, directory: Path, base: Base) -> None:
    carry_out(directory, base, files, use)


def test_a_header_that_is_all_of_a_huge_file_is_not_read(tmp_path: Path, base: Base) -> None:
    """A sparse file: a hundred megabytes of header are there, and cost nothing."""
    with (tmp_path / "adapter_model.safetensors").open("wb") as f:
        f.write((100_000_000 - 8).to_bytes(8, "little") + b"{")
        os.truncate(f.fileno(), 100_000_000)
    (tmp_path / "adapter_config.json").write_bytes(GOOD["adapter_config.json"])
    assert "longer than 16777216" in examine(tmp_path, base).findings[0].message
