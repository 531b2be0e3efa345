"""Numbers for people. Must not know what is counted."""

from __future__ import annotations

MINUS = "\u2212"


def percent(share: float, digits: int = 1) -> str:
    """99.5 %; the digits are enough to tell one example in a thousand."""
    return f"{share * 100:.{digits}f} %"


def points(difference: float) -> str:
    """Percentage points with a sign: +0.5, −1.0, 0.0."""
    shown = f"{abs(difference) * 100:.1f}"
    if float(shown) == 0:
        return "0.0"
    return f"{'+' if difference > 0 else MINUS}{shown}"


def size(count: float) -> str:
    """Bytes: 812 B, 1.5 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if round(count, 1) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def seconds(value: float) -> str:
    """320 ms, 4.2 s, 3 min 05 s, 2 h 03 min."""
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def rate(value: float) -> str:
    """With three digits that say something: 0.52, 7.61, 54.3, 1204."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def times(ratio: float | None) -> str:
    """1.42×; nothing where nothing was compared."""
    return "" if ratio is None else f"{ratio:.2f}×"


def count(value: int) -> str:
    """1204 is 1,204."""
    return f"{value:,}"


def counted(value: int, one: str, many: str) -> str:
    return f"{count(value)} {one if value == 1 else many}"


def nice_top(value: float) -> float:
    """The end of an axis: 1, 2, 2.5 or 5 times a power of ten, not below `value`."""
    if value < 1e-9:
        return 1e-9 if value > 0 else 1.0
    power = 1.0
    while power > value:
        power /= 10
    while power * 10 <= value:
        power *= 10
    return next(power * step for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if power * step >= value * 0.999999)
