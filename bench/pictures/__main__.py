"""`python -m bench.pictures --prometheus URL`: one PNG for each dashboard, of the time from --start to --end."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.pictures.answers import Asking, answered
from bench.pictures.kept import Kept, kept
from bench.pictures.photograph import photograph
from dashboards.__main__ import documents
from tests import tools
from tests.prometheus.life import EVERY, LASTS
from tests.prometheus.scraped import BEGAN, lived_through
from tests.prometheus.server import Prometheus

ROOT = Path(__file__).resolve().parents[2]
_EXAMPLE = Kept(BEGAN, BEGAN + LASTS, EVERY, {"release": "support-bot"})


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.pictures", description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--prometheus", help="its URL")
    source.add_argument("--data", type=Path, help="what tests/e2e has kept in TEST_PROMETHEUS_DATA, with its times")
    source.add_argument("--example", action="store_true", help="the life that tests/prometheus plays")
    parser.add_argument("--start", type=float, help="Unix time; default: half an hour ago, or the life's beginning")
    parser.add_argument("--end", type=float, help="Unix time; default: now, or the life's end")
    parser.add_argument("--scrape", type=float, help="seconds between two scrapes; default: 15, or the life's")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a variable of the dashboards")
    parser.add_argument("--only", choices=[Path(name).stem for name in documents()], help="this dashboard alone")
    parser.add_argument("--width", type=int, default=1500)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures")
    given = parser.parse_args()
    with _prometheus(given) as url:
        return _pictures(given, url)


@contextmanager
def _prometheus(given: argparse.Namespace) -> Iterator[str]:
    if given.prometheus:
        yield str(given.prometheus)
        return
    with tempfile.TemporaryDirectory() as directory:
        data = given.data or lived_through(tools.promtool(), Path(directory), BEGAN)
        with Prometheus(tools.prometheus(), Path(directory), data=data) as server:
            yield server.url


def _asked(given: argparse.Namespace) -> Kept:
    """What is not on the command line is as it was recorded."""
    known = Kept(time.time() - 1800, time.time(), 15, {})
    if given.data:
        known = kept(given.data)
    elif given.example:
        known = _EXAMPLE
    chosen = dict(item.split("=", 1) for item in given.set)
    return Kept(
        known.start if given.start is None else given.start,
        known.end if given.end is None else given.end,
        given.scrape or known.scrape,
        known.variables | chosen,
    )


def _pictures(given: argparse.Namespace, url: str) -> int:
    asked = _asked(given)
    asking = Asking(url, asked.start, asked.end, asked.scrape, given.width)
    given.out.mkdir(parents=True, exist_ok=True)
    empty = []
    for file, document in documents().items():
        name = Path(file).stem
        if given.only in (None, name):
            page = answered(document, asking, asked.variables)
            empty += [f"{name}: {panel}" for panel in page["empty"]]
            path = given.out / f"dashboard-{name}.png"
            photograph(page, path, given.width)
            print(path)
    if empty:
        print(f"without data: {', '.join(empty)}", file=sys.stderr)
    return 1 if empty else 0


if __name__ == "__main__":
    sys.exit(main())
