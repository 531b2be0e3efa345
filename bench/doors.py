"""The table of docs/engine-plugin.md: every way to write a closed path, and what it is answered.

    .venv/bin/python -m bench.doors

Asks the plugin in front of the fake vLLM of its tests, so that the table can be compared in each run of them. A real
vLLM is asked the same on the wire by tests/engine/plugin/test_real_vllm.py.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import between
from bench.between import begin_of
from tests.docs.pages import ROOT
from tests.engine.plugin.test_doors import DOORS, METHODS, TOKENS, TRICKS
from tests.engine.plugin.world import AS_CONTROLLER, Headers, World

PAGE = ROOT / "docs" / "engine-plugin.md"
BEGIN = begin_of("bench.doors")
_BODY = b'{"lora_name":"x","lora_path":"/x","model":"nobody"}'
_LONGEST = 48  # characters of an example


async def table(world: World) -> str:
    """Of the server as it is: without a trick first, then each trick, over all doors and methods."""
    heads = ("written", "for example", "no token", "wrong token", "token")
    rows = [heads, ["---"] * len(heads), *[await _row(world, trick) for trick in TRICKS]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def asked() -> str:
    """How many requests a column stands for."""
    return f"{len(DOORS)} paths, {len(METHODS)} methods ({', '.join(METHODS)})"


def replaced(page: str, made: str) -> str:
    """The page with this between its marks. Raises ValueError where it has none."""
    return between.replaced(page, BEGIN, f"{asked()}.\n\n{made}", PAGE.name)


async def _row(world: World, trick: str) -> list[str]:
    paths = [TRICKS[trick](door) for door in DOORS]
    told = [await _answers(world, paths, token) for token in (TOKENS["none"][0], TOKENS["wrong"][0], AS_CONTROLLER)]
    return [trick, f"`{_short(paths[0])}`", *told]


async def _answers(world: World, paths: Sequence[str], token: Headers) -> str:
    """Each that there was."""
    codes = {(await world.ask(method, path, _BODY, token)).status for path in paths for method in METHODS}
    return ", ".join(sorted({str(code) if code in (401, 403) else "open" for code in codes}))


def _short(path: str) -> str:
    return path if len(path) <= _LONGEST else f"{path[:_LONGEST]}..."


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        made = asyncio.run(table(World(Path(directory))))
    PAGE.write_text(replaced(PAGE.read_text(), made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
