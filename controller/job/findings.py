"""What a check found: a documented reason, and a message that says what is wrong and what to do.

Must not know how the checks work.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from controller.errors import PermanentError
from controller.job.reasons import Reason

_LINE = 120


@dataclass(frozen=True)
class Finding:
    reason: Reason
    message: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


class RejectedError(PermanentError):
    """The input is refused, with every reason at once."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        first, *others = self.findings  # the first one's reason is the error's own
        super().__init__("; ".join([first.message, *map(str, others)]), reason=str(first.reason))


def some(names: Iterable[str], limit: int = 3) -> str:
    """The first few of `names` and how many there are besides, for a message."""
    every = sorted(names)
    more = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(_cut(name) for name in every[:limit]) + more


def shown(value: Any) -> str:
    """A value that somebody else wrote, for a message: as Python writes it, and short."""
    if isinstance(value, str | bytes):
        value = value[:_LINE]
    elif isinstance(value, int) and value.bit_length() > 256:
        return "a huge number"
    elif isinstance(value, dict):
        value = dict(list(value.items())[:8])
    elif isinstance(value, list):
        value = value[:8]
    return _cut(repr(value))


def printable(text: str) -> str:
    """`text` with what is no character escaped: names of files and tensors may hold bytes that are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _cut(text: str) -> str:
    return printable(text if len(text) <= _LINE else f"{text[:_LINE]}...")
