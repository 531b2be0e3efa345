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
from controller.errors import ApiError, Forbidden, PermanentError, TransientError

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
    seen, problem = view_around(cluster, cluster.raw_release(name)), ""
    while True:
        left = _LOOK_EVERY if ends is None else min(_LOOK_EVERY, ends - time.monotonic())
        yield Look(seen, problem, is_over=left <= 0)
        if left <= 0:
            return
        try:
            _wait_for_news(cluster, name, seen.release.metadata.resource_version, left)
            seen, problem = view_around(cluster, cluster.raw_release(name)), ""
        except TransientError as error:
            problem = error.message
            threading.Event().wait(min(1.0, left))
        except PermanentError as error:
            if error.reason != "NotFound" or isinstance(error, ApiError):
                raise
            raise TransientError(f"release {name} was deleted", reason="Deleted") from error


def _wait_for_news(cluster: Cluster, name: str, version: str, seconds: float) -> None:
    """Until the release is at another version, at most so long; without the right to watch, so long.

    The watch begins with the release as it is. From the version of a release that rests it could not begin: the API
    server may have forgotten that one long ago.
    """
    from controller.reconcile.caches import RELEASES

    whole = max(1, round(seconds))
    path, only = RELEASES.path(cluster.namespace), f"metadata.name={name}"
    try:
        for event in cluster.client.watch(path, "", whole, field_selector=only, read_timeout=whole + _GRACE):
            if event["type"] != "BOOKMARK" and event["object"]["metadata"]["resourceVersion"] != version:
                return
    except Forbidden:
        threading.Event().wait(seconds)
