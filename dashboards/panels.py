"""Panels in the one look that all dashboards share: thin layers over the Grafana Foundation SDK.

Each has a title, a unit and a description, and may name the runbooks of the alerts that concern it. Must not know any
metric.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common as look
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards.queries import Query

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
RUNBOOKS = "${runbooks}"
ADAPTER_COLOR, ARTIFACT_COLOR = "blue", "green"
GOOD, WARN, BAD, IDLE = "green", "orange", "red", "text"
_COLORS = {
    "/(^| )adapter(-| |$)/": ADAPTER_COLOR,
    "/(^| )artifact(-| |$)/": ARTIFACT_COLOR,
    "/(^| )2[0-9][0-9]$/": GOOD,
    "/(^| )4[0-9][0-9]$/": WARN,
    "/(^| )5[0-9][0-9]$/": BAD,
}
HALF, THIRD, QUARTER = 12, 8, 6
_HEIGHT = 8

Panel = timeseries.Panel | stat.Panel | bargauge.Panel | statetimeline.Panel | table.Panel
P = TypeVar("P", timeseries.Panel, stat.Panel, bargauge.Panel, statetimeline.Panel, table.Panel)


def _said(panel: P, title: str, description: str, unit: str, runbooks: Iterable[str]) -> P:
    panel.title(title).unit(unit).datasource(SOURCE).height(_HEIGHT).no_value("none")
    names = list(runbooks)
    links = [
        dashboard.DashboardLink(name).type(model.DashboardLinkType.LINK).url(f"{RUNBOOKS}/{name}.md") for name in names
    ]
    if names:
        panel.links([link.target_blank(True) for link in links])
        description += "\n\nAlerts: " + ", ".join(names) + "."
    return panel.description(description)


def _asked(panel: P, queries: Sequence[Query], instant: bool = False) -> P:
    for number, query in enumerate(queries):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(chr(ord("A") + number))
        panel.with_target(target.instant() if instant else target.range())
    return panel


def lines(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = HALF,
    runbooks: Iterable[str] = (),
    minimum: float | None = 0,
    maximum: float | None = None,
    stacked: bool = False,
    powers: bool = False,
) -> timeseries.Panel:
    """Values over time. Series of adapters and of artifacts have the same two colours everywhere, and so have codes of
    HTTP; high percentiles are dashed. `powers`: the scale has powers of ten, for what may be a hundred times itself."""
    panel = _asked(_said(timeseries.Panel(), title, description, unit, runbooks), queries).span(width)
    panel.line_width(2).fill_opacity(30 if stacked else 8).show_points(look.VisibilityMode.NEVER)
    panel.legend(_legend()).tooltip(common.VizTooltipOptions().mode(look.TooltipDisplayMode.MULTI))
    if stacked:
        panel.stacking(common.StackingConfig().mode(look.StackingMode.NORMAL))
    if powers:
        panel.scale_distribution(common.ScaleDistributionConfig().type(look.ScaleDistribution.LOG).log(10))
    elif minimum is not None:
        panel.min(minimum)
    if maximum is not None:
        panel.max(maximum)
    for pattern, color in _COLORS.items():
        panel.override_by_regexp(pattern, [_shades(color)])
    dashed = model.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [8, 6]})
    return panel.override_by_regexp("/^p9/", [dashed])


def number(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = 4,
    runbooks: Iterable[str] = (),
    name: bool = False,
    decimals: int | None = None,
    steps: Sequence[tuple[float | None, str]] = ((None, IDLE),),
) -> stat.Panel:
    """The value now, large. `name`: the series' name is what is shown, and the value only colours it.

    Of a range there would be every series that it has seen: all that ever served, each reason that Ready ever had.
    """
    panel = _asked(_said(stat.Panel(), title, description, unit, runbooks), queries, instant=True).span(width).height(4)
    panel.text_mode(look.BigValueTextMode.NAME if name else look.BigValueTextMode.AUTO)
    panel.color_mode(look.BigValueColorMode.VALUE).graph_mode(look.BigValueGraphMode.NONE)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"])).thresholds(thresholds(steps))
    return panel if decimals is None else panel.decimals(decimals)


def bars(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = HALF,
    runbooks: Iterable[str] = (),
    maximum: float | None = None,
    decimals: int | None = None,
    steps: Sequence[tuple[float | None, str]] = ((None, ADAPTER_COLOR),),
) -> bargauge.Panel:
    """The last values side by side."""
    panel = _asked(_said(bargauge.Panel(), title, description, unit, runbooks), queries, instant=True).span(width)
    panel.orientation(look.VizOrientation.HORIZONTAL).display_mode(look.BarGaugeDisplayMode.BASIC).min(0)
    panel.name_placement(look.BarGaugeNamePlacement.TOP)  # at the left a fifth of the width is all they get
    panel.text(common.VizTextDisplayOptions().title_size(12).value_size(14))  # else as small as many bars are
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"])).thresholds(thresholds(steps))
    if maximum is not None:
        panel.max(maximum)
    return panel if decimals is None else panel.decimals(decimals)


def rows(
    title: str,
    description: str,
    states: Mapping[int, tuple[str, str]],
    *queries: Query,
    width: int = HALF,
    runbooks: Iterable[str] = (),
) -> statetimeline.Panel:
    """What was the case when; `states` has the words and colours of the numbers."""
    panel = _asked(_said(statetimeline.Panel(), title, description, "none", runbooks), queries).span(width)
    options = {
        str(number): model.ValueMappingResult(text=text, color=color, index=index)
        for index, (number, (text, color)) in enumerate(states.items())
    }
    panel.mappings([model.ValueMap(options=options)]).show_value(look.VisibilityMode.AUTO).merge_values(True)
    return panel.legend(_legend()).row_height(0.8).fill_opacity(75)


def listing(
    title: str,
    description: str,
    columns: Mapping[str, str],
    *queries: Query,
    width: int = 24,
    runbooks: Iterable[str] = (),
    units: Mapping[str, str] | None = None,
    colors: Mapping[str, Mapping[str, str]] | None = None,
) -> table.Panel:
    """Rows by labels. A query's own value is the column named by its legend, or hidden where that is empty.

    `columns`: label or legend -> heading, in order; what is not named is left out. `colors`: heading -> text -> colour;
    other texts are orange.
    """
    panel = _said(table.Panel(), title, description, "none", runbooks).span(width)
    names = {}
    for index, query in enumerate(queries):
        ref = chr(ord("A") + index)
        target = prometheus.Dataquery().expr(query.expr).ref_id(ref).instant().format(PromQueryFormat.TABLE)
        panel.with_target(target)
        names[query.legend] = "Value" if len(queries) == 1 else f"Value #{ref}"
    fields = {names.get(column, column): heading for column, heading in columns.items()}
    if len(queries) > 1:
        panel.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(
        model.DataTransformerConfig(id_val="filterFieldsByName", options={"include": {"names": list(fields)}})
    )
    order = {field: position for position, field in enumerate(fields)}
    organize = {"excludeByName": {}, "indexByName": order, "renameByName": fields}
    panel.with_transformation(model.DataTransformerConfig(id_val="organize", options=organize))
    for heading, unit in (units or {}).items():
        panel.override_by_name(heading, [model.DynamicConfigValue(id_val="unit", value=unit)])
    for heading, words in (colors or {}).items():
        panel.override_by_name(heading, _colored(words))
    return panel


def _colored(words: Mapping[str, str]) -> list[model.DynamicConfigValue]:
    results = {
        word: {"color": color, "index": index, "text": word} for index, (word, color) in enumerate(words.items())
    }
    others = {"pattern": ".+", "result": {"color": WARN, "index": len(words)}}
    mappings = [{"type": "value", "options": results}, {"type": "regex", "options": others}]
    return [
        model.DynamicConfigValue(id_val="mappings", value=mappings),
        model.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}),
    ]


def thresholds(steps: Sequence[tuple[float | None, str]]) -> dashboard.ThresholdsConfig:
    made = [model.Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(made)


def _shades(color: str) -> model.DynamicConfigValue:
    return model.DynamicConfigValue(id_val="color", value={"mode": "shades", "fixedColor": color})


def _legend() -> common.VizLegendOptions:
    placed = common.VizLegendOptions().display_mode(look.LegendDisplayMode.LIST).placement(look.LegendPlacement.BOTTOM)
    return placed.show_legend(True).calcs([])
