"""A release as it changes: looked at again at each event, and every few seconds for what sends none.

Must not know: what is done with a look.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from controller.cli.cluster import Cluster
from controller.cli.reading import view_around
from controller.cli.view import View
from controller.errors import ApiError, PermanentError, TransientError

_LOOK_EVERY = 3.0  # seconds: pods of a candidate and time that is left make no event of the release
_GRACE = 2.0


@dataclass(frozen=True)
class Look:
    """What was seen last, and why it could not be looked at since."""

    view: View
    problem: str = ""
    is_over: bool = False  # the time is over: there is no further look


def looks(cluster: Cluster, name: str, timeout: float | None) -> Iterator[Look]:
    """The first look fails as any command does; a later one that has no answer is tried again until the time is over.

    Raises TransientError when the release is gone. `timeout` in seconds; None: for ever; 0: one look.
    """
    ends = None if timeout is None else time.monotonic() + timeout
    raw = cluster.raw_release(name)
    seen = view_around(cluster, raw)
    problem = ""
    while True:
        left = _LOOK_EVERY if ends is None else min(_LOOK_EVERY, ends - time.monotonic())
        yield Look(seen, problem, is_over=left <= 0)
        if left <= 0:
            return
        try:
            _wait_for_news(cluster, name, raw["metadata"]["resourceVersion"], left)
            raw = cluster.raw_release(name)
            seen, problem = view_around(cluster, raw), ""
        except TransientError as error:
            problem = error.message
            threading.Event().wait(min(1.0, left))
        except PermanentError as error:
            if isinstance(error, ApiError):
                raise
            raise TransientError(f"release {name} was deleted", reason="Deleted") from error


def _wait_for_news(cluster: Cluster, name: str, version: str, seconds: float) -> None:
    """Until the release changes, at most so long."""
    from controller.reconcile.caches import RELEASES

    whole = max(1, round(seconds))
    watch = cluster.client.watch(
        RELEASES.path(cluster.namespace),
        version,
        whole,
        field_selector=f"metadata.name={name}",
        read_timeout=whole + _GRACE,
    )
    for event in watch:
        if event["type"] != "BOOKMARK":
            return
