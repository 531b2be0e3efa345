"""The colours of the page, in light and dark, and which of them stand on which: what tests compute contrast from.

Must not know where they are used on a page.
"""

from __future__ import annotations

from collections.abc import Mapping

LIGHT: Mapping[str, str] = {
    "page": "#ffffff",
    "surface": "#f5f6f8",
    "line": "#d5dae1",
    "text": "#1b1f24",
    "muted": "#56606d",
    "adapter": "#2f62ad",
    "artifact": "#b3500b",
    "pass": "#11693b",
    "pass-on": "#e3f4e9",
    "fail": "#a3211b",
    "fail-on": "#fdeae8",
    "inconclusive": "#735000",
    "inconclusive-on": "#fcf2d8",
    "none": "#48515d",
    "none-on": "#eceff2",
    "removed": "#8c1c17",
    "removed-on": "#fbdfdc",
    "added": "#0e5830",
    "added-on": "#d6f0df",
    "hidden": "#5b2a86",
    "hidden-on": "#efe4f8",
}
DARK: Mapping[str, str] = {
    "page": "#14171b",
    "surface": "#1c2127",
    "line": "#39414c",
    "text": "#e7e9ec",
    "muted": "#a5aebb",
    "adapter": "#82b3f7",
    "artifact": "#f0a45f",
    "pass": "#84d9a8",
    "pass-on": "#122e1e",
    "fail": "#ffa49b",
    "fail-on": "#3a1614",
    "inconclusive": "#f0c871",
    "inconclusive-on": "#33280c",
    "none": "#b9c1cc",
    "none-on": "#272d35",
    "removed": "#ffb4ac",
    "removed-on": "#451c19",
    "added": "#95e3b7",
    "added-on": "#153822",
    "hidden": "#d9b6f5",
    "hidden-on": "#35204a",
}
# (in front, behind) of words, which need a contrast of 4.5, and of lines and marks, which need 3.
WORDS = (
    *((front, behind) for front in ("text", "muted", "adapter", "artifact") for behind in ("page", "surface")),
    *((word, f"{word}-on") for word in ("pass", "fail", "inconclusive", "none", "removed", "added", "hidden")),
    *(("text", f"{word}-on") for word in ("pass", "fail", "inconclusive", "none")),
)
MARKS = (("adapter", "page"), ("artifact", "page"), ("muted", "page"))


def properties(palette: Mapping[str, str]) -> str:
    """As custom properties of CSS."""
    return "".join(f"--{name}:{colour};" for name, colour in palette.items())
