"""Pictures of a report, for the docs: `python -m tests.report.pictures report.html DIRECTORY`.

A report with everything in it: `python -m tests.report.example report.html`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.report.browser import Tab, browser

PICTURES = {"report-light.png": (1080, "light"), "report-dark.png": (1080, "dark"), "report-phone.png": (360, "light")}


def main(page: Path, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with browser() as chromium:
        tab = Tab(chromium)
        for name, (width, theme) in PICTURES.items():
            tab.open(page.resolve(), width, theme)
            tab.picture(directory / name)
            print(directory / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
