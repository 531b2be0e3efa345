"""Errors of the plugin's own code: counted, and logged once a kind. Reporting one never raises."""

from __future__ import annotations

import logging
from collections.abc import Callable

WHERE = ("start", "restore", "door", "request", "answer", "close", "end", "models", "admin")
_log = logging.getLogger("vllm.adapterrelease")  # below vLLM's logger, so that it is written as vLLM's own lines are


class Failures:
    """`count` is told where each one happened."""

    def __init__(self, count: Callable[[str], None]) -> None:
        self._count = count
        self._seen: set[tuple[str, str]] = set()

    def report(self, where: str, error: BaseException) -> None:
        try:
            kind = where, type(error).__name__
            if kind not in self._seen:
                self._seen.add(kind)
                _log.error(
                    "adapterrelease: the plugin failed (%s); requests go on as without it", where, exc_info=error
                )
            self._count(where)
        except Exception:  # noqa: S110 - there is nobody left to tell
            pass


def say(message: str, *values: object) -> None:
    _log.info("adapterrelease: " + message, *values)


def warn(message: str, *values: object) -> None:
    _log.warning("adapterrelease: " + message, *values)
