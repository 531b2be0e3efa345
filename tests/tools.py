"""Programs that tests of metrics need, from the sandbox's cache; built there by the first who asks, for minutes.

Ask in a fixture of the session, so that no test's time limit counts the build: `promtool` and `prometheus_program` in
tests/conftest.py.
"""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

_BUILD = Path(__file__).resolve().parents[1] / "sandbox" / "prometheus" / "build.sh"


class NotBuilt(Exception):
    """The message has what the build said."""


def promtool() -> Path:
    return _built() / "promtool"


def prometheus() -> Path:
    return _built() / "prometheus"


@cache
def _built() -> Path:
    result = subprocess.run(["bash", _BUILD], text=True, capture_output=True, check=False)
    if result.returncode:
        raise NotBuilt(f"{_BUILD.relative_to(_BUILD.parents[2])}:\n{result.stderr}")
    return Path(result.stdout.strip().splitlines()[-1])
