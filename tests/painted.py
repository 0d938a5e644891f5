"""What both painters have painted, read back, against what a panel holds: a plain second opinion, value by value."""

import json
import math
from html import escape
from itertools import chain, groupby, pairwise

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import LogNorm, to_hex
from matplotlib.image import AxesImage

from thalweg.experiments import experiments
from thalweg.shown import Section, chart_of, figure_of
from thalweg.shown._plotly import CIVIDIS, DIVERGING

PLOTLY_DASHES = {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}


def assert_every_section_is_painted(run):
    """Check every panel of everything that the run shows; give how many there were, by experiment."""
    counts = {}
    for experiment in experiments():
        chapters = list(experiment.chapters(run))
        for chapter in chapters:
            _check_what_is_said_of_shades(chapter)
        sections = [section for chapter in chapters for section in chapter.sections if section.panels]
        for section in sections:
            assert_painted(section)
        counts[experiment.name] = sum(len(section.panels) for section in sections)
    return counts


def _check_what_is_said_of_shades(chapter):
    said = " ".join([chapter.note, *(sentence for section in chapter.sections for sentence in section.sentences)])
    panels = [panel for section in chapter.sections for panel in section.panels]
    assert "shaded" not in said.lower() or all(panel.spans for panel in panels)


def assert_painted(section: Section):
    """Check that both painters paint exactly what the section's panels hold."""
    figure = figure_of(section)
    every = [axes for axes in figure.axes if axes.get_label() != "<colorbar>" and axes.axison]
    assert ["".join(_undone(axes.get_title(loc="left")).split()) for axes in every] == [
        "".join(_line(panel.title).split()) for panel in section.panels
    ]
    for axes, panel in zip(every, section.panels, strict=True):
        _check_paper(axes, panel)
        chart = chart_of(panel, legend=section.legend == "each")
        assert chart.title == panel.title
        _check_page(json.loads(chart.json), panel)


# what a panel says, in plain numbers


def shown(value, *, log=False):
    """A value, or None where an axis has no place for it."""
    return None if value is None or not math.isfinite(value) or (log and value <= 0) else value


def curve(each, panel):
    rows = zip(each.rows["at"], each.rows["mean"], strict=True)
    return [(at, shown(mean, log=panel.log_y)) for at, mean in rows]


def band(line, panel):
    """Stretches of (at, lower, upper); none where the line has no band."""
    if not line.band or "lower" not in line.rows.columns:
        return []
    log = panel.log_y
    means = [mean for _, mean in curve(line, panel) if mean is not None]
    rows = []
    for at, mean, lower, upper in line.rows.select("at", "mean", "lower", "upper").iter_rows():
        lower = min(means) / 10 if log and means and shown(lower) is not None and lower <= 0 else lower
        known = None not in (shown(mean, log=log), shown(lower), shown(upper, log=log))
        rows.append((at, lower, upper) if known else None)
    return [list(stretch) for known, stretch in groupby(rows, key=lambda row: row is not None) if known]


def bars_beside(panel):
    """The middle of every bar, for each of the panel's bars."""
    every = sorted({at for bars in panel.bars for at in bars.rows["at"]})
    room = min((b - a for a, b in pairwise(every)), default=1)
    at_place = {at: [number for number, bars in enumerate(panel.bars) if at in bars.rows["at"]] for at in every}
    width = 0.76 * room / max(map(len, at_place.values()))
    return [
        [at + width * (at_place[at].index(number) - (len(at_place[at]) - 1) / 2) for at in bars.rows["at"]]
        for number, bars in enumerate(panel.bars)
    ], width


def shades(points, panel):
    """Where each point's colour lies on the panel's scale, from 0 to 1; none where it has one colour."""
    if panel.scale is None or "shade" not in points.rows.columns:
        return []
    low, high = panel.scale.low, panel.scale.high
    return [(shade - low) / (high - low or 1) for shade in points.rows["shade"]]


