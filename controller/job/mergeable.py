"""What no merge can serve, whatever the shapes are. Each check is named as a sentence.

Must not know which tensors an adapter changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from controller.job.base import Base
from controller.job.changes import Weighted
from controller.job.findings import Finding, some
from controller.job.reasons import Reason


def base_is_quantized(base: Base) -> Iterator[Finding]:
    """Weights of 8 bits and fewer have scales beside them: adding to the numbers alone would be nonsense."""
    if small := [t.name for t in base.tensors() if t.dtype.startswith(("F8", "F6", "F4"))]:
        yield Finding(
            Reason.INVALID_BASE,
            f"{some(small)}: {len(small)} tensors are of 8 bits or fewer; merge into the unquantized model",
        )


def adapters_cannot_be_combined(adapters: Sequence[Weighted]) -> Iterator[Finding]:
    """Sums of plain LoRA are defined; sums of replaced tensors, rows or lengths are not."""
    for number, weighted in enumerate(adapters, 1):
        adapter = weighted.adapter
        more = {"DoRA": adapter.magnitudes, "saved tensors": adapter.saved, "trained tokens": adapter.tokens}
        if (len(adapters) > 1 or weighted.weight != 1) and (found := [what for what, has in more.items() if has]):
            yield Finding(
                Reason.UNSUPPORTED_COMBINATION,
                f"adapter {number} ({adapter.path.name}) has {' and '.join(found)}: it can only be merged alone and"
                " with weight 1",
            )
