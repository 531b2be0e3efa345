"""How a command ends: exit codes, and errors as one line on stderr or as JSON on stdout.

Must not know the commands.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from controller.errors import AdapterReleaseError, PermanentError
from controller.job.failures import disk_reason

DONE, FAILED, REJECTED, NO_VERDICT = 0, 1, 2, 3


@contextmanager
def told(as_json: bool = False) -> Iterator[None]:
    """Errors of the project and of the disk end the command with its exit code instead of a traceback."""
    try:
        yield
    except (AdapterReleaseError, OSError) as e:
        reason = e.reason if isinstance(e, AdapterReleaseError) else str(disk_reason(e))
        findings = findings_of(e) or [{"reason": reason, "message": str(e)}]
        if as_json:
            print(json.dumps({"ok": False, "findings": findings}))
        else:
            for finding in findings:
                note(f"adapterrelease: {finding['reason']}: {finding['message']}")
        raise typer.Exit(REJECTED if isinstance(e, PermanentError) else FAILED) from e


def findings_of(error: Exception) -> list[dict[str, str]]:
    """The reasons that a rejected adapter was rejected for."""
    return [{"reason": str(f.reason), "message": f.message} for f in getattr(error, "findings", ())]


def note(text: str) -> None:
    """For people: to stderr, so that stdout is the result."""
    print(text, file=sys.stderr, flush=True)
