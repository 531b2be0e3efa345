"""The files of an adapter's directory: which are its own, and what must never be opened.

The importer keeps the known ones; others are left behind. Must not know what is in the files.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from controller.job.adapter import CONFIG, WEIGHTS
from controller.job.findings import Finding, some
from controller.job.reasons import Reason

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".pickle")
REQUIRED = (CONFIG, WEIGHTS)
OPTIONAL = (
    "README.md",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
)
KNOWN = frozenset(REQUIRED + OPTIONAL)
COMPARED = "config.json"  # of the base, from some trainers: read, and not kept
MAX_FILES = 1000
MAX_BYTES = 64 << 30
MAX_OPTIONAL_BYTES = 256 << 20


def file_is_of_another_format(path: Path) -> Iterator[Finding]:
    """Pickles run code when they are loaded, links may lead anywhere, and reading a pipe never ends."""
    names = _names(path)
    if len(names) > MAX_FILES:
        yield _bad(f"more than {MAX_FILES} files: the directory is no adapter")
        return
    if pickles := [n for n in names if n.endswith(PICKLES)]:
        yield _bad(f"{some(pickles)}: only safetensors is accepted; save it with safetensors")
    outside = [n for n in names if (path / n).is_symlink() and not _stays_inside(path / n, path)]
    if outside:
        yield _bad(f"{some(outside)} is a link that leads out of the adapter's directory")
    modes = {n: _mode(path / n) for n in names if n not in outside}
    if special := [n for n, mode in modes.items() if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))]:
        yield _bad(f"{some(special)} is a pipe, a socket or a device, not a file")
    if directories := [n for n in KNOWN & modes.keys() if stat.S_ISDIR(modes[n])]:
        yield _bad(f"{some(directories)} is a directory, not a file")
    for name in sorted(KNOWN & modes.keys()):
        limit = MAX_BYTES if name == WEIGHTS else MAX_OPTIONAL_BYTES
        if stat.S_ISREG(modes[name]) and (path / name).stat().st_size > limit:
            yield _bad(f"{name} is larger than {limit} bytes")


def is_readable(path: Path) -> bool:
    """Whether `path` is a file that may be opened: not a pipe, and no link out of its directory."""
    return stat.S_ISREG(_mode(path)) and _stays_inside(path, path.parent)


def left_behind(path: Path) -> list[str]:
    """Names in the directory that are no part of an adapter: nothing reads them."""
    return strangers(_names(path))


def strangers(names: Iterable[str]) -> list[str]:
    return sorted(set(names) - KNOWN - {COMPARED})


def left_behind_note(names: Sequence[str]) -> list[str]:
    return [f"not part of an adapter, left behind: {some(names)}"] if names else []


def _names(path: Path) -> list[str]:
    if not path.is_dir():
        return []
    with os.scandir(path) as entries:
        return sorted(entry.name for _, entry in zip(range(MAX_FILES + 1), entries, strict=False))


def _stays_inside(path: Path, directory: Path) -> bool:
    try:
        return path.resolve().is_relative_to(directory.resolve())
    except (OSError, RuntimeError):  # a loop of links
        return False


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _bad(message: str) -> Finding:
    return Finding(Reason.UNSUPPORTED_FORMAT, message)
