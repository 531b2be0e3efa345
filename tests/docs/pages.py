"""The project's pages, as the tests of this folder read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "sandbox" / "README.md"])
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    page: Path
    language: str
    text: str


def place(page: Path) -> str:
    """Its path in the checkout."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    return [Block(page, language, text) for language, text in _FENCE.findall(page.read_text())]


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return _FENCE.sub("", page.read_text())


def commands(page: Path) -> Iterator[str]:
    """Every command of the page's console blocks, without its comment, those of several lines as one."""
    for block in blocks(page):
        if block.language == "console":
            for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
                if command := re.sub(r"\s+# .*$", "", line).strip():
                    yield command


def section(page: Path, heading: str) -> str:
    """What stands under `## heading`."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"{page.name} has no section {heading}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Cells of the tables in `text`, without heads and rules."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rules = [i for i, row in enumerate(cells) if all(set(cell) <= set("-:") and cell for cell in row)]
    heads = {i - 1 for i in rules}
    return [row for i, row in enumerate(cells) if i not in heads and i not in rules]


def anchors(page: Path) -> set[str]:
    """Anchors of the page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
