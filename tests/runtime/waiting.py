"""Waiting for a state, without sleeping for a time that somebody guessed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

PATIENCE = 20.0


class Recorder:
    """Notes what it is called with; `wait_for` returns as soon as a condition on the notes holds."""

    def __init__(self) -> None:
        self.notes: list[Any] = []
        self._changed = threading.Condition()

    def __call__(self, *note: Any) -> None:
        with self._changed:
            self.notes.append(note[0] if len(note) == 1 else note)
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[list[Any]], bool]) -> None:
        with self._changed:
            held = self._changed.wait_for(lambda: condition(self.notes), PATIENCE)
        assert held, f"it never came to that; seen: {self.notes[-20:]}"


class FakeClock:
    """Monotonic seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
