"""How a command ends: exit codes, and errors as one line on stderr or as JSON on stdout.

Must not know the commands.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from pydantic import ValidationError

from controller.errors import AdapterReleaseError, PermanentError
from controller.job.failures import disk_reason
from controller.job.reasons import Reason

DONE, FAILED, REJECTED, NO_VERDICT = 0, 1, 2, 3


@contextmanager
def told(as_json: bool = False, failed: int = FAILED) -> Iterator[None]:
    """Errors of the project and of the disk end the command with its exit code instead of a traceback.

    `failed` is the exit code where another try may help.
    """
    try:
        yield
    except BrokenPipeError:  # who reads the output has gone: nobody to tell
        raise
    except (AdapterReleaseError, OSError) as e:
        reason = e.reason if isinstance(e, AdapterReleaseError) else str(disk_reason(e))
        findings = findings_of(e) or [{"reason": reason, "message": str(e)}]
        if as_json:
            print(json.dumps({"ok": False, "findings": findings}))
        else:
            for finding in findings:
                note(f"adapterrelease: {finding['reason']}: {finding['message']}")
        raise typer.Exit(REJECTED if isinstance(e, PermanentError) else failed) from e


@contextmanager
def arguments() -> Iterator[None]:
    """What a contract refuses of the arguments that it is made of is said by their options."""
    try:
        yield
    except ValidationError as e:
        raise PermanentError(
            "; ".join(f"{_of(x['loc'])}: {x['msg']}" for x in e.errors()), reason=Reason.INVALID_ARGUMENT
        ) from e


def _of(field: tuple[int | str, ...]) -> str:
    """A rule about several fields has no name."""
    return option(str(field[-1])) if field else "arguments"


def option(name: str) -> str:
    """`--group-size` for `groupSize` or `group_size`."""
    return "--" + re.sub(r"[A-Z]", r"-\g<0>", name).replace("_", "-").lower()


def findings_of(error: Exception) -> list[dict[str, str]]:
    """The reasons that a rejected adapter was rejected for."""
    return [{"reason": str(f.reason), "message": f.message} for f in getattr(error, "findings", ())]


def note(text: str) -> None:
    """For people: to stderr, so that stdout is the result."""
    print(text, file=sys.stderr, flush=True)
