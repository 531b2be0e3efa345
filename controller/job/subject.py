"""What a check looks at: the adapter, the base that it is for, and the use that is made of it.

Must not know the checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from controller.job.adapter import Adapter
from controller.job.architecture import Architecture
from controller.job.base import Base
from controller.job.contract import Use
from controller.job.findings import Finding


@dataclass(frozen=True)
class Subject:
    """Without a base, nothing that needs one is checked."""

    adapter: Adapter
    base: Base | None
    max_lora_rank: int | None
    use: Use

    @cached_property
    def architecture(self) -> Architecture | None:
        return Architecture(self.base) if self.base is not None else None

    @cached_property
    def vocabulary(self) -> int | None:
        """Rows of the input embedding, with those that the adapter brings."""
        if self.architecture is None or self.architecture.embeddings is None:
            return None
        brought = self.adapter.saved.get(self.architecture.embeddings.input)
        return brought.shape[0] if brought is not None and brought.shape else self.architecture.embedding_rows


Check = Callable[[Subject], Iterator[Finding]]
