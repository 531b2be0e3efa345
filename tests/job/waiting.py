"""A job that waits until another one is done with what both work in."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TypeVar

import pytest

T = TypeVar("T")


class _Hears(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.waits = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if "another job is working in" in record.getMessage():
            self.waits.set()


def result_after(other: AbstractContextManager[object], work: Callable[[], T], caplog: pytest.LogCaptureFixture) -> T:
    """Does `work` while the other job holds its lock; that ends as soon as `work` says that it waits."""
    logger, hears = logging.getLogger("adapterrelease.job"), _Hears()
    logger.addHandler(hears)
    try:
        with caplog.at_level(logging.INFO, logger.name), ThreadPoolExecutor(1) as pool:
            with other:
                mine = pool.submit(work)
                assert hears.waits.wait(30)
                assert not mine.done()
            return mine.result(30)
    finally:
        logger.removeHandler(hears)
