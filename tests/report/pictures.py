"""Pictures of a report, for the docs: `python -m tests.report.pictures report.html DIRECTORY`.

A report with everything in it: `python -m tests.report.example report.html`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.report.browser import Tab, browser

# Width and theme; the headings where the picture begins and ends, None: with the page.
PICTURES = {
    "report-light.png": (1080, "light", None, "Wrong before"),
    "report-dark.png": (1080, "dark", "Speed", "Provenance"),
    "report-phone.png": (360, "light", None, "What changed"),
}


def main(page: Path, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with browser() as chromium:
        tab = Tab(chromium)
        for name, (width, theme, first, end) in PICTURES.items():
            tab.open(page.resolve(), width, theme)
            tab.picture(directory / name, _top_of(tab, first) or 0, _top_of(tab, end))
            print(directory / name)


def _top_of(tab: Tab, heading: str | None) -> float | None:
    if heading is None:
        return None
    found = f"[...document.querySelectorAll('h2, h3')].find(h => h.textContent.startsWith('{heading}'))"
    return float(tab.ask(f"{found}.getBoundingClientRect().top + scrollY - 8"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