def below(panel):
    """What stands in rows under the axis: what blocks are, in one, and a row for each track."""
    kinds = [[(place - 0.4, place + 0.4, kind.color) for kind in panel.kinds for place in kind.places]]
    return (kinds if panel.kinds else []) + [[(track.first, track.last, track.color)] for track in panel.tracks]


def some(names, most):
    """As many names as fit, evenly apart, with their places."""
    step = max(1, math.ceil(len(names) / most))
    return list(range(0, len(names), step)), list(names[::step])


def rules(panel, *, upright):
    log = panel.log_x if upright else panel.log_y
    return [rule for rule in panel.rules if rule.upright == upright and shown(rule.value, log=log) is not None]


def grid(heat):
    return [[shown(value, log=heat.log) for value in row] for row in heat.grid.tolist()]


def dots(heat):
    rows, columns = (heat.dots if heat.dots is not None else np.zeros_like(heat.grid)).nonzero()
    return sorted(zip(columns.tolist(), rows.tolist(), strict=True))


def is_empty(panel):
    drawn = chain(panel.lines, panel.bars, panel.points)
    return panel.heat is None and all(mean is None for each in drawn for _, mean in curve(each, panel))


# paper


def _check_paper(axes, panel):
    lines = iter(axes.get_lines())
    if panel.heat is not None:
        _check_paper_map(axes, panel.heat)
        if panel.heat.dots is not None:
            marks = next(lines)
            assert sorted(zip(*map(np.ndarray.tolist, marks.get_data()), strict=True)) == dots(panel.heat)
    bands = iter([shape for shape in axes.collections if hasattr(shape, "get_step") or "Fill" in type(shape).__name__])
    for line in panel.lines:
        _check_paper_line(next(lines), line, panel)
        if any(mean is not None for _, mean in curve(line, panel)) and line.band and "lower" in line.rows.columns:
            _check_paper_band(next(bands), line, panel)
    assert next(bands, None) is None
    _check_paper_bars(axes, panel)
    clouds = iter([shape for shape in axes.collections if isinstance(shape, PathCollection)])
    for points in panel.points:
        if shades(points, panel):
            _check_paper_shades(next(clouds), points, panel)
        else:
            _same(_read(next(lines)), curve(points, panel))
    assert next(clouds, None) is None
    for rule in rules(panel, upright=False):
        assert list(next(lines).get_ydata()) == [rule.value, rule.value]
    for rule in rules(panel, upright=True):
        assert list(next(lines).get_xdata()) == [rule.value, rule.value]
    assert next(lines, None) is None
    _check_paper_axes(axes, panel)


def _check_paper_shades(drawn, points, panel):
    places = [
        tuple(None if math.isnan(value) else value for value in place) for place in _unmasked(drawn.get_offsets())
    ]
    assert places == [(None, None) if shown(at) is None else (at, mean) for at, mean in curve(points, panel)]
    colors = zip(drawn.get_array().tolist(), shades(points, panel), places, strict=True)
    assert all(color == pytest.approx(wanted) for color, wanted, place in colors if None not in place)
    assert (drawn.norm.vmin, drawn.norm.vmax) == (0, 1)


def _unmasked(places):
    return np.ma.filled(places, np.nan).tolist()


def _check_paper_line(drawn, line, panel):
    _same(_read(drawn), curve(line, panel))
    assert to_hex(drawn.get_color()) == line.color.lower()
    assert drawn.get_linestyle() == line.dash
    assert (drawn.get_drawstyle() == "steps-mid") == line.step
    assert drawn.get_linewidth() >= (line.width or 0)  # wider where others hide it
    assert drawn.get_label().startswith("_") != line.named


def _check_paper_band(drawn, line, panel):
    corners = [tuple(corner) for path in drawn.get_paths() for corner in path.vertices.tolist()]
    expected = band(line, panel)
    if not line.step:
        assert len(drawn.get_paths()) == len(expected)
        ends = {(at, edge) for stretch in expected for at, lower, upper in stretch for edge in (lower, upper)}
        assert set(corners) == {(float(at), float(edge)) for at, edge in ends}


