"""How much memory a piece of work really took, on the host and on the device.

Must not know what the work is.
"""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

_SELF = Path("/proc/self")


class PeakMemory:
    """Peaks since it was made: `host()` and `device()`, in bytes.

    The kernel keeps the peak of the resident set for the life of the process; writing 5 to `clear_refs` starts it
    anew. Where that is forbidden the peak is that of the whole process: never too low.
    """

    def __init__(self, proc: Path = _SELF) -> None:
        self._proc = proc
        with suppress(OSError):
            (proc / "clear_refs").write_text("5")

    def host(self) -> int:
        try:
            lines = (self._proc / "status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
        except (OSError, StopIteration, ValueError):
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def device(self) -> int:
        """0 where there is no device, or nothing has used it yet."""
        torch: Any = sys.modules.get("torch")
        if torch is None or not torch.cuda.is_available():
            return 0
        return int(torch.cuda.max_memory_allocated())
