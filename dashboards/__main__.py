"""`python -m dashboards` writes manifests/grafana/*.json; with --check it only says which are not up to date."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from dashboards import controller, fleet, release
from dashboards.board import Board, Json

DIRECTORY = Path(__file__).resolve().parents[1] / "manifests" / "grafana"
BOARDS: Mapping[str, Callable[[], Board]] = {
    "release.json": release.board,
    "fleet.json": fleet.board,
    "controller.json": controller.board,
}


def documents() -> dict[str, Json]:
    return {name: make().document() for name, make in BOARDS.items()}


def text_of(document: Json) -> str:
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dashboards", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file would change")
    check = parser.parse_args().check
    stale = []
    for name, document in documents().items():
        path, text = DIRECTORY / name, text_of(document)
        if path.exists() and path.read_text() == text:
            continue
        stale.append(f"manifests/grafana/{name}")
        if not check:
            DIRECTORY.mkdir(exist_ok=True)
            path.write_text(text)
    if check and stale:
        sys.stderr.write(f"not up to date: {', '.join(stale)}; run `make generate` and commit what it writes\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
