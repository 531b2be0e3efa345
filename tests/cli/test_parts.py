"""Parts of a release's tree that the states of test_states.py do not show."""

from __future__ import annotations

from controller.api.status import AdapterStatus
from controller.cli import parts
from controller.cli.layout import ASCII, Node
from controller.cli.view import RouteView, View
from tests.builders import D1, T0, release


def texts(nodes: list[Node]) -> list[str]:
    return [node.text.plain for node in nodes]


def with_pods(count: int, failed: str = "") -> View:
    pods = [
        {"name": f"base-{i}", "state": "Failed" if f"base-{i}" == failed else "Loaded", "message": "no"}
        for i in range(count)
    ]
    made = {"digest": D1, "version": "v1", "inputs": "i", "path": "/store", "pods": pods}
    adapter = AdapterStatus.model_validate(made)
    route = RouteView(ready=tuple(f"base-{i}" for i in range(count - 1)), not_ready=(f"base-{count - 1}",))
    return View(release().status(adapter=adapter).build(), route=route)


def test_a_dozen_pods_are_shown_in_their_order() -> None:
    (node,) = parts.adapter(with_pods(12, "base-7"), T0, ASCII)
    assert [text.split()[2] for text in texts(node.children)] == [f"base-{i}" for i in range(12)]


def test_of_very_many_pods_those_in_trouble_come_first_and_the_rest_is_counted() -> None:
    (adapter,) = parts.adapter(with_pods(200, "base-150"), T0, ASCII)
    lines = texts(adapter.children)
    assert (len(lines), lines[0], lines[-1]) == (13, "x pod base-150  Failed: no", "and 188 others")
    (route,) = parts.route(with_pods(200), T0, ASCII)
    lines = texts(route.children)
    assert (len(lines), lines[0], lines[-1]) == (13, "o pod base-199  not ready", "and 188 others")
