"""`adapterrelease merge`: what the build job's merge does, with adapters in directories; a killed run can go on.

Must not know how a merge works.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.cli.output import made
from controller.errors import PermanentError
from controller.job.adapter import Adapter
from controller.job.base import Base, read_base
from controller.job.check import check_adapter
from controller.job.contract import Use
from controller.job.findings import RejectedError
from controller.job.merge import VERSION, Weighted, merge
from controller.job.progress import Progress
from controller.job.reasons import Reason
from controller.job.store import make_directory, remove_directory, sync

_INPUTS = ".inputs"  # a digest of what the shards beside it are made of


@dataclass(frozen=True)
class _Given:
    """DIR or DIR=WEIGHT."""

    path: Path
    weight: float = 1.0


def merge_directories(base: Path, adapters: Sequence[str], out: Path, dtype: str, progress: Progress) -> None:
    """Merges `adapters`, each DIR or DIR=WEIGHT, into `base`. Keeps the shards that a killed run of the same left."""
    given = [_given(argument) for argument in adapters]
    inputs = _digest(base, given, dtype)
    model = read_base(base)
    weighted = [Weighted(_adapter(one.path, model), one.weight) for one in given]
    with made(out) as partial:
        _keep_what_is_of(inputs, partial)
        merge(model, weighted, partial, dtype, progress)
        (partial / _INPUTS).unlink()


def _given(argument: str) -> _Given:
    """A directory may have a = in its own name: learning rates are written like that."""
    if "=" not in argument or Path(argument).is_dir():
        return _Given(Path(argument))
    path, _, weight = argument.rpartition("=")
    try:
        factor = float(weight)
    except ValueError:
        factor = math.nan
    if not math.isfinite(factor):
        raise PermanentError(
            f"--adapter {argument}: {weight!r} is not a weight, and no such directory is there",
            reason=Reason.INVALID_ARGUMENT,
        )
    return _Given(Path(path), factor)


def _adapter(path: Path, base: Base) -> Adapter:
    adapter, findings = check_adapter(path, base, None, Use.MERGE)
    if adapter is None or findings:
        raise RejectedError(findings)
    return adapter


def _digest(base: Path, given: Sequence[_Given], dtype: str) -> str:
    """Of everything that decides the merged bytes. Files by size and times, since reading a base takes minutes."""
    document = [VERSION, dtype, _files(base), [[one.weight, _files(one.path)] for one in given]]
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()


def _files(directory: Path) -> list[tuple[str, int, int, int]]:
    found: Iterable[Path] = sorted(directory.iterdir()) if directory.is_dir() else ()
    stats = [(str(path.resolve()), path.stat()) for path in found if path.is_file()]
    return [(name, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in stats]


def _keep_what_is_of(inputs: str, partial: Path) -> None:
    """Shards of other inputs can have the same names and sizes."""
    noted = partial / _INPUTS
    if noted.is_file() and noted.read_text() == inputs:
        return
    remove_directory(partial)
    make_directory(partial)
    noted.write_text(inputs)
    sync(noted)
    sync(partial)
