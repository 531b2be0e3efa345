"""What docs/engine-plugin.md says of the doors is what the plugin answers."""

from __future__ import annotations

import re

import pytest

from bench import doors
from tests.docs.pages import rows, section
from tests.engine.plugin.test_doors import DOORS, TOKENS
from tests.engine.plugin.world import World, scope_of

PATHS = [row for row in rows(section(doors.PAGE, "Doors").partition(doors.BEGIN)[0]) if row[0].startswith("`/")]


async def test_the_table_of_ways_to_write_a_path_is_what_the_plugin_answers(world: World) -> None:
    """Else: .venv/bin/python -m bench.doors"""
    page = doors.PAGE.read_text()
    assert doors.replaced(page, await doors.table(world)) == page


def written(cell: str) -> list[str]:
    return [path.replace("...", "v1/state").replace("NAME", "bot") for path in re.findall("`([^`]+)`", cell)]


async def test_the_table_of_paths_is_what_the_plugin_answers(world: World) -> None:
    for cell, *codes, _ in PATHS:
        for path in written(cell):
            for token, code in zip(("none", "wrong"), codes, strict=True):
                said = await world.ask("POST", path, b"{}", TOKENS[token][0])
                assert str(said.status) == code, (path, token)
    told = {path for cell, *_ in PATHS for path in written(cell)}
    assert {door for door in DOORS if not any(door.startswith(path[:13]) for path in told)} == set()


@pytest.mark.parametrize("token", ["none", "wrong"])
async def test_its_row_of_websockets_too(world: World, token: str) -> None:
    (row,) = [row for row in rows(section(doors.PAGE, "Doors")) if "websocket" in row[0]]
    cycle = world.cycle()
    scope = scope_of(world.vllm, "GET", "/adapters", TOKENS[token][0], "websocket")
    await world.middleware(scope, cycle.receive, cycle.send)
    assert set(row[1:3]) == {"403"} and [message["type"] for message in cycle.sent] == ["websocket.close"]


def test_a_page_without_the_place_for_the_table_is_told() -> None:
    with pytest.raises(ValueError, match=re.escape("has no")):
        doors.replaced("nothing", "")