def _check_paper_bars(axes, panel):
    boxes = [container for container in axes.containers if hasattr(container, "patches")]
    if not panel.bars:
        assert not boxes
        return
    middles, width = bars_beside(panel)
    for box, bars, middle in zip(boxes, panel.bars, middles, strict=True):
        assert [patch.get_x() + patch.get_width() / 2 for patch in box] == pytest.approx(middle)
        assert [patch.get_width() for patch in box] == pytest.approx([width] * len(middle))
        _same([(None, shown(patch.get_height())) for patch in box], [(None, mean) for _, mean in curve(bars, panel)])
        if "lower" in bars.rows.columns:
            segments = [segment[:, 1] for segment in box.errorbar[2][0].get_segments() if segment.size]
            known = bars.rows.filter(bars.rows["mean"].is_finite())
            assert np.ravel(segments) == pytest.approx(np.ravel(known.select("lower", "upper").rows()))


def _check_paper_map(axes, heat):
    (image,) = (child for child in axes.get_children() if isinstance(child, AxesImage))
    values = np.ma.filled(np.ma.asarray(image.get_array(), dtype=float), np.nan)
    assert [[shown(value) for value in row] for row in values.tolist()] == grid(heat)
    assert image.origin == ("upper" if heat.down else "lower")
    for names, axis in ((heat.along, axes.xaxis), (heat.up, axes.yaxis)):
        if names:
            places, written = some(names, 8)
            assert axis.get_ticklocs().tolist() == places
            assert [_undone(text.get_text()) for text in axis.get_ticklabels()] == list(map(_line, written))
    assert (image.norm.vmin, image.norm.vmax) == (heat.low, heat.high)
    assert isinstance(image.norm, LogNorm) == heat.log
    assert (image.get_cmap().name == "RdBu_r") == heat.diverging
    assert axes.patch.get_hatch() == (None if heat.along else "///")
    assert f"[{heat.unit}]" in [
        _undone(bar.get_ylabel()) for bar in axes.figure.axes if bar.get_label() == "<colorbar>"
    ]


def _check_paper_axes(axes, panel):
    assert [_undone(text) for text in (axes.get_xlabel(), axes.get_ylabel())] == [_line(panel.x), _line(panel.y)]
    assert axes.get_xscale() == ("log" if panel.log_x else "linear")
    assert axes.get_yscale() == ("log" if panel.log_y and not is_empty(panel) else "linear")
    assert [text.get_text() for text in axes.texts] == ["no value"] * is_empty(panel)
    shaded = [patch for patch in axes.patches if patch.get_zorder() == 0]
    assert [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in shaded] == [
        (span.first - 0.5, span.last + 0.5) for span in panel.spans
    ]
    _check_paper_strip(axes, panel)
    if panel.ticks is not None:
        assert axes.get_xticks().tolist() == list(panel.ticks.places)
        assert [_undone(text.get_text()) for text in axes.get_xticklabels()] == list(map(_line, panel.ticks.names))
    if panel.share and panel.heat is None and not is_empty(panel) and not panel.log_y:
        assert axes.get_ylim() == (-0.03, 1.03)


def _check_paper_strip(axes, panel):
    rows = [drawn for drawn in axes.collections if type(drawn) is LineCollection and not drawn.get_clip_on()]
    assert [
        [(*ends[:, 0], to_hex(color)) for ends, color in zip(row.get_segments(), row.get_color(), strict=True)]
        for row in rows
    ] == [[(first, last, color.lower()) for first, last, color in row] for row in below(panel)]
    down = axes.spines["bottom"].get_position()
    assert down == ("outward", pytest.approx(4 * (len(rows) + 1) if rows else 0))


