"""Panels on a page: plotly's JSON, safe inside a script element, and plotly itself: the one file that knows it."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.shown import _drawn as drawn
from thalweg.shown._section import GREY, INK, PHASE, Bars, Heat, Line, Panel, Points, Rule, Scale, Ticks

STYLES = {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}
_BLUES = ("#053061", "#2166ac", "#4393c3", "#92c5de", "#d1e5f0")
_REDS = ("#fddbc7", "#f4a582", "#d6604d", "#b2182b", "#67001f")
DIVERGING = (*_BLUES, "#f7f7f7", *_REDS)
"""Blue below, red above and nearly white for no change, as on paper."""
_DARK = ("#00224e", "#123570", "#3b496c", "#575d6d", "#707173")
CIVIDIS = (*_DARK, "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838")
"""Of other maps, as on paper."""

_SHADE = 0.16
_LINE = 2.0  # pixels of a line
_TRACK = 7  # pixels of a bar under the axis
_COLOUR_BAR = {"thickness": 12, "outlinewidth": 0}
_ALONG, _UP = 8, 12
"""Names at most on the axes of a map."""

_Dict = dict[str, Any]

# Colours of a chart that is saved; on the page its style sheet has them follow light, dark and print.
_CLEAR = "rgba(0,0,0,0)"
_FONT = {"family": "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif", "size": 12}
_ON_PAPER: _Dict = {"paper_bgcolor": _CLEAR, "plot_bgcolor": _CLEAR, "font": {**_FONT, "color": INK}}
_AXIS: _Dict = {"zeroline": False, "gridcolor": "#e6e8eb", "linecolor": INK}


@dataclass(frozen=True)
class Chart:
    """One chart of the page.

    Attributes:
        title: what stands above it.
        label: what a screen reader says: the title and both axes.
        height: in pixels.
        json: plotly's data and layout, safe inside a script element.
        heads: model, revision and data set of which it shows heads.
        head: block and head of the only one.
        pointing: it is a map whose columns point at one another.
    """

    title: str
    label: str
    height: int
    json: str
    heads: tuple[str, str, str] | None = None
    head: tuple[int, int] | None = None
    pointing: bool = False


def chart_of(panel: Panel, *, legend: bool = False) -> Chart:
    """Draw one panel.

    Args:
        panel: what is drawn.
        legend: below the chart; without one the page names what is in it.
    """
    data = list(_traces(panel))
    layout = _layout(panel, data, named=len(drawn.keys([panel])) if legend else 0)
    content = json.dumps({"data": data, "layout": layout}, allow_nan=False, separators=(",", ":"))
    title = drawn.title(panel)
    label = f"{title}. Along: {panel.x}. Up: {panel.y}."
    pointing = panel.heat is not None and panel.heat.pointing
    return Chart(title, label, layout["height"], _inside_script(content), panel.heads, panel.head, pointing)


def plotly_script() -> str:
    """Give plotly.js, its bundle of cartesian charts, which draws in a browser; NOTICE says which version."""
    return (Path(__file__).parent / "plotly-cartesian.min.js").read_text(encoding="utf-8")


def _traces(panel: Panel) -> Iterator[_Dict]:
    """Everything with values; what comes later lies on top."""
    if panel.heat is not None:
        yield from _heat(panel.heat, panel)
    for line in drawn.lines(panel, _LINE):
        yield from _line(line, panel)
    yield from _bars(panel.bars, panel)
    yield from (_points(points, panel) for points in panel.points)
    yield from (_above(*marked, panel) for marked in drawn.above(panel))
    yield from (_level(rule, panel) for rule in drawn.rules(panel, upright=False))
    if panel.scale is not None:
        yield _scale(panel.scale)


def _scatter(mode: str, x: Any, y: Any, **look: Any) -> _Dict:
    return {"type": "scatter", "mode": mode, "x": x, "y": y, **look}


def _line(line: Line, panel: Panel) -> Iterator[_Dict]:
    at, mean = drawn.visible(line.rows["at"], log=panel.log_x), drawn.visible(line.rows["mean"], log=panel.log_y)
    band = drawn.edges(line, log=panel.log_y)
    if band is not None:
        yield from _band(line, at, *band)
    dots, shape = 1 if line.dash == "-" and not line.step else 0, "hvh" if line.step else "linear"
    yield _scatter(
        "lines+markers" if panel.heat is None else "lines",  # markers would make room beside a map
        _numbers(at),
        _numbers(mean),
        line={"color": line.color, "dash": STYLES[line.dash], "width": line.width, "shape": shape},
        marker={"size": 4, "opacity": dots},
        **({"hovertemplate": "%{y:.4~g}"} if panel.heat is None else {"hoverinfo": "skip"}),  # a map tells its cells
        connectgaps=False,
        **_naming(line.name, drawn.group_of(line), named=line.named),
    )


def _band(line: Line, at: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> Iterator[_Dict]:
    # One closed shape for every stretch without a gap: a filled line would bridge the gaps.
    look = {"fill": "toself", "fillcolor": _thinned(line.color), "line": {"width": 0}, "hoverinfo": "skip"}
    for stretch in drawn.stretches(lower + at):
        low, high = (list(zip(_numbers(at[stretch]), _numbers(edge[stretch]), strict=True)) for edge in (lower, upper))
        x, y = zip(*high, *reversed(low), strict=True)
        yield _scatter("lines", x, y, **look, **_naming(line.name, drawn.group_of(line), named=False))


def _bars(bars: Sequence[Bars], panel: Panel) -> Iterator[_Dict]:
    places, width = drawn.bar_places(bars)
    for each, middle in zip(bars, places, strict=True):
        at, spread, error = drawn.visible(each.rows["at"]), drawn.whiskers(each), {}
        if spread is not None:
            sides = {"array": _numbers(spread[1]), "arrayminus": _numbers(spread[0])}
            look = {"color": "#777777", "thickness": 1.2, "width": 0}
            error = {"error_y": {"type": "data", "symmetric": False, **sides, **look}}
        yield {
            "type": "bar",
            "x": _numbers(at),
            "y": _numbers(drawn.visible(each.rows["mean"], log=panel.log_y)),
            "width": width,
            "offset": _numbers(middle - at - width / 2),
            "marker": {"color": each.color},
            "hovertemplate": "%{y:.4~g}",
            **error,
            **_naming(each.name, each.name, named=each.named),
        }


def _points(points: Points, panel: Panel) -> _Dict:
    columns = re.findall(r"{(\w+)}", points.said)
    said = re.sub(r"{(\w+)}", lambda found: f"%{{customdata[{columns.index(found[1])}]}}", _literal(points.said))
    rows = points.rows.select(columns).rows() if columns else []
    own = [[_literal(value) if isinstance(value, str) else value for value in row] for row in rows]
    shades, marker = drawn.shades(points, panel.scale), {"size": 6, "color": points.color}
    if panel.scale is not None and shades is not None:
        low, high = panel.scale.low, panel.scale.high
        colors = _numbers(low + shades * (high - low))
        marker |= {"color": colors, "cmin": low, "cmax": high, "colorscale": _stops(panel.scale.colors)}
    place = "%{y:.4~g}" if shades is None else "%{x:.3~g}, %{y:.3~g}<extra></extra>"
    return _scatter(
        "markers",
        _numbers(drawn.visible(points.rows["at"], log=panel.log_x)),
        _numbers(drawn.visible(points.rows["mean"], log=panel.log_y)),
        marker=marker,
        hovertemplate=f"{said}: {place}" if said else place,
        **({"customdata": own} if columns else {}),
        **_naming(points.name, points.name, named=points.named),
    )


def _above(each: Line | Points, at: np.ndarray, values: np.ndarray, panel: Panel) -> _Dict:
    """Marks at the end of the axis; hovering tells the values."""
    return _scatter(
        "markers",
        _numbers(at),
        [drawn.ceiling(panel)] * len(at),
        customdata=_numbers(values),
        marker={"symbol": "triangle-up", "size": 9, "color": each.color},
        cliponaxis=False,
        hovertemplate="%{customdata:.4~g}",
        **_naming(each.name, drawn.group_of(each) if isinstance(each, Line) else each.name, named=False),
    )


def _level(rule: Rule, panel: Panel) -> _Dict:
    return _scatter(
        "lines",
        _numbers(np.array(drawn.extent(panel))),
        _numbers(np.array([rule.value] * 2, dtype=float)),
        line={"color": rule.color, "dash": STYLES[rule.dash], "width": 1.5},
        hovertemplate="%{y:.4~g}",
        **_naming(rule.name, rule.name, named=True),
    )


def _heat(heat: Heat, panel: Panel) -> Iterator[_Dict]:
    cells, colors = drawn.cells(heat), DIVERGING if heat.diverging else CIVIDIS
    along, up = (_literal(axis.split(" [")[0]) for axis in (panel.x, panel.y))  # without their units
    bar: _Dict = {"title": {"text": _literal(heat.unit), "side": "right"}, **_COLOUR_BAR}
    names = {axis: list(map(_literal, own)) for axis, own in (("x", heat.along), ("y", heat.up)) if own}
    yield {
        "type": "heatmap",
        **names,
        "z": [_shortened(row) for row in cells],
        "zmin": heat.low,
        "zmax": heat.high,
        "colorscale": _powers(colors, heat) if heat.log else _stops(colors),
        "hovertemplate": f"{along} %{{x}}, {up} %{{y}}<br>%{{z:.4~g}}<extra></extra>",
        **({"showscale": False} if heat.log else {"colorbar": bar}),
    }
    if heat.log:
        low, high = math.log10(heat.low), math.log10(heat.high)
        yield _bar({"cmin": low, "cmax": high, "colorscale": _stops(colors), "colorbar": bar | _decades(low, high)})
    if heat.dots is not None:
        columns, rows = drawn.marks(heat)
        look = {"marker": {"size": 4, "color": INK}, "hovertemplate": f"{_literal(heat.dotted)}<extra></extra>"}
        named = _naming(heat.dotted, heat.dotted, named=bool(heat.dotted))
        places = {"x": columns.tolist(), "y": rows.tolist()}
        at = {axis: [names[axis][place] for place in own] if axis in names else own for axis, own in places.items()}
        yield _scatter("markers", at["x"], at["y"], **look, **named)


def _powers(colors: Sequence[str], heat: Heat) -> list[tuple[float, str]]:
    """The colours where values are that lie evenly apart in their logarithms."""
    places = np.geomspace(heat.low, heat.high, len(colors))
    shares = (places - heat.low) / (heat.high - heat.low)
    return list(zip([0.0, *shares[1:-1].tolist(), 1.0], colors, strict=True))


def _shortened(row: np.ndarray) -> list[float | int | None]:
    """Three digits, whole numbers whole, and no gaps at the end."""
    known = np.flatnonzero(np.isfinite(row))
    shown = row[: known[-1] + 1 if known.size else 0].tolist()
    return [_number(value, digits=6 if value.is_integer() else 3) for value in shown]


def _decades(low: float, high: float) -> _Dict:
    decades = list(range(math.ceil(low), math.floor(high) + 1)) or [low, high]
    return {"tickvals": decades, "ticktext": [f"{10.0**decade:g}" for decade in decades]}


def _scale(scale: Scale) -> _Dict:
    """A point that is nowhere, for the colour bar beside it."""
    bar = {"title": {"text": _literal(scale.title), "side": "right"}, **_COLOUR_BAR, **_marks(scale.ticks)}
    return _bar({"cmin": scale.low, "cmax": scale.high, "colorscale": _stops(scale.colors), "colorbar": bar})


def _bar(look: _Dict) -> _Dict:
    marker = {**look, "color": [look["cmin"]], "showscale": True}
    return _scatter("markers", [None], [None], marker=marker, showlegend=False)


def _stops(colors: Sequence[str]) -> list[tuple[float, str]]:
    """Colours with their places between 0 and 1, of which plotly wants at least two."""
    two_or_more = colors if len(colors) > 1 else [*colors, *colors]
    return list(zip(np.linspace(0, 1, len(two_or_more)).tolist(), two_or_more, strict=True))


def _layout(panel: Panel, data: Sequence[_Dict], *, named: int) -> _Dict:
    room = 14 * max(0, named - 4)  # for what does not fit into two rows
    height = 280 if panel.heat is None else max(240, min(620, 120 + 14 * len(panel.heat.grid)))
    height = 360 if panel.heat is not None and panel.heat.along else height
    rows = len(drawn.strip(panel))
    strip = _TRACK * (rows + 1) / (height - 52) if rows else 0.0
    below = {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0, "xanchor": "left"}
    return {
        **_ON_PAPER,
        "height": height + (50 + room if named else 0),
        "margin": {"l": 58, "r": 12, "t": 8, "b": 100 + room if named else 44},
        "hovermode": "closest"
        if panel.heat or any("shade" in own.rows.columns for own in panel.points)
        else "x unified",
        "showlegend": named > 0,
        "legend": {**below, "tracegroupgap": 0, "bgcolor": _CLEAR},
        "barmode": "overlay",
        "xaxis": {"title": {"text": _literal(panel.x), "standoff": 6}, **_AXIS, **_along(panel)},
        "yaxis": {
            "title": {"text": _literal(panel.y)},
            **_AXIS,
            "automargin": True,
            "domain": [strip, 1],
            **_up(panel, data),
        },
        "shapes": [*_shapes(panel), *_below(panel, strip)],
        "annotations": list(_remarks(panel)),
    }


def _along(panel: Panel) -> _Dict:
    axis: _Dict = {"type": "log", "exponentformat": "power", "dtick": 1} if panel.log_x else {}
    room = {"anchor": "free", "position": 0} if drawn.strip(panel) else {}
    if panel.ticks is not None:
        return {"type": axis.get("type", "linear"), **room, **_marks(panel.ticks)}
    if panel.heat is not None and panel.heat.along:
        return {**_categories(panel.heat.along, _ALONG), "tickangle": -90}
    first, last = drawn.extent(panel)
    few = not panel.log_x and drawn.in_whole_steps(panel) and last - first <= 5
    return {**axis, **room, **({"dtick": 1} if few else {})}  # no halves of a state or a block


def _categories(names: Sequence[str], most: int) -> _Dict:
    """An axis of names; some of them stand on it, all are there to hover over."""
    some = list(map(_literal, drawn.named(names, most).names))
    return {"type": "category", "tickvals": some, "ticktext": some, "automargin": True}


def _up(panel: Panel, data: Sequence[_Dict]) -> _Dict:
    if drawn.is_empty(panel):
        return {"showticklabels": False}
    if panel.heat is not None and (panel.heat.up or panel.heat.down):
        downward = {"autorange": "reversed"} if panel.heat.down else {}
        return {**(_categories(panel.heat.up, _UP) if panel.heat.up else {}), **downward}
    axis: _Dict = {"type": "log" if panel.log_y else "linear", "exponentformat": "power", "nticks": 7}
    top = drawn.ceiling(panel)
    if top is not None:
        axis["range"] = [*map(math.log10, drawn.log_range(panel))] if panel.log_y else [None, top]
    if panel.share:
        axis["range"] = list(drawn.SHARE)
    if panel.log_y:
        # Powers of ten alone, once there are two of them: plotly's own ticks crowd a small chart with 2s and 5s.
        shown = (value for trace in data for value in trace.get("y", ()) if value is not None)
        values = [value for value in shown if top is None or value <= top]
        decades = math.log10(max(values) / min(values)) if values else 0.0
        axis |= {"dtick": max(1, round(decades / 5))} if decades > 2 else {}
    return axis


def _shapes(panel: Panel) -> Iterator[_Dict]:
    """What stands from bottom to top: shaded spans and upright rules."""
    full = {"y0": 0, "y1": 1, "yref": "y domain"}
    for span in panel.spans:
        look = {"fillcolor": PHASE, "opacity": _SHADE, "line": {"width": 0}, "layer": "below"}
        ends = {"x0": span.first - 0.5, "x1": span.last + 0.5, "xref": "x", **full}
        yield {**ends, "type": "rect", "name": _literal(span.name), "showlegend": True, **look}
    for rule in drawn.rules(panel, upright=True):
        look = {"color": rule.color, "dash": STYLES[rule.dash], "width": 1.5}
        yield {"x0": rule.value, "x1": rule.value, "xref": "x", **full, "type": "line", "line": look}


def _below(panel: Panel, strip: float) -> Iterator[_Dict]:
    """Rows of bars in the strip between the panel and its axis; the legend has each name once, if it has one colour."""
    rows, named = drawn.strip(panel), {key.name for key in drawn.below(panel) if key.color == GREY}
    height = strip / (len(rows) + 1)
    for number, row in enumerate(rows, start=1):
        up = {"y0": strip - height * (number + 0.35), "y1": strip - height * (number - 0.35), "yref": "paper"}
        for bar in row:
            look = {"fillcolor": bar.color, "line": {"width": 0}, "legendgroup": _literal(bar.group)}
            naming = {"name": _literal(bar.name), "showlegend": bar.name not in named}
            yield {"type": "rect", "x0": bar.first, "x1": bar.last, "xref": "x", **up, **look, **naming}
            named.add(bar.name)


def _remarks(panel: Panel) -> Iterator[_Dict]:
    """Names beside the marks, and what an empty panel says."""
    for rule in drawn.rules(panel, upright=True):
        # on a log axis plotly wants the logarithm here, though not for the line
        at = math.log10(rule.value) if panel.log_x else rule.value
        place = {"x": at, "y": 1, "yref": "paper", "xanchor": "right", "yanchor": "top", "textangle": -90}
        yield {"text": _literal(rule.name), "font": {"size": 10, "color": rule.color}, "showarrow": False, **place}
    if drawn.is_empty(panel):
        place = {"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper"}
        yield {"text": "no value", "font": {"color": GREY}, "showarrow": False, **place}


def _naming(name: str, group: str, *, named: bool) -> _Dict:
    return {"name": _literal(name), "legendgroup": _literal(group), "showlegend": named}


def _marks(ticks: Ticks) -> _Dict:
    return {"tickvals": list(ticks.places), "ticktext": list(map(_literal, ticks.names))}


def _literal(text: str) -> str:
    # Plotly reads its own small HTML in names; escaped, a name is shown as it is.
    return escape(text, quote=False)


def _numbers(values: np.ndarray) -> list[float | int | None]:
    return [_number(value) for value in values.tolist()]


def _number(value: float, *, digits: int = 6) -> float | int | None:
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short == int(short) and abs(short) < 1e15 else short


def _inside_script(content: str) -> str:
    # No character that could end the element, open a comment or break a line survives outside its escape.
    for letter in "<>&\u2028\u2029":
        content = content.replace(letter, f"\\u{ord(letter):04x}")
    return content


def _thinned(color: str) -> str:
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{_SHADE})"
