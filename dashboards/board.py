"""A dashboard: its variables, annotations and rows of panels, and the JSON that Grafana imports.

Uids are fixed, so that links to a dashboard last; ids of panels count up in the order in which they stand. Must not
know any metric.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from dashboards.panels import SOURCE, Panel

TAG = "adapterrelease"
_RUNBOOKS = "docs/runbooks"

Json = dict[str, Any]


class Board:
    def __init__(self, uid: str, title: str, description: str, hours: int) -> None:
        self._made = dashboard.Dashboard(title).uid(uid).description(description).tags([TAG]).readonly()
        self._made.time(f"now-{hours}h", "now").timezone("browser").refresh("30s").version(1)
        self._made.tooltip(model.DashboardCursorSync.CROSSHAIR)
        self._made.link(_to_the_others())
        self._made.with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        self._annotations: list[Json] = []
        self._last_id = 0

    def choice(self, name: str, label: str, query: str, every: bool = False) -> None:
        """A variable whose values Prometheus knows. `every`: several of them, and all at first."""
        made = dashboard.QueryVariable(name).label(label).datasource(SOURCE).query(query)
        made.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.ALPHABETICAL_ASC)
        if every:
            made.multi(True).include_all(True).all_value(".+")
            made.current(model.VariableOption(selected=True, text="All", value="$__all"))
        self._made.with_variable(made)

    def field(self, name: str, label: str, default: str, description: str) -> None:
        """A variable that people write."""
        value = model.VariableOption(selected=True, text=default, value=default)
        made = dashboard.TextBoxVariable(name).label(label).description(description).default_value(default)
        self._made.with_variable(made.current(value))

    def annotate(self, name: str, expr: str, title: str, tags: str, color: str) -> None:
        """A mark in every panel wherever `expr` has a value."""
        mark = dashboard.AnnotationQuery().name(name).datasource(SOURCE).enable(True).icon_color(color).expr(expr)
        made: Json = json.loads(json.dumps(mark.build(), cls=JSONEncoder))
        self._annotations.append(made | {"titleFormat": title, "tagKeys": tags, "step": "15s"})

    def row(self, title: str, *panels: Panel) -> None:
        self._made.with_row(dashboard.Row(title).id(self._next_id()))
        for panel in panels:
            self._made.with_panel(panel.id(self._next_id()))

    def document(self) -> Json:
        self.field(
            "runbooks", "Runbooks", _RUNBOOKS, "Where docs/runbooks of the project are published, without a / behind."
        )
        made: Json = json.loads(json.dumps(self._made.build(), cls=JSONEncoder))
        made["annotations"] = {"list": self._annotations}
        return made

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id


def _to_the_others() -> dashboard.DashboardLink:
    link = dashboard.DashboardLink("Adapter releases").type(model.DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.as_dropdown(True).include_vars(True).keep_time(True)


def panels_of(document: Json) -> Iterable[Json]:
    """All but the rows' headings."""
    return (panel for panel in document["panels"] if panel["type"] != "row")