def _read(line):
    at, mean = (np.asarray(column, dtype=float).tolist() for column in line.get_data())
    return [(place, shown(value)) for place, value in zip(at, mean, strict=True)]


def _undone(text):
    """Text as matplotlib draws it."""
    return text.replace(r"\$", "$").removeprefix(" ")


def _line(text):
    return "".join(letter if letter.isprintable() else " " for letter in text)


# page


def _check_page(chart, panel):
    traces, layout = iter(chart["data"]), chart["layout"]
    if panel.heat is not None:
        _check_page_map(next(traces), panel.heat)
        if panel.heat.log:
            _check_page_bar(next(traces), panel.heat)
        if panel.heat.dots is not None:
            marks = next(traces)
            assert sorted(zip(marks["x"], marks["y"], strict=True)) == dots(panel.heat)
    for line in panel.lines:
        for stretch in band(line, panel):
            _check_page_band(next(traces), stretch)
        _check_page_line(next(traces), line, panel)
    _check_page_bars(traces, panel)
    for points in panel.points:
        trace = next(traces)
        if shades(points, panel):
            low, high = trace["marker"]["cmin"], trace["marker"]["cmax"]
            colors = [(value - low) / (high - low or 1) for value in trace["marker"]["color"]]
            assert colors == pytest.approx(shades(points, panel), rel=1e-5)
        _same(
            [(at, value) for at, value in zip(trace["x"], trace["y"], strict=True)],
            [(shown(at), mean) for at, mean in curve(points, panel)],
        )
    for rule in rules(panel, upright=False):
        assert next(traces)["y"] == pytest.approx([rule.value] * 2, rel=1e-5)
    if panel.scale is not None:
        marker = next(traces)["marker"]
        assert (marker["cmin"], marker["cmax"]) == (panel.scale.low, panel.scale.high)
        assert marker["colorbar"]["tickvals"] == list(panel.scale.ticks.places)
    assert next(traces, None) is None
    _check_page_layout(layout, panel)


def _check_page_line(trace, line, panel):
    _same(list(zip(trace["x"], trace["y"], strict=True)), curve(line, panel))
    assert (trace["line"]["color"], trace["line"]["dash"]) == (line.color, PLOTLY_DASHES[line.dash])
    assert (trace["line"]["shape"] == "hvh") == line.step
    assert trace["showlegend"] == line.named
    assert trace["connectgaps"] is False


def _check_page_band(trace, stretch):
    there = [(at, upper) for at, _, upper in stretch]
    back = [(at, lower) for at, lower, _ in stretch]
    corners = list(zip(trace["x"], trace["y"], strict=True))
    _same(corners, [*there, *reversed(back)])
    assert trace["fill"] == "toself"


def _check_page_bars(traces, panel):
    middles, width = bars_beside(panel) if panel.bars else ([], 0)
    for bars, middle in zip(panel.bars, middles, strict=True):
        trace = next(traces)
        _same(list(zip(trace["x"], trace["y"], strict=True)), curve(bars, panel))
        stands = [at + offset + width / 2 for at, offset in zip(trace["x"], trace["offset"], strict=True)]
        assert stands == pytest.approx(middle, abs=1e-5)
        if "lower" in bars.rows.columns:
            reach = bars.rows.select(
                below=bars.rows["mean"] - bars.rows["lower"], above=bars.rows["upper"] - bars.rows["mean"]
            )
            assert trace["error_y"]["arrayminus"] == pytest.approx(reach["below"].fill_nan(0.0).to_list(), rel=1e-5)
            assert trace["error_y"]["array"] == pytest.approx(reach["above"].fill_nan(0.0).to_list(), rel=1e-5)


