"""Is this directory the artifact that was published? Every file's digest, the id, the provenance, what may be changed.

It runs in an init container before a server starts, so it imports neither numpy nor torch, and its memory does not
depend on the model. Must not know where the artifact lies or who serves it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.errors import TransientError
from controller.job.findings import Finding, some
from controller.job.provenance import DOCUMENT, ArtifactStatement, File, id_of, parse_artifact, read_text
from controller.job.reasons import Reason
from controller.job.store import directory_digests

_HEX = re.compile(r"[0-9a-f]{64}")
_NOT_OURS = "remove the directory and build it again"


@dataclass(frozen=True)
class Wanted:
    """What is asked of the artifact. `contents` False compares sizes only; `modes` asks that nobody can write to it,
    which copies and some volumes cannot promise."""

    artifact_id: str | None = None
    digest: str | None = None
    contents: bool = True
    modes: bool = True


def verify(
    directory: Path, wanted: Wanted, begins: Callable[[int], None], advance: Callable[[int], None]
) -> tuple[ArtifactStatement | None, list[Finding]]:
    """The artifact, if its `artifact.json` can be read, and everything that is wrong with it.

    `begins` is told how many bytes will be read, `advance` of each that was. Raises TransientError where no artifact
    is, OSError for what cannot be read.
    """
    try:
        text = read_text(directory)
    except (FileNotFoundError, NotADirectoryError) as e:
        raise TransientError(
            f"no artifact is in {directory}: it has no {DOCUMENT}", reason=Reason.ARTIFACT_NOT_FOUND
        ) from e
    try:
        found = parse_artifact(text)
    except ValueError as e:
        return None, [Finding(Reason.PROVENANCE_INCOMPLETE, f"{directory}: {e}; {_NOT_OURS}")]
    findings = [*_identity(directory, found, wanted), *_entries(directory, found)]
    stats = _regular(directory, (*found.files, DOCUMENT))
    same_size = {n: f for n, f in found.files.items() if n in stats and stats[n].st_size == f.size}
    findings += [
        _changed(directory, f"{n} has {stats[n].st_size} bytes, not {f.size}")
        for n, f in found.files.items()
        if n in stats and n not in same_size
    ]
    if wanted.contents:
        begins(sum(f.size for f in same_size.values()))
        findings += _contents(directory, same_size, advance)
    if wanted.modes:
        findings += _modes(directory, stats)
    return found, findings


def _identity(directory: Path, found: ArtifactStatement, wanted: Wanted) -> Iterator[Finding]:
    """The id is that of the inputs, and the one that was asked for, by the directory's name too."""
    try:
        computed = id_of(found.inputs)
    except ValueError as e:  # 1e999 is JSON, but no number
        yield Finding(Reason.PROVENANCE_INCOMPLETE, f"{directory}/{DOCUMENT}: its inputs have no id: {e}; {_NOT_OURS}")
    else:
        if computed != found.id:
            yield Finding(
                Reason.ARTIFACT_MISMATCH,
                f"{directory}/{DOCUMENT}: its id is {found.id}, but its inputs have {computed}; {_NOT_OURS}",
            )
    if wanted.artifact_id is not None and found.id != wanted.artifact_id:
        yield Finding(Reason.ARTIFACT_MISMATCH, f"{directory} holds {found.id}, not {wanted.artifact_id}; {_NOT_OURS}")
    name = directory.resolve().name
    if _HEX.fullmatch(name) and found.id != f"sha256:{name}":
        yield Finding(Reason.ARTIFACT_MISMATCH, f"{directory} holds {found.id}, not what its name says; {_NOT_OURS}")
    if wanted.digest is not None and found.digest != wanted.digest:
        yield Finding(
            Reason.ARTIFACT_MISMATCH,
            f"{directory} lists files with the digest {found.digest}, not {wanted.digest}: it was built anew, or"
            f" {DOCUMENT} was changed; {_NOT_OURS}",
        )


def _entries(directory: Path, found: ArtifactStatement) -> Iterator[Finding]:
    """Nothing is missing, nothing is there besides, and everything is a file."""
    with os.scandir(directory) as entries:
        there = {e.name: e.is_file(follow_symlinks=False) for e in entries}
    if missing := found.files.keys() - there.keys():
        yield _changed(directory, f"{some(missing)}: missing")
    if extra := there.keys() - found.files.keys() - {DOCUMENT}:
        yield _changed(directory, f"{some(extra)}: not listed in {DOCUMENT}")
    if odd := [n for n, is_file in there.items() if not is_file and n not in extra]:
        yield _changed(directory, f"{some(odd)}: not a regular file (a link, a directory or a device)")


def _regular(directory: Path, names: Iterable[str]) -> dict[str, os.stat_result]:
    stats = {n: (directory / n).lstat() for n in names if os.path.lexists(directory / n)}
    return {n: s for n, s in stats.items() if stat.S_ISREG(s.st_mode)}


def _contents(directory: Path, files: Mapping[str, File], advance: Callable[[int], None]) -> Iterator[Finding]:
    digests = directory_digests(directory, files, advance)
    for name, file in files.items():
        if digests[name] != file.sha256:
            yield _changed(directory, f"{name} has sha256 {digests[name]}, not {file.sha256}")


def _modes(directory: Path, stats: Mapping[str, os.stat_result]) -> Iterator[Finding]:
    writable = [n for n, s in stats.items() if stat.S_IMODE(s.st_mode) & 0o222]
    if stat.S_IMODE(directory.stat().st_mode) & 0o222:
        writable.append(".")
    if writable:
        yield Finding(
            Reason.ARTIFACT_WRITABLE,
            f"{directory}: {some(writable)} can be written to: chmod -R a-w, or give --any-mode for a copy, or for a"
            " volume without modes",
        )
    if linked := [n for n, s in stats.items() if s.st_nlink > 1]:
        yield Finding(
            Reason.ARTIFACT_WRITABLE,
            f"{directory}: {some(linked)} has another name (a hard link), by which it could be changed: copy it, or"
            " give --any-mode",
        )


def _changed(directory: Path, what: str) -> Finding:
    return Finding(Reason.ARTIFACT_CORRUPTED, f"{directory}: {what}; {_NOT_OURS}")
