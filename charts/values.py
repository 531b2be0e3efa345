"""values.yaml as people read it: each value with its default and the comment above it, in the order of the file.

Knows nothing of what the values mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

_KEY = re.compile(r"^( *)([\w-]+):(?: |$)")
_COMMENT = re.compile(r"^ *# ?(.*)$")

Path = tuple[str, ...]


@dataclass(frozen=True)
class Value:
    """`default` is None for a group, whose members are values themselves."""

    path: Path
    description: str
    default: str | None

    @property
    def name(self) -> str:
        return ".".join(self.path)


def values(text: str) -> list[Value]:
    """Every commented value of a values.yaml."""
    comments = dict(_comments(text))
    groups = {path[:length] for path in comments for length in range(1, len(path))}
    tree = yaml.safe_load(text)
    return [
        Value(path, description, None if path in groups else json.dumps(at(tree, path)))
        for path, description in comments.items()
    ]


def undocumented(text: str) -> list[str]:
    """Values that have no comment, neither above themselves nor above what they are in."""
    known = {value.path for value in values(text) if value.default is not None}
    missing = []
    for path in _leaves(yaml.safe_load(text)):
        if not any(path[:length] in known for length in range(1, len(path) + 1)):
            missing.append(".".join(path))
    return missing


def at(tree: Any, path: Path) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _comments(text: str) -> Iterator[tuple[Path, str]]:
    """A comment belongs to the key right below it. Nesting is two spaces; what is in braces has no keys of its own."""
    comment: list[str] = []
    parents: list[str] = []
    for line in text.splitlines():
        if found := _COMMENT.match(line):
            comment.append(found[1])
            continue
        if found := _KEY.match(line):
            parents[len(found[1]) // 2 :] = [found[2]]
            if comment:
                yield tuple(parents), " ".join(comment)
        comment = []


def _leaves(tree: Any, path: Path = ()) -> Iterator[Path]:
    if isinstance(tree, dict) and tree:
        for key, inner in tree.items():
            yield from _leaves(inner, (*path, key))
    else:
        yield path