def _check_page_map(trace, heat):
    for axis, names in (("x", heat.along), ("y", heat.up)):
        assert trace.get(axis, []) == [escape(name, quote=False) for name in names]
    assert len(trace["z"]) == len(heat.grid)
    for row, expected in zip(trace["z"], grid(heat), strict=True):
        whole = [*row, *[None] * (len(expected) - len(row))]
        _same(list(enumerate(whole)), list(enumerate(expected)), rel=6e-3)
    assert (trace["zmin"], trace["zmax"]) == (heat.low, heat.high)
    colors = [color for _, color in trace["colorscale"]]
    assert colors == list(DIVERGING if heat.diverging else CIVIDIS)
    for share, color in trace["colorscale"]:
        value, place = heat.low + share * (heat.high - heat.low), colors.index(color) / (len(colors) - 1)
        expected = heat.low * (heat.high / heat.low) ** place if heat.log else heat.low + place * (heat.high - heat.low)
        assert value == pytest.approx(expected, rel=1e-6, abs=1e-9)


def _check_page_bar(trace, heat):
    """The colour bar of a logarithmic map is a point that is nowhere."""
    marker = trace["marker"]
    assert (trace["x"], trace["y"], marker["showscale"]) == ([None], [None], True)
    assert (marker["cmin"], marker["cmax"]) == tuple(map(math.log10, (heat.low, heat.high)))
    assert [float(text) for text in marker["colorbar"]["ticktext"]] == pytest.approx(
        [10**at for at in marker["colorbar"]["tickvals"]]
    )


def _check_page_layout(layout, panel):
    along, up = (panel.heat.along, panel.heat.up) if panel.heat is not None else ((), ())
    plain = ["category" if names else "linear" for names in (along, up)]
    assert layout["xaxis"].get("type", "linear") == ("log" if panel.log_x else plain[0])
    assert layout["yaxis"].get("type", "linear") == ("log" if panel.log_y and not is_empty(panel) else plain[1])
    assert (layout["yaxis"].get("autorange") == "reversed") == (panel.heat is not None and panel.heat.down)
    for names, axis, most in ((along, layout["xaxis"], 8), (up, layout["yaxis"], 12)):
        if names:
            assert axis["tickvals"] == axis["ticktext"] == [escape(name, quote=False) for name in some(names, most)[1]]
    spans = [shape for shape in layout["shapes"] if (shape["type"], shape["yref"]) == ("rect", "y domain")]
    assert [(shape["x0"], shape["x1"]) for shape in spans] == [
        (span.first - 0.5, span.last + 0.5) for span in panel.spans
    ]
    bars = [shape for shape in layout["shapes"] if (shape["type"], shape["yref"]) == ("rect", "paper")]
    rows = [list(row) for _, row in groupby(bars, key=lambda bar: bar["y1"])]
    assert [[(bar["x0"], bar["x1"], bar["fillcolor"]) for bar in row] for row in rows] == below(panel)
    assert [bar["legendgroup"] for bar in bars][len(bars) - len(panel.tracks) :] == [
        escape(track.group, quote=False) for track in panel.tracks
    ]
    edges = [edge for row in rows for edge in (row[0]["y1"], row[0]["y0"])]
    assert edges == sorted(edges, reverse=True)
    assert not bars or 0 < edges[-1] < edges[0] < layout["yaxis"]["domain"][0]
    marks = [shape["x0"] for shape in layout["shapes"] if shape["type"] == "line"]
    assert marks == [rule.value for rule in rules(panel, upright=True)]
    assert ("no value" in [remark["text"] for remark in layout["annotations"]]) == is_empty(panel)
    if panel.ticks is not None:
        assert layout["xaxis"]["tickvals"] == list(panel.ticks.places)
    if panel.share and panel.heat is None and not is_empty(panel):
        assert layout["yaxis"]["range"] == [-0.03, 1.03]


def _same(painted, expected, rel=1e-5):
    assert len(painted) == len(expected)
    for (place, value), (there, wanted) in zip(painted, expected, strict=True):
        assert place == there or place == pytest.approx(there, rel=1e-5)
        assert (value is None) == (wanted is None)
        assert value is None or value == pytest.approx(wanted, rel=rel, abs=1e-300)
