"""Fuzzes `adapterrelease check`, and says how many adapters it was given and what became of them.

    python -m bench.fuzz 200000

Hypothesis chooses adapters, and random bytes of each are changed. A round has its own seed, so a failure can be had
again; Hypothesis makes it small and prints it.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from controller.job.base import Base, read_base
from controller.job.contract import Use
from tests.job.fuzzing import Files, adapters, carry_out, variants
from tests.job.odd_models import LLAMA, base_of

ROUND = 500  # examples
VARIANTS = 19  # of each example


def run_round(number: int, directory: Path, base: Base, examples: int) -> Counter[str]:
    """One round, in which Hypothesis does not repeat itself."""
    outcome: Counter[str] = Counter()

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(files=adapters(), use=st.sampled_from(Use))
    def once(files: Files, use: Use) -> None:
        for variant in variants(files, VARIANTS):
            outcome["refused" if carry_out(directory, base, variant, use) else "accepted"] += 1

    once()
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("executions", type=int)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    outcome: Counter[str] = Counter()
    began, number = time.monotonic(), arguments.seed
    with tempfile.TemporaryDirectory() as scratch:
        base = read_base(base_of(Path(scratch) / "base", LLAMA))
        directory = Path(scratch) / "adapter"
        directory.mkdir()
        while (left := arguments.executions - outcome.total()) > 0:
            outcome += run_round(number, directory, base, min(ROUND, -(-left // (VARIANTS + 1))))
            number += 1
            print(f"{outcome.total()} executions, {time.monotonic() - began:.0f} s", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(
        f"{outcome.total()} executions, 0 crashes: {outcome['refused']} refused, {outcome['accepted']} accepted;"
        f" {time.monotonic() - began:.0f} s, peak {peak} MiB"
    )


if __name__ == "__main__":
    main()
