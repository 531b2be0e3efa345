"""Takes the files of one directory out of a .tar, .tar.gz or .zip that somebody else packed.

Nothing of the archive decides where a file is written, and sizes are counted, not believed.
Must not know what the files are for.
"""

from __future__ import annotations

import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, cast

from controller.errors import PermanentError
from controller.job.reasons import Reason

BLOCK = 1 << 20
MAX_MEMBERS = 10_000
MAX_HEADER_BYTES = 16 << 20  # of all members together
SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
Member = tuple[str, Callable[[], IO[bytes] | None]]
_BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, OSError, RuntimeError, ValueError),
)


def is_archive(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def extract(archive: Path, target: Path, anchor: str, wanted: frozenset[str], max_bytes: int) -> list[str]:
    """Writes the `wanted` files that lie beside the one file called `anchor` into `target`; all names there.

    Raises PermanentError for links, devices, names that leave the archive, several anchors or too many bytes: what is
    not wanted counts where it must be unpacked to get past it.
    """
    try:
        with _unpacked(archive) as source:
            reader = _Reader(archive, source, max_bytes)
            opened = _open(reader)
            members = dict(_members(opened))
            reader.header_room = None
            anchors = [PurePosixPath(n) for n in members if PurePosixPath(n).name == anchor]
            if len(anchors) != 1:
                raise _invalid(archive, f"holds {len(anchors)} files {anchor}; one is needed")
            beside = {PurePosixPath(n).name: n for n in members if PurePosixPath(n).parent == anchors[0].parent}
            for name in sorted(wanted & set(beside)):
                max_bytes -= _write(archive, members[beside[name]](), target / name, max_bytes)
            return sorted(beside)
    except _BROKEN as e:
        # an unreadable archive is the packer's mistake, a full disk is not
        if isinstance(e, OSError) and e.errno is not None:
            raise
        raise _invalid(archive, str(e) or type(e).__name__) from e


class _Reader:
    """What tarfile and zipfile read an archive through.

    Both take a header into memory whole, however large it says it is, so headers have a limit; it is `header_room`
    until they are read. tarfile gets past a member by unpacking it, so that is counted by how far it goes.
    """

    def __init__(self, archive: Path, source: IO[bytes], room: int) -> None:
        self.header_room: int | None = MAX_HEADER_BYTES
        self.archive = archive
        self._source, self._room = source, room
        self.tell, self.seekable = source.tell, source.seekable

    def read(self, size: int = -1) -> bytes:
        room = self.header_room
        if room is None:
            return self._source.read(size)
        block = self._source.read(room + 1 if size < 0 else min(size, room + 1))
        if len(block) > room:
            raise ValueError(f"its headers are larger than {MAX_HEADER_BYTES} bytes")
        self.header_room = room - len(block)
        return block

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET and position > self._room:
            raise _too_large(self.archive)
        return self._source.seek(position, whence)


def _unpacked(archive: Path) -> IO[bytes]:
    """The bytes of the .zip or .tar, without the .gz."""
    if archive.name.lower().endswith("gz"):
        return cast(IO[bytes], gzip.open(archive))
    return archive.open("rb")


def _open(reader: _Reader) -> tarfile.TarFile | zipfile.ZipFile:
    source = cast(IO[bytes], reader)
    if reader.archive.name.lower().endswith(".zip"):
        return zipfile.ZipFile(source)
    return tarfile.open(fileobj=source, mode="r:")


def _members(opened: tarfile.TarFile | zipfile.ZipFile) -> Iterator[Member]:
    for count, (name, regular, read) in enumerate(_entries(opened)):
        path = PurePosixPath(name)
        if count >= MAX_MEMBERS:
            raise ValueError(f"more than {MAX_MEMBERS} members")
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            raise ValueError(f"member {name!r} leaves the archive")
        if not regular:
            raise ValueError(f"member {name!r} is a link or a device")
        yield str(path), read


Entry = tuple[str, bool, Callable[[], IO[bytes] | None]]


def _entries(opened: tarfile.TarFile | zipfile.ZipFile) -> Iterator[Entry]:
    """Name, whether it is a regular file, and how to read it; without directories."""
    if isinstance(opened, zipfile.ZipFile):
        for info in opened.infolist():
            mode = info.external_attr >> 16
            if not info.is_dir():
                yield info.filename, stat.S_IFMT(mode) in (0, stat.S_IFREG), partial(opened.open, info)
    else:
        for member in opened:
            member.pax_headers = {}  # of those of the whole archive each member has a copy
            if not member.isdir():
                yield member.name, member.isreg(), partial(opened.extractfile, member)


def _write(archive: Path, source: IO[bytes] | None, target: Path, room: int) -> int:
    size = 0
    if source is None:
        raise _invalid(archive, f"{target.name} cannot be read")
    with source, target.open("wb") as out:
        while block := source.read(BLOCK):
            size += len(block)
            if size > room:
                raise _too_large(archive)
            out.write(block)
    return size


def _too_large(archive: Path) -> PermanentError:
    return PermanentError(f"{archive.name} unpacks to more than allowed", reason=Reason.SOURCE_TOO_LARGE)


def _invalid(archive: Path, what: str) -> PermanentError:
    return PermanentError(f"archive {archive.name}: {what}", reason=Reason.SOURCE_INVALID)
