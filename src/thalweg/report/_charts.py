"""Interactive charts: plotly's JSON from the tables that the figures prepare."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import plotly.graph_objects as go
import polars as pl

from thalweg.figures import (
    BOUND_PANELS,
    GREY,
    PALETTE,
    BoundPanel,
    Pair,
    bound_curves,
    compress_span,
    curves,
    from_zero_to_one,
    labels,
    latest_pairs,
    share_of_depth,
    sink_grid,
    sink_scores,
    title,
    unit,
)
from thalweg.store import Run

_Values = list[float | None]
_Places = list[int] | list[float]
_DASHES = ("solid", "dash", "dashdot", "dot")
_MATPLOTLIB_DASHES = {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}


@dataclass(frozen=True)
class Chart:
    """One chart of the page.

    Attributes:
        title: what stands above it, and what a screen reader says.
        json: plotly's data and layout, safe inside a script element.
    """

    title: str
    json: str


def series_colors(run: Run) -> list[tuple[str, str]]:
    """Give every model's label and colour, as in the charts: of its checkpoints the last."""
    names = labels(run.header)
    first = next((data.name for data in run.header.data), None)
    shown = [names[pair.model, pair.revision] for pair in latest_pairs(run, first)]
    return [(label, PALETTE[number % len(PALETTE)]) for number, label in enumerate(shown)]


def depth_charts(run: Run, which: Sequence[Pair], metrics: Sequence[str]) -> list[Chart]:
    """Chart metrics through depth, all models of ``which`` in each chart."""
    table = curves(run, which, [*metrics, "rest_norm"])
    return [_depth_chart(run, which, table, metric) for metric in metrics]


def norm_charts(run: Run, which: Sequence[Pair]) -> list[Chart]:
    """Chart the sink token's norm against the others', a chart a model."""
    charts: list[Chart] = []
    for pair in which:
        table = curves(run, [pair], ["sink_norm", "rest_norm"])
        figure = _figure("state", unit("sink_norm"), log=True)
        for metric, color, name in (("sink_norm", PALETTE[0], "sink token"), ("rest_norm", GREY, "mean of the others")):
            _add(figure, table.filter(pl.col("metric") == metric), "index", color=color, name=name, log=True)
        _shade(figure, compress_span(run, pair))
        charts.append(_chart(labels(run.header)[pair.model, pair.revision], figure, legend=True))
    return charts


def bound_charts(run: Run, pair: Pair) -> list[Chart]:
    """Chart what the theorem bounds beside its bounds."""
    table, span = bound_curves(run, pair), compress_span(run, pair)
    return [_bound_chart(panel, table, span) for panel in BOUND_PANELS]


def sink_chart(run: Run, pair: Pair) -> Chart | None:
    """Chart every head's mean sink score, None for a model without attention rows."""
    scores = sink_scores(run, pair)
    if not scores.height:
        return None
    grid = sink_grid(scores, pair.blocks)
    figure = _figure("block", "head")
    values = [[_number(value) for value in row] for row in grid.tolist()]
    hover = "block %{x}, head %{y}<br>%{z:.3f}<extra></extra>"
    scale = {"title": {"text": "mean sink score"}, "thickness": 12, "outlinewidth": 0}
    figure.add_heatmap(z=values, zmin=0, zmax=1, colorscale="Cividis", hovertemplate=hover, colorbar=scale)
    figure.update_layout(height=max(240, min(620, 120 + 14 * len(grid))))
    return _chart("Mean sink score by block and head", figure)


