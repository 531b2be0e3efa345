"""Turns a source (a mounted path or an https address) into files on this machine.

Must not know what the files are for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from controller.errors import PermanentError
from controller.job.contract import Source
from controller.job.download import Downloader
from controller.job.reasons import Reason

Advance = Callable[[int], None]


def downloader_for(source: Source) -> Downloader:
    return Downloader(credentials=Path(source.credentials) if source.credentials else None)


def resolve_inside(path: Path, root: Path) -> Path:
    """`path` without links. Raises PermanentError if it is not there or lies outside of `root`."""
    try:
        resolved = path.resolve(strict=True)
    except (OSError, RuntimeError) as e:
        raise PermanentError(f"{path} is not there", reason=Reason.SOURCE_NOT_FOUND) from e
    if not resolved.is_relative_to(root.resolve()):
        raise PermanentError(f"{path} leads out of {root}", reason=Reason.SOURCE_FORBIDDEN)
    return resolved


def local_file(source: Source, directory: Path, max_bytes: int, advance: Advance, downloader: Downloader) -> Path:
    """The one file that `source` names; an https source is fetched into `directory`."""
    if source.path is not None:
        path = resolve_inside(Path(source.path), Path(source.root or "/"))
        if not path.is_file():
            raise PermanentError(f"{path} is not a file", reason=Reason.SOURCE_INVALID)
        if path.stat().st_size > max_bytes:
            raise PermanentError(f"{path} is larger than {max_bytes} bytes", reason=Reason.SOURCE_TOO_LARGE)
        return path
    target = directory / "downloaded"
    downloader.download(str(source.url), target, max_bytes, advance)
    return target
