"""The dashboards' queries, with their variables filled in as Grafana fills them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dashboards.__main__ import documents
from dashboards.board import panels_of

Json = dict[str, Any]
VALUES = {
    "datasource": "prometheus",
    "namespace": "llm",
    "release": "support-bot",
    "price": "2.50",
    "gpus": "1",
    "job": "adapter-release-controller",
    "runbooks": "docs/runbooks",
    "__rate_interval": "2m",
    "__range": "2h",
}
OF_CONTROLLER = {"namespace": "adapter-release-system"}
OF_FLEET = {"namespace": ".+"}


@dataclass(frozen=True)
class Asked:
    """One query of one panel."""

    board: str
    panel: str
    ref: str
    expr: str

    def __str__(self) -> str:
        return f"{self.board}: {self.panel} {self.ref}"


def values_for(board: str) -> Mapping[str, str]:
    more = {"controller.json": OF_CONTROLLER, "fleet.json": OF_FLEET}.get(board, {})
    return VALUES | more


def filled(expr: str, values: Mapping[str, str]) -> str:
    """Fails for a variable that nobody has set."""
    return re.sub(r"\$([a-zA-Z_]\w*|\{\w+\})", lambda found: values[found[1].strip("{}")], expr)


def queries(values: Mapping[str, Mapping[str, str]] | None = None) -> Iterator[Asked]:
    """All queries of all panels, annotations last."""
    for board, document in documents().items():
        known = (values or {}).get(board) or values_for(board)
        for panel in panels_of(document):
            for target in panel["targets"]:
                yield Asked(board, panel["title"], target["refId"], filled(target["expr"], known))
        for mark in document["annotations"]["list"]:
            yield Asked(board, f"annotation {mark['name']}", "", filled(mark["expr"], known))
