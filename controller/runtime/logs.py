"""Logs as one JSON object a line on stderr, with the controller, key and id of the reconciliation.

Secrets never get out: what looks like a credential is struck out of every line, and so is every value
that `hide` was told. What others wrote (vLLM, jobs, names of files) cannot end a line nor steer a terminal.
Knows nothing of what is logged.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, ParamSpec, TextIO, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_scope: ContextVar[dict[str, str] | None] = ContextVar("log_scope", default=None)
_hidden: tuple[str, ...] = ()  # the longest first; replaced, never changed: other threads go through it
_hiding = threading.Lock()

_STRUCK = "[redacted]"
# A name of which a long text has many begins only where a word begins: else matching takes the square of its length.
_NAMED = r"""(?ix)
    (?<![\w-])
    ((?:[\w-]*(?:token|passw(?:or)?d|passphrase|secret|(?:api|access|private)[_-]?key|signature|credential)|sig)
     \\?["']?\s*[=:]\s*)"""
_PATTERNS = (
    (re.compile(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"), _STRUCK),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), rf"\1 {_STRUCK}"),
    (re.compile(r"(?<=://)[^/\s@]+(?=@)"), _STRUCK),
    (re.compile(_NAMED + r"""(\\?["'])(?:(?!\2).){4,}\2"""), rf"\1\2{_STRUCK}\2"),
    (re.compile(_NAMED + r"""(\\?["']?)[^\s"'&,;\\}]{4,}"""), rf"\1\2{_STRUCK}"),
    (re.compile(r"\b(?:hf_|gh[oprsu]_|github_pat_|glpat-)\w{8,}|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"), _STRUCK),
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
            _hidden = tuple(sorted({*_hidden, secret}, key=len, reverse=True))


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
        return _visible(json.dumps(line, ensure_ascii=False))


def configure(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send every logger's lines to `stream`, by default stderr."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(level.upper())
    for noisy in ("urllib3", "httpx", "httpcore", "kubernetes"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    sys.excepthook = _ended
    threading.excepthook = lambda told: _ended(told.exc_type, told.exc_value, told.exc_traceback)


def _ended(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """What nobody caught is a line like all others, without credentials."""
    if not issubclass(kind, SystemExit):
        logging.getLogger(__name__).error("not caught", exc_info=(kind, error or kind(), trace))


def _plain(value: Any) -> Any:
    """As JSON has it, which has no NaN and no infinity."""
    if isinstance(value, bool | int) or value is None or (isinstance(value, float) and math.isfinite(value)):
        return value
    return redact(str(value))


def _visible(text: str) -> str:
    """The same JSON: what turns the direction of reading, steers a terminal or ends a line is written by its number."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
