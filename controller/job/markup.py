"""Somebody else's text in Markdown: shown as it is, never taken for markup. Must not know what the text is."""

from __future__ import annotations

import re

LONGEST = 300


def flat(text: str) -> str:
    """One line of what can be seen: no control characters, none that turn the direction of reading."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:LONGEST] or " "


def code(text: str) -> str:
    """A code span: nothing in it is markup, and it ends where the text ends."""
    line = flat(text)
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def cell(text: str) -> str:
    """A code span in a table, where a bar would end the cell even in code."""
    return code(text).replace("|", r"\|")
