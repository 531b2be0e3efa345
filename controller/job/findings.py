"""What a check found: a documented reason, and a message that says what is wrong and what to do.

Must not know how the checks work.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from controller.errors import PermanentError
from controller.job.reasons import Reason


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
    return ", ".join(every[:limit]) + more
