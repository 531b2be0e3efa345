"""From a Kubernetes `Status` answer to the project's exceptions. Pure; decides by code and reason only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from controller.errors import (
    AlreadyExists,
    ApiError,
    BadRequest,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    ServerError,
    TooManyRequests,
    Unauthorized,
)

_BY_CODE: Mapping[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


def error_from(code: int, body: bytes, headers: Mapping[str, str]) -> ApiError:
    """The exception for an HTTP answer that is not 2xx; the body may be anything, also no JSON."""
    try:
        status = json.loads(body)
    except ValueError:
        status = None
    if not isinstance(status, dict) or status.get("kind") != "Status":
        status = {"message": body[:500].decode("utf-8", "replace").strip()}
    return error_from_status({"code": code, **status}, _seconds(headers.get("Retry-After")))


def error_from_status(status: Mapping[str, Any], retry_after: float | None = None) -> ApiError:
    """The exception for a Status object, also for the one inside an ERROR event of a watch."""
    code = int(status.get("code") or 500)
    reason = status.get("reason") or None
    details = status.get("details") or {}
    kind = _BY_CODE.get(code, ServerError if code >= 500 else BadRequest)
    if kind is Conflict and reason == "AlreadyExists":
        kind = AlreadyExists
    if retry_after is None and details.get("retryAfterSeconds"):
        retry_after = float(details["retryAfterSeconds"])
    message = status.get("message") or f"the API server answered {code}"
    return kind(message, reason=reason, status=code, details=details, retry_after=retry_after)


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds; the API server never sends the form with a date."""
    return float(header) if header and header.isdecimal() else None
