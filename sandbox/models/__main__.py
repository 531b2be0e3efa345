"""Fill a store with the demo's models, adapters and data; run with the Python of locks/ml.lock.

    python -m sandbox.models STORE [--only base|v1|adapters] [--fresh]

Models are trained once, into the cache; `--fresh` trains them again.
"""

import argparse
import os
from pathlib import Path

# Before torch is imported: threads that wait busily make training three times slower on shared cores.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

from sandbox.models import store


def main() -> None:
    """Parse and fill."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.models", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", type=Path)
    parser.add_argument("--only", choices=["base", "v1", "adapters"], help="one part; the base comes first")
    parser.add_argument("--fresh", action="store_true", help="train again, whatever the cache holds")
    options = parser.parse_args()
    if options.only in ("base", None):
        store.lay_out_base(options.store, fresh=options.fresh)
    if options.only == "v1":
        store.lay_out_first_adapter(options.store, fresh=options.fresh)
    if options.only in ("adapters", None):
        store.lay_out_adapters(options.store, fresh=options.fresh)


if __name__ == "__main__":
    main()
