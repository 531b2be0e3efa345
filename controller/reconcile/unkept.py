"""Fields of a status that the API server did not keep: it prunes what its CRD does not have, and answers 200.

So it is while the CRD is older than the controller. A field that is lost would be decided and written anew in each
pass, for nothing. Must not know: how a status is written, and what its fields are for.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from controller.api.status import AdapterReleaseStatus
from controller.runtime.resources import Key

Path = tuple[str, ...]

_TRIED_AGAIN = timedelta(minutes=10)  # by then the CRD may have been applied
_NAMED = 3


def unkept(written: Any, stored: Any, at: Path = ()) -> frozenset[Path]:
    """Paths of what was written and is not there. The items of a list are all one."""
    found: set[Path] = set()
    if isinstance(written, dict) and isinstance(stored, dict):
        found.update((*at, name) for name in written if name not in stored)
        for name in written.keys() & stored.keys():
            found |= unkept(written[name], stored[name], (*at, name))
    elif isinstance(written, list) and isinstance(stored, list):
        for item, kept in zip(written, stored, strict=False):
            found |= unkept(item, kept, at)
    return frozenset(found)


def explanation(fields: Collection[Path]) -> str:
    """What is wrong, and what to do."""
    names = sorted(".".join(("status", *path)) for path in fields)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (
        f"remember all of the status: the CRD does not have {', '.join(names[:_NAMED])}{more}, "
        "so it is older than this controller. Apply the CRD of the controller's version"
    )


class Unkept:
    """Of each release what its last write lost. One thread at a time for the same release."""

    def __init__(self) -> None:
        self._lost: dict[Key, tuple[frozenset[Path], datetime]] = {}

    def note(self, release: Key, fields: frozenset[Path], now: datetime) -> None:
        """After a write."""
        self.forget(release)
        if fields:
            self._lost[release] = (fields, now + _TRIED_AGAIN)

    def of(self, release: Key) -> frozenset[Path]:
        return self._lost[release][0] if release in self._lost else frozenset()

    def is_all(self, release: Key, stored: AdapterReleaseStatus, wanted: AdapterReleaseStatus, now: datetime) -> bool:
        """Is all that the two differ in what would be lost again? False when it is time to try."""
        if release not in self._lost:
            return False
        fields, until = self._lost[release]
        return now < until and _without(stored.to_wire(), fields) == _without(wanted.to_wire(), fields)

    def forget(self, release: Key) -> None:
        self._lost.pop(release, None)


def _without(value: Any, fields: Collection[Path], at: Path = ()) -> Any:
    if isinstance(value, dict):
        return {n: _without(v, fields, (*at, n)) for n, v in value.items() if (*at, n) not in fields}
    if isinstance(value, list):
        return [_without(item, fields, at) for item in value]
    return value