def _depth_chart(run: Run, which: Sequence[Pair], table: pl.DataFrame, metric: str) -> Chart:
    log, shared = metric == "sink_norm", share_of_depth(which)
    x, site = ("depth" if shared else "index"), _site(table, metric)
    figure = _figure(f"share of depth ({site} / blocks)" if shared else site, unit(metric), log=log)
    if len(which) == 1:
        _shade(figure, compress_span(run, which[0]))
    for number, pair in enumerate(which):
        own = table.filter(pair.rows)
        name, color = labels(run.header)[pair.model, pair.revision], PALETTE[number % len(PALETTE)]
        dash = _DASHES[number // len(PALETTE) % len(_DASHES)]
        if log:
            rest = own.filter(pl.col("metric") == "rest_norm")
            _add(
                figure, rest, x, color=GREY, name=f"{name}, others", group=str(number), log=True, band=False, dash=dash
            )
        rows = own.filter(pl.col("metric") == metric)
        _add(figure, rows, x, color=color, name=name, group=str(number), log=log, dash=dash)
    if from_zero_to_one(metric):
        figure.update_yaxes(range=[-0.03, 1.03])
    return _chart(f"{title(metric)} (others in grey)" if log else title(metric), figure)


def _bound_chart(panel: BoundPanel, table: pl.DataFrame, span: tuple[int, int] | None) -> Chart:
    figure = _figure("state", unit(panel.unit_of), log=panel.log)
    _shade(figure, span)
    for line in panel.lines:
        rows, dash = table.filter(pl.col("quantity") == line.quantity), _MATPLOTLIB_DASHES[line.linestyle]
        _add(figure, rows, "index", color=line.color, name=line.label, dash=dash, band=line.measured, log=panel.log)
    return _chart(panel.title, figure, legend=True)


def _figure(x: str, y: str, *, log: bool = False) -> go.Figure:
    axis = {"title": {"text": y}, "type": "log" if log else "linear", "exponentformat": "power", "nticks": 7}
    layout = {
        "template": "none",
        "height": 280,
        "margin": {"l": 58, "r": 12, "t": 8, "b": 44},
        "hovermode": "x unified",
        "showlegend": False,
        "xaxis": {"title": {"text": x, "standoff": 6}, "zeroline": False},
        "yaxis": {**axis, "zeroline": False, "automargin": True},
    }
    return go.Figure(layout=layout)


def _add(
    figure: go.Figure,
    rows: pl.DataFrame,
    x: str,
    *,
    color: str,
    name: str,
    group: str | None = None,
    dash: str = "solid",
    log: bool = False,
    band: bool = True,
) -> None:
    at = rows[x].to_list()
    mean = [_number(value, log=log) for value in rows["mean"]]
    shown = {"name": _literal(name), "legendgroup": group or _literal(name)}
    if band:
        lower, upper = ([_number(value, log=log) for value in rows[edge]] for edge in ("lower", "upper"))
        _add_band(figure, at, mean, lower, upper, color=color, shown=shown, log=log)
    marker = {"size": 4, "opacity": 1 if dash == "solid" else 0}
    figure.add_scatter(
        x=at,
        y=mean,
        mode="lines+markers",
        line={"color": color, "dash": dash, "width": 2},
        marker=marker,
        hovertemplate="%{y:.4~g}",
        connectgaps=False,
        **shown,
    )


def _add_band(
    figure: go.Figure,
    at: _Places,
    mean: _Values,
    lower: _Values,
    upper: _Values,
    *,
    color: str,
    shown: dict[str, str],
    log: bool,
) -> None:
    # One closed shape for every stretch without a gap: a filled line would bridge the gaps.
    floor = min((value for value in mean if value is not None), default=0.0) / 10
    low = [floor if log and bottom is None else bottom for bottom in lower]
    for start, stop in _stretches(mean):
        there, back = slice(start, stop), slice(stop - 1, start - 1 if start else None, -1)
        figure.add_scatter(
            x=[*at[there], *at[back]],
            y=[*upper[there], *low[back]],
            fill="toself",
            fillcolor=_transparent(color),
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
            **shown,
        )


def _stretches(values: Sequence[float | None]) -> list[tuple[int, int]]:
    edges = [at for at in range(len(values) + 1) if _there(values, at) != _there(values, at - 1)]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _there(values: Sequence[float | None], at: int) -> bool:
    return 0 <= at < len(values) and values[at] is not None


def _shade(figure: go.Figure, span: tuple[int, int] | None) -> None:
    if span is not None:
        look = {"fillcolor": "#D9B84A", "opacity": 0.16, "line_width": 0, "layer": "below"}
        figure.add_vrect(x0=span[0] - 0.5, x1=span[1] + 0.5, **look)


def _chart(heading: str, figure: go.Figure, *, legend: bool = False) -> Chart:
    if legend:
        place = {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0, "xanchor": "left"}
        traces: Any = figure.data
        lines = sum(trace.showlegend is not False for trace in traces)
        room = 14 * max(0, lines - 4)  # for what does not fit into two rows
        figure.update_layout(
            showlegend=True, legend={**place, "tracegroupgap": 0}, height=330 + room, margin_b=100 + room
        )
    content = figure.to_plotly_json()
    if content["layout"]["yaxis"]["type"] == "log":
        _only_decades(content)
    return Chart(heading, _inside_script(json.dumps(content, allow_nan=False, separators=(",", ":"))))


def _only_decades(content: dict[str, Any]) -> None:
    # Powers of ten alone, once there are two of them: plotly's own ticks crowd a small chart with 2s and 5s.
    values = [value for trace in content["data"] for value in trace["y"] if value is not None]
    decades = math.log10(max(values) / min(values)) if values else 0.0
    if decades > 2:
        content["layout"]["yaxis"]["dtick"] = max(1, round(decades / 5))


def _inside_script(content: str) -> str:
    # No character that could end the element, open a comment or break a line survives outside its escape.
    for letter in "<>&\u2028\u2029":
        content = content.replace(letter, f"\\u{ord(letter):04x}")
    return content


def _literal(name: str) -> str:
    # Plotly reads its own small HTML in names; escaped, a name is shown as it is.
    return escape(name, quote=False)


def _number(value: float | None, *, log: bool = False) -> float | None:
    if value is None or not math.isfinite(value) or (log and value <= 0):
        return None
    return float(f"{value:.6g}")


def _site(table: pl.DataFrame, metric: str) -> str:
    sites = table.filter(pl.col("metric") == metric)["site"]
    return sites[0] if sites.len() else "block"


def _transparent(color: str) -> str:
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.16)"
