"""How times, sizes, digests and other people's text are written for a terminal. Pure; knows no Kubernetes object."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

SHORT = 12  # characters of a digest that people see, as in the names of merged Deployments
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_LINK = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")


def age(span: timedelta) -> str:
    """As kubectl writes it: 45s, 12m, 3h5m, 2d4h."""
    seconds = max(0, int(span.total_seconds()))
    if seconds < 120:
        return f"{seconds}s"
    if seconds < 3600:
        return _two(seconds, 60, "m", "s") if seconds < 600 else f"{seconds // 60}m"
    if seconds < 86400:
        return _two(seconds // 60, 60, "h", "m") if seconds < 8 * 3600 else f"{seconds // 3600}h"
    return _two(seconds // 3600, 24, "d", "h") if seconds < 8 * 86400 else f"{seconds // 86400}d"


def _two(count: int, per: int, large: str, small: str) -> str:
    rest = count % per
    return f"{count // per}{large}{rest}{small}" if rest else f"{count // per}{large}"


def ago(since: datetime | None, now: datetime) -> str:
    """Age of a moment; "" where none is known."""
    return age(now - since) if since is not None else ""


def moment(text: str | None) -> datetime | None:
    """RFC 3339; None for what is no time with a zone."""
    try:
        when = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return when if when.tzinfo else None


def short(digest: str) -> str:
    """`sha256:0123456789abcdef..` -> `0123456789ab`."""
    return digest.removeprefix("sha256:")[:SHORT]


def bytes_of(count: int) -> str:
    """812 B, 2.4 MiB."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def plain(text: str) -> str:
    """Text that somebody else wrote, without what would steer the terminal or turn the line round."""
    return _CONTROL.sub(lambda found: " " if found[0] in "\t\r" else "?", text)


def flat(markdown: str) -> str:
    """A text of the reference without its markup: links name their page, code is only quoted."""
    named = _LINK.sub(lambda found: f"{found[1]} (docs/{found[2]})", markdown)
    return named.replace("`", "'")


def sentence(text: str) -> str:
    """With a full stop, if it says anything."""
    text = text.strip()
    return text if not text or text[-1] in ".!?:" else f"{text}."
