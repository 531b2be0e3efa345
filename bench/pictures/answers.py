"""What Prometheus answers to a dashboard's queries, in one document for the page that draws it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from dashboards.board import panels_of

Json = dict[str, Any]
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)


@dataclass(frozen=True)
class Asking:
    url: str
    start: float
    end: float
    scrape: float
    width: int  # pixels; a line needs no more points than half of its panel has

    @property
    def step(self) -> int:
        wanted = max(self.scrape, 4 * (self.end - self.start) / self.width)
        return next((step for step in _STEPS if step >= wanted), _STEPS[-1])

    def get(self, what: str, **parameters: Any) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{what}", params=parameters, trust_env=False, timeout=60).json()
        if answer["status"] != "success":
            raise ValueError(f"{answer['error']}: {parameters}")
        return answer["data"]


def answered(document: Json, asking: Asking, chosen: Mapping[str, str]) -> Json:
    """The dashboard, its answers by panel and query, and the titles of panels without any."""
    values = _values(document, asking, chosen)
    answers: dict[str, dict[str, list[Json]]] = {}
    empty = []
    for panel in panels_of(document):
        found = {target["refId"]: _answer(target, asking, values) for target in panel["targets"]}
        answers[str(panel["id"])] = found
        if not any(found.values()):
            empty.append(panel["title"])
    marks = [{"mark": mark, "series": _range(mark["expr"], asking, values)} for mark in document["annotations"]["list"]]
    return {
        "dashboard": document,
        "values": values,
        "answers": answers,
        "marks": marks,
        "empty": empty,
        "start": asking.start * 1000,
        "end": asking.end * 1000,
        "step": asking.step * 1000,
    }


def _values(document: Json, asking: Asking, chosen: Mapping[str, str]) -> dict[str, str]:
    """Of variables, in their order, since later ones ask with earlier ones: what was chosen, or what Grafana takes."""
    rate = max(4 * asking.scrape, asking.step)
    values = {
        "__rate_interval": f"{rate:.0f}s",
        "__range": f"{asking.end - asking.start:.0f}s",
        "datasource": "prometheus",
    }
    for variable in document["templating"]["list"]:
        name = variable["name"]
        if name in chosen:
            values[name] = chosen[name]
        elif variable["type"] == "textbox":
            values[name] = variable["query"]
        elif variable["type"] == "query":
            values[name] = variable.get("allValue") or _first(variable["query"], asking, values)
    return values


def _first(query: str, asking: Asking, values: Mapping[str, str]) -> str:
    found = re.fullmatch(r"label_values\((.*), (\w+)\)", query)
    if found is None:
        raise ValueError(f"not understood: {query}")
    series = _range(found[1], asking, values)
    names = sorted({one["metric"][found[2]] for one in series if found[2] in one["metric"]})
    if not names:
        raise ValueError(f"Prometheus knows no value for {query}; choose one with --set")
    return names[0]


def _answer(target: Json, asking: Asking, values: Mapping[str, str]) -> list[Json]:
    if target.get("instant"):
        found: list[Json] = asking.get("query", query=_filled(target["expr"], values), time=asking.end)["result"]
        return found
    return _range(target["expr"], asking, values)


def _range(expr: str, asking: Asking, values: Mapping[str, str]) -> list[Json]:
    asked = {"start": asking.start, "end": asking.end, "step": asking.step}
    found: list[Json] = asking.get("query_range", query=_filled(expr, values), **asked)["result"]
    return found


def _filled(expr: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\$([a-zA-Z_]\w*|\{\w+\})", lambda found: values[found[1].strip("{}")], expr)
