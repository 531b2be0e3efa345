"""The plugin's version: a digest of its files. The controller computes the same for what it ships."""

from __future__ import annotations

import hashlib
from pathlib import Path


def plugin_version(directory: Path) -> str:
    """The first 12 hex characters of the sha256 over every *.py file, by name: name, NUL, content, NUL."""
    digest = hashlib.sha256()
    for path in sorted(directory.glob("*.py"), key=lambda path: path.name):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
