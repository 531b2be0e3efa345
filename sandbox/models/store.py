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
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

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


def models_cache() -> Path:
    """Where trained models are kept: one directory for each version of the task, the training and the libraries."""
    sources = [CHECKOUT / "locks/ml.lock", *(Path(__file__).with_name(name) for name in ("tickets.py", "training.py"))]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    return cache_root() / f"models-{digest}"


def lay_out_base(store: Path, *, fresh: bool = False) -> None:
    """The base model and the data."""
    base = _trained("base", lambda out: _training().train_base(out), fresh=fresh)
    _copy(base, store / "models/base")
    write_examples(store / "suites/support.jsonl", "eval", SUITE_SIZE)
    write_examples(store / "calibration/support.jsonl", "calibration", CALIBRATION_SIZE)
    _make_readable(store)


def lay_out_first_adapter(store: Path, *, fresh: bool = False) -> None:
    """The one adapter that a release begins with."""
    base = models_cache() / "base"
    v1 = _trained("v1", lambda out: _training().train_adapter(base, out, "good"), fresh=fresh)
    _copy(v1, store / "incoming/support-bot/v1")
    _make_readable(store)


def lay_out_adapters(store: Path, *, fresh: bool = False) -> None:
    """The adapters, good and bad, for the base that is in the cache."""
    lay_out_first_adapter(store, fresh=fresh)
    base, v1 = models_cache() / "base", models_cache() / "v1"
    v2 = _trained("v2", lambda out: _training().train_adapter_further(base, v1, out), fresh=fresh)
    shuffled = _trained("shuffled", lambda out: _training().train_adapter(base, out, "shuffled"), fresh=fresh)
    incoming = store / "incoming"
    for source, place in ((v2, "support-bot/v2"), (shuffled, "shuffled")):
        _copy(source, incoming / place)
    for kind in KINDS:
        if not (incoming / kind).exists():
            break_adapter(v1, incoming / kind, kind)
    _make_readable(store)


def write_examples(path: Path, split: Split, count: int) -> None:
    """One JSON document a line: {"messages": [...], "expected": "..."}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"messages": conversation(ROUTE, row.text), "expected": row.label} for row in tickets(count, split, 11)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _training() -> ModuleType:
    """Only when something is to be trained: torch takes seconds to import, and a warm cache needs none of it."""
    from sandbox.models import training

    return training


def _trained(name: str, train: Callable[[Path], None], *, fresh: bool) -> Path:
    """A model in the cache, trained when it is not there or when `fresh`; a crash leaves nothing that looks whole."""
    model = models_cache() / name
    if fresh or not model.exists():
        unfinished = model.with_name(f"{name}.unfinished-{os.getpid()}")
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        print(f"training {name} ...", flush=True)
        train(unfinished)
        shutil.rmtree(model, ignore_errors=True)
        unfinished.rename(model)
        print(f"training {name}: done in {time.monotonic() - start:.0f} s", flush=True)
    return model


def _copy(model: Path, place: Path) -> None:
    """What the store holds already stays: servers read it. But it must be the same, or adapters meet a strange base."""
    if not place.exists():
        shutil.copytree(model, place)
    elif any(_digest(file) != _digest(place / file.name) for file in model.glob("*.safetensors")):
        sys.exit(f"{place} holds another model than {model}: start with an empty store (make down)")


def _digest(file: Path) -> bytes:
    return hashlib.sha256(file.read_bytes()).digest() if file.exists() else b""


def _make_readable(store: Path) -> None:
    """Servers and jobs run as another user, and safetensors writes files that only their owner reads."""
    owner = SERVER_USER if os.geteuid() == 0 else -1
    os.chown(store, owner, owner)
    for part in ("models", "incoming", "suites", "calibration"):
        for path in [store / part, *(store / part).rglob("*")]:
            if path.exists():
                path.chmod(0o755 if path.is_dir() else 0o644)
                os.chown(path, owner, owner)
