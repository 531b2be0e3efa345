"""What went wrong, as a job says it: Transient or Permanent by type, and a documented reason.

Must not know the stages, nor how anybody is told.
"""

from __future__ import annotations

import errno
import logging

from controller.errors import PermanentError, TransientError
from controller.job.findings import RejectedError, printable
from controller.job.reasons import Reason
from controller.job.summary import Failure, FailureKind

log = logging.getLogger("adapterrelease.job")


def failure_of(error: Exception) -> Failure:
    """What nobody foresaw is Transient: a retry is limited and may help."""
    if isinstance(error, RejectedError):
        reasons = tuple(dict.fromkeys(str(f.reason) for f in error.findings))
        return failure(FailureKind.PERMANENT, reasons[0], error.message, reasons)
    if isinstance(error, PermanentError):
        return failure(FailureKind.PERMANENT, error.reason, error.message)
    if isinstance(error, TransientError):
        return failure(FailureKind.TRANSIENT, error.reason, error.message)
    if isinstance(error, OSError):
        return failure(FailureKind.TRANSIENT, disk_reason(error), str(error))
    if isinstance(error, MemoryError):
        return failure(FailureKind.TRANSIENT, Reason.OUT_OF_MEMORY, str(error) or "out of memory")
    log.exception("unexpected", exc_info=error)
    return failure(FailureKind.TRANSIENT, Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}")


def disk_reason(error: OSError) -> Reason:
    return Reason.DISK_FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else Reason.STORAGE_ERROR


def failure(kind: FailureKind, reason: str, message: str, reasons: tuple[str, ...] = ()) -> Failure:
    return Failure(kind=kind, reason=reason, message=printable(message), reasons=reasons or (reason,))
