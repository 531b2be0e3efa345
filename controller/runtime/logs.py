"""Logs as one JSON object a line on stderr, with the controller, key and id of the reconciliation.

Secrets never get out: what looks like a credential is struck out of every line, and so is every value
that `hide` was told. Knows nothing of what is logged.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from threading import Lock
from typing import Any, ParamSpec, TextIO, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_scope: ContextVar[dict[str, str] | None] = ContextVar("log_scope", default=None)
_hidden: frozenset[str] = frozenset()  # replaced, never changed: other threads go through it
_hiding = Lock()

_STRUCK = "[redacted]"
_PATTERNS = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), rf"\1 {_STRUCK}"),
    (re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"), _STRUCK),
    (
        re.compile(
            r"""(?ix)
            ((?:[\w-]*(?:token|passw(?:or)?d|secret|api[_-]?key|access[_-]?key|signature|credential)|sig)
             \\?["']?\s*[=:]\s*\\?["']?)
            [^\s"'&,;\\}]{4,}"""
        ),
        rf"\1{_STRUCK}",
    ),
    (re.compile(r"\bhf_[A-Za-z0-9]{8,}|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"), _STRUCK),
)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


@contextmanager
def scope(**fields: str) -> Iterator[None]:
    """Add the fields to every line that this thread logs inside."""
    token = _scope.set({**(_scope.get() or {}), **fields})
    try:
        yield
    finally:
        _scope.reset(token)


def current() -> Mapping[str, str]:
    """The fields of this thread's scope."""
    return _scope.get() or {}


def carried(call: Callable[P, R]) -> Callable[P, R]:
    """The call, for another thread: what it logs there has the scope of this one. Threads of a pool have none."""
    fields = _scope.get()

    def carry(*args: P.args, **kwargs: P.kwargs) -> R:
        token = _scope.set(fields)
        try:
            return call(*args, **kwargs)
        finally:
            _scope.reset(token)

    return carry


def hide(secret: str) -> None:
    """Strike this value out of every line from now on."""
    global _hidden
    if len(secret) >= 4:  # a shorter one would strike out half the log
        with _hiding:
            _hidden |= {secret}


def redact(text: str) -> str:
    """The text without credentials."""
    for secret in _hidden:
        text = text.replace(secret, _STRUCK)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


class JsonFormatter(logging.Formatter):
    """Fields: ts, level, logger, msg, then the scope's and the call's `extra`, and error with a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": redact(record.getMessage()),
        }
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        line |= {name: _plain(value) for name, value in {**(_scope.get() or {}), **extra}.items()}
        if record.exc_info:
            line["error"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def configure(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send every logger's lines to `stream`, by default stderr."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(level.upper())
    for noisy in ("urllib3", "httpx", "httpcore", "kubernetes"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float) or value is None else redact(str(value))
