"""Charts as SVG in the page: drawn for a phone, with every number in words beside or below.

Adapter and artifact differ by colour, by mark (circle, square) and by line (solid, dashed). Must not know where the
numbers come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from controller.report.elements import Element, el

WIDTH = 360
_ROW = 62  # a name and two marks
_NAMES = 124  # pixels for words on the left
_LETTER = 6.6  # of 12 px type, on average
ADAPTER, ARTIFACT = "adapter", "artifact"


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high`, at pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        inside = min(max(value, self.low), self.high) - self.low
        return round(self.start + inside / (self.high - self.low or 1.0) * (self.end - self.start), 2)


@dataclass(frozen=True)
class Line:
    """`who` is adapter or artifact; points are (x, y)."""

    who: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Whisker:
    who: str
    value: float
    low: float
    high: float
    shown: str


def svg(identity: str, title: str, said: str, height: float, *content: Element) -> Element:
    """`said` is the chart in words, for whoever does not see it."""
    names = (f"{identity}-title", f"{identity}-said")
    return el(
        "svg",
        el("title", title, id=names[0]),
        el("desc", said, id=names[1]),
        content,
        viewBox=f"0 0 {WIDTH} {height:g}",
        role="img",
        aria_labelledby=" ".join(names),
    )


def whiskers(identity: str, title: str, said: str, rows: Sequence[tuple[str, Sequence[Whisker]]]) -> Element:
    """Shares with their intervals, one row for each name, on one axis that begins where they do."""
    lowest = min(w.low for _, marks in rows for w in marks)
    low = max(0.0, min(0.9, int(lowest * 10) / 10))
    axis = Axis(low, 1.0, _NAMES, WIDTH - 8)
    bottom = len(rows) * _ROW + 6
    content = [_percent_axis(axis, bottom)]
    for number, (name, marks) in enumerate(rows):
        top = number * _ROW
        content.append(el("text", clipped(name, 44), x=0, y=top + 13, class_="name"))
        for place, mark in enumerate(marks):
            content.append(_whisker(mark, axis, top + 26 + place * 18))
    return svg(identity, title, said, bottom + 22, *content)


def _whisker(mark: Whisker, axis: Axis, y: float) -> Element:
    left, right, middle = axis.at(mark.low), axis.at(mark.high), axis.at(mark.value)
    return el(
        "g",
        el("text", mark.shown, x=0, y=y + 4, class_=mark.who),
        el("line", x1=left, x2=right, y1=y, y2=y, stroke_width=2, class_=mark.who),
        *(el("line", x1=x, x2=x, y1=y - 4, y2=y + 4, stroke_width=2, class_=mark.who) for x in (left, right)),
        dot(mark.who, middle, y),
    )


def dot(who: str, x: float, y: float) -> Element:
    if who == ADAPTER:
        return el("circle", cx=x, cy=y, r=4.5, class_=f"{who} solid")
    return el("rect", x=x - 4, y=y - 4, width=8, height=8, class_=f"{who} solid")


def _percent_axis(axis: Axis, bottom: float) -> Element:
    ticks = [axis.low, (axis.low + axis.high) / 2, axis.high]
    return el(
        "g",
        el("line", x1=axis.start, x2=axis.end, y1=bottom, y2=bottom, class_="axis"),
        *(
            el("text", f"{tick * 100:.0f} %", x=axis.at(tick), y=bottom + 16, text_anchor=anchor)
            for tick, anchor in zip(ticks, ("start", "middle", "end"), strict=True)
        ),
    )


@dataclass(frozen=True)
class Frame:
    """A chart with two axes: names of them, their ends in words, and marks in between."""

    x: Axis
    y: Axis
    x_name: str
    y_name: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


def lines(identity: str, title: str, said: str, frame: Frame, drawn: Sequence[Line], *, dots: bool = False) -> Element:
    """One line for each of the two, named in a legend above."""
    content: list[Element] = [*_legend([line.who for line in drawn]), *_frame(frame)]
    for line in drawn:
        points = [(frame.x.at(x), frame.y.at(y)) for x, y in line.points]
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        dash = None if line.who == ADAPTER else "6 4"
        content.append(el("polyline", points=path, class_=line.who, stroke_width=2, stroke_dasharray=dash))
        if dots:
            content.extend(dot(line.who, x, y) for x, y in points)
    return svg(identity, title, said, frame.y.start + 40, *content)


def _frame(frame: Frame) -> list[Element]:
    x, y = frame.x, frame.y
    return [
        *(el("line", x1=x.start, x2=x.end, y1=y.at(v), y2=y.at(v), class_="axis") for v, _ in frame.y_ticks),
        *(el("text", t, x=x.start - 6, y=y.at(v) + 4, text_anchor="end") for v, t in frame.y_ticks),
        *(el("text", t, x=x.at(v), y=y.start + 16, text_anchor=_anchor(x, v)) for v, t in frame.x_ticks),
        el("text", frame.x_name, x=(x.start + x.end) / 2, y=y.start + 34, text_anchor="middle"),
        el("text", frame.y_name, x=2, y=y.end - 10),
    ]


def _anchor(axis: Axis, value: float) -> str:
    return "end" if value == axis.high else "middle"


def _legend(names: Sequence[str]) -> list[Element]:
    found, right = [], WIDTH - 8.0
    for who in reversed(names):
        left = right - len(who) * _LETTER - 30
        found.append(
            el(
                "line",
                x1=left,
                x2=left + 20,
                y1=9,
                y2=9,
                class_=who,
                stroke_width=2,
                stroke_dasharray=None if who == ADAPTER else "6 4",
            )
        )
        found.append(dot(who, left + 10, 9))
        found.append(el("text", who, x=left + 26, y=13, class_=who))
        right = left - 14
    return found


@dataclass(frozen=True)
class Bar:
    label: str
    value: float
    shown: str
    who: str = "other"


def bars(identity: str, title: str, said: str, drawn: Sequence[Bar]) -> Element:
    """Lengths side by side, each with its name above and its number behind."""
    top = max((b.value for b in drawn), default=0.0)
    widest = max((len(b.shown) for b in drawn), default=0) * _LETTER + 8
    axis = Axis(0, top or 1.0, 0, WIDTH - widest)
    content: list[Element] = []
    for number, bar in enumerate(drawn):
        y, length = number * 36, max(axis.at(bar.value), 1.5)
        tone = bar.who if bar.who == "other" else f"{bar.who} solid"
        content += [
            el("text", clipped(bar.label, 44), x=0, y=y + 12, class_="name"),
            el("rect", x=0, y=y + 17, width=length, height=11, class_=tone),
            el("text", bar.shown, x=length + 6, y=y + 27, class_="name"),
        ]
    return svg(identity, title, said, len(drawn) * 36, *content)


def clipped(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"
