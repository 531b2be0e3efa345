"""Regular expressions that somebody else wrote, matched within a bound of time.

PEFT names modules by any pattern of Python, and Python's engine backtracks: `(.+)+x` on the name of one module
does not end. The `regex` package, by which vLLM matches the same patterns, can be told to stop.
Must not know what the patterns are for.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import regex

from controller.job.findings import shown

MAX_LENGTH = 1024
# Of this process's CPU: a match takes microseconds, ten thousand modules a tenth of a second.
SECONDS_A_MATCH = 0.1
SECONDS = 10.0
_Run = Callable[["regex.Pattern[str]", float], "regex.Match[str] | None"]


class PatternError(ValueError):
    """A pattern that cannot be used. The message says why."""


def problem_of(pattern: str) -> str | None:
    """Why `pattern` cannot be used, if so."""
    if len(pattern) > MAX_LENGTH:
        return f"is longer than {MAX_LENGTH} characters"
    if re.search(r"\{[^0-9,]", pattern):
        return "has a '{' that begins no count"  # regex takes {e<=1} for fuzzy matching, Python takes it literally
    try:
        re.compile(pattern)
        regex.compile(pattern)
    except (re.error, regex.error, RecursionError, OverflowError, MemoryError) as e:
        return f"is no regular expression: {e}"
    return None


class Matcher:
    """Matches patterns as Python's `re` does, until one takes too long or all together do."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._left = seconds
        self._compiled: dict[str, regex.Pattern[str]] = {}

    def match(self, pattern: str, text: str) -> regex.Match[str] | None:
        """`re.match`. Raises PatternError when the time is over."""
        return self._timed(pattern, lambda compiled, limit: compiled.match(text, timeout=limit))

    def fullmatch(self, pattern: str, text: str) -> bool:
        """`re.fullmatch`. Raises PatternError when the time is over."""
        return self._timed(pattern, lambda compiled, limit: compiled.fullmatch(text, timeout=limit)) is not None

    def _timed(self, pattern: str, run: _Run) -> regex.Match[str] | None:
        if pattern not in self._compiled:
            self._compiled[pattern] = regex.compile(pattern)
        if self._left > 0:
            start = time.process_time()
            try:
                return run(self._compiled[pattern], min(self._left, SECONDS_A_MATCH))
            except TimeoutError:
                self._left = 0.0
            finally:
                self._left -= time.process_time() - start
        raise PatternError(f"the pattern {shown(pattern)} takes too long to match: write it without nested repeats")
