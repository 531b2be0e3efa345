"""Every exception the project raises on purpose, as one tree.

What decides about a retry is the type, never the text: a `TransientError` may succeed when the same
call is made again, a `PermanentError` will not until somebody changes something. Knows nothing else
of the project; every layer may import it and add its own leaves.

    AdapterReleaseError                  reason (CamelCase, for conditions and events) and message
    ├── TransientError
    │   ├── LeadershipLost               another controller may lead; write nothing more
    │   ├── ConnectionLost        (a)    no answer: refused, reset, timed out, cut off
    │   ├── ServerError           (a)    5xx; may carry retry_after
    │   ├── TooManyRequests       (a)    429; may carry retry_after
    │   ├── Conflict              (a)    409: the object has changed since it was read
    │   ├── Gone                  (a)    410: the resourceVersion or list token is too old; list again
    │   └── Unauthorized          (a)    401: the token has expired; the next call reads it again
    └── PermanentError
        ├── NotFound              (a)    404
        ├── AlreadyExists         (a)    409 of a create
        ├── Forbidden             (a)    403: RBAC, quota or admission; somebody has to change something
        ├── Invalid               (a)    422: the object breaks its schema or a CEL rule
        └── BadRequest            (a)    any other 4xx

    ApiError (a): what the Kubernetes API server answered; also has status, details and retry_after.
"""

# ruff: noqa: N818 - the leaves have the names that Kubernetes gives these reasons
from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class AdapterReleaseError(Exception):
    """The root. `reason` is for conditions; `message` says what is wrong, where, and what to do."""

    default_reason = "Error"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason


class TransientError(AdapterReleaseError):
    """The same call may succeed later, with nothing changed by anybody."""

    default_reason = "TransientError"


class PermanentError(AdapterReleaseError):
    """The same call fails again until somebody changes something."""

    default_reason = "PermanentError"


class LeadershipLost(TransientError):
    """This process may no longer be the leader, so the write was not sent."""

    default_reason = "LeadershipLost"


class ApiError(AdapterReleaseError):
    """An answer, or no answer, of the Kubernetes API server. Status 0 means no answer."""

    default_reason = "ApiError"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        status: int = 0,
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, reason=reason)
        self.status = status
        self.details: Mapping[str, Any] = details or {}
        self.retry_after = retry_after


class ConnectionLost(ApiError, TransientError):
    default_reason = "ConnectionLost"


class ServerError(ApiError, TransientError):
    default_reason = "InternalError"


class TooManyRequests(ApiError, TransientError):
    default_reason = "TooManyRequests"


class Conflict(ApiError, TransientError):
    default_reason = "Conflict"


class Gone(ApiError, TransientError):
    default_reason = "Expired"


class Unauthorized(ApiError, TransientError):
    default_reason = "Unauthorized"


class NotFound(ApiError, PermanentError):
    default_reason = "NotFound"


class AlreadyExists(ApiError, PermanentError):
    default_reason = "AlreadyExists"


class Forbidden(ApiError, PermanentError):
    default_reason = "Forbidden"


class Invalid(ApiError, PermanentError):
    default_reason = "Invalid"


class BadRequest(ApiError, PermanentError):
    default_reason = "BadRequest"
