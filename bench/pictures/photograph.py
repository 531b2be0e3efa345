"""A page with a dashboard and its answers, and Chromium's picture of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

_BUILD = Path(__file__).parent / "renderer" / "build.sh"
_CELL, _MARGIN, _HEAD = 30, 8, 56  # pixels: Grafana's grid, and the line with title and variables
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>dashboard</title>
<link rel="stylesheet" href="renderer.css"><body>
<div id="root"></div><script id="given" type="application/json">%s</script><script src="renderer.js"></script>"""


class NoBrowserError(Exception):
    """There is no Chromium; the message says how to get one."""


def photograph(page: dict[str, Any], path: Path, width: int) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        raise NoBrowserError("there is no chromium: apt-get install chromium fonts-inter")
    built = (
        subprocess.run(["bash", _BUILD], text=True, stdout=subprocess.PIPE, check=True).stdout.strip().splitlines()[-1]
    )
    with tempfile.TemporaryDirectory() as directory:
        here = Path(directory)
        for file in ("renderer.js", "renderer.css"):
            shutil.copy(Path(built) / file, here)
        (here / "page.html").write_text(_PAGE % json.dumps(page).replace("</", "<\\/"))
        command = [
            *(
                browser,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--disable-dev-shm-usage",
            ),
            *(f"--user-data-dir={here / 'profile'}", f"--window-size={width},{_height(page)}"),
            *("--virtual-time-budget=20000", "--allow-file-access-from-files", "--enable-logging=stderr"),
            *(f"--screenshot={here / 'picture.png'}", f"file://{here / 'page.html'}"),
        ]
        result = subprocess.run(command, text=True, capture_output=True, timeout=170, check=False)
        said = [
            line for line in result.stderr.splitlines() if "CONSOLE" in line and ("rror" in line or "Uncaught" in line)
        ]
        if result.returncode or said or not (here / "picture.png").exists():
            raise RuntimeError("the page could not be drawn:\n" + "\n".join(said or [result.stderr[-2000:]]))
        shutil.move(here / "picture.png", path)


def _height(page: dict[str, Any]) -> int:
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in page["dashboard"]["panels"])
    return int(_HEAD + bottom * (_CELL + _MARGIN) + _MARGIN)
