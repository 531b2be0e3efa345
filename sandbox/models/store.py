"""Lay out a store as the cluster's pods see it, from models that are trained once and kept in the cache.

models/base                        what the base Deployment serves
incoming/support-bot/v1, v2        adapters that a user would release
incoming/{nan,other-base,...}      adapters that must not get through
suites/support.jsonl               held-out tickets with the expected answer
calibration/support.jsonl          tickets for AWQ, neither trained on nor scored
"""

import hashlib
import json
import os
import shutil
import time
from pathlib import Path

from sandbox.models.broken import KINDS, break_adapter
from sandbox.models.tickets import ROUTE, Split, conversation, tickets

CHECKOUT = Path(__file__).resolve().parents[2]
SUITE_SIZE = 200
CALIBRATION_SIZE = 64
SERVER_USER = 1000


def cache_root() -> Path:
    """Where slow things are kept; the same rule as in sandbox/cache.sh."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("ADAPTERRELEASE_CACHE") or f"{home}/adapter-release-controller")


def trained_models(*, fresh: bool = False) -> Path:
    """The directory with base, v1, v2 and shuffled; trains them when it is not there, or when `fresh`."""
    sources = [CHECKOUT / "locks/ml.lock", *(Path(__file__).with_name(name) for name in ("tickets.py", "training.py"))]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    trained = cache_root() / f"models-{digest}"
    if fresh or not trained.exists():
        unfinished = trained.with_name(f"{trained.name}.{os.getpid()}")
        _train(unfinished)
        shutil.rmtree(trained, ignore_errors=True)
        unfinished.rename(trained)
    return trained


def lay_out(store: Path, *, fresh: bool = False) -> None:
    """Fill `store`; what it already holds stays, so adapters that the controller imported are not touched."""
    trained = trained_models(fresh=fresh)
    _copy(trained / "base", store / "models/base")
    for version in ("v1", "v2"):
        _copy(trained / version, store / "incoming/support-bot" / version)
    _copy(trained / "shuffled", store / "incoming/shuffled")
    for kind in KINDS:
        if not (store / "incoming" / kind).exists():
            break_adapter(trained / "v1", store / "incoming" / kind, kind)
    write_examples(store / "suites/support.jsonl", "eval", SUITE_SIZE)
    write_examples(store / "calibration/support.jsonl", "calibration", CALIBRATION_SIZE)
    make_readable(store)


def write_examples(path: Path, split: Split, count: int) -> None:
    """One JSON document a line: {"messages": [...], "expected": "..."}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"messages": conversation(ROUTE, row.text), "expected": row.label} for row in tickets(count, split, 11)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_readable(store: Path) -> None:
    """Servers run as another user, and safetensors writes files that only their owner reads. The top is theirs."""
    for part in ("models", "incoming", "suites", "calibration"):
        for path in [store / part, *(store / part).rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
    if os.geteuid() == 0:
        os.chown(store, SERVER_USER, SERVER_USER)


def _train(out: Path) -> None:
    from sandbox.models import training  # only here: torch takes seconds to import, and a warm store needs none

    out.mkdir(parents=True)
    start = time.monotonic()
    print("training the base (a 2.9 M-parameter Llama) and three adapters ...", flush=True)
    training.train_base(out / "base")
    training.train_adapter(out / "base", out / "v1", "good")
    training.train_adapter_further(out / "base", out / "v1", out / "v2")
    training.train_adapter(out / "base", out / "shuffled", "shuffled")
    print(f"trained in {time.monotonic() - start:.0f} s", flush=True)


def _copy(source: Path, target: Path) -> None:
    if not target.exists():
        shutil.copytree(source, target)
