"""Charts are plotly's own JSON, safe wherever their names come from."""

import json
from dataclasses import replace
from importlib.resources import files

import plotly.graph_objects as go
import pytest
from tests.gallery import (
    EVIL,
    NAMES,
    NAN,
    evil_panel,
    gamma_panel,
    log_panel,
    map_panel,
    ratio_panel,
    sections,
    share_panel,
    spread,
)

from thalweg.shown import GREY, INK, PHASE, Heat, Line, Panel, chart_of, keys
from thalweg.shown._plotly import DIVERGING, _inside_script


def content(panel, **options):
    return json.loads(chart_of(panel, **options).json)


@pytest.mark.parametrize("legend", [True, False])
def test_every_chart_is_what_plotly_understands(legend):
    for panel in (panel for section in sections() for panel in section.panels):
        figure = go.Figure(content(panel, legend=legend))  # refuses what it does not know
        assert figure.layout.xaxis.title.text
        assert figure.layout.yaxis.title.text
        assert figure.layout.showlegend == (legend and bool([t for t in figure.data if t.showlegend] or panel.spans))


def test_a_charts_json_cannot_end_its_script_element():
    text = json.dumps({"name": f"{EVIL}<!--&\u2028\u2029"}, ensure_ascii=False)
    safe = _inside_script(text)
    assert not set(safe) & set("<>&\u2028\u2029")
    assert json.loads(safe) == json.loads(text)
    assert not set(chart_of(evil_panel(), legend=True).json) & set("<>&\u2028\u2029")


def test_names_from_outside_are_shown_as_they_are():
    names = [trace["name"] for trace in content(evil_panel())["data"] if trace["showlegend"]]
    assert not any("<" in name for name in names)
    assert [name.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") for name in names] == [
        *NAMES,
        f"rule {EVIL}",
    ]


def test_gaps_are_gaps():
    chart = content(share_panel())
    bands = [trace for trace in chart["data"] if trace.get("fill") == "toself"]
    assert [sorted(set(band["x"])) for band in bands] == [[0, 1], [3, 4, 5]]
    line = chart["data"][2]
    assert line["y"][2] is None
    assert line["connectgaps"] is False


def test_numbers_have_six_digits_and_none_is_impossible():
    rows = spread([1 / 3, NAN, float("inf"), 2.0])
    line = content(Panel("x", "state", "[y]", (Line("x", rows, band=False),)))["data"][0]
    assert line["y"] == [0.333333, None, None, 2]


def test_long_logarithmic_axes_show_decades_alone():
    def ticks(values):
        return content(Panel("x", "state", "[y]", (Line("x", spread(values), band=False),), log_y=True))["layout"][
            "yaxis"
        ]

    assert "dtick" not in ticks([1.0, 90.0])
    assert ticks([1.0, 1000.0])["dtick"] == 1
    assert ticks([1.0, 1e10])["dtick"] == 2


def test_lines_are_shown_and_hidden_with_their_group():
    lines = [trace for trace in content(log_panel())["data"] if trace["mode"] == "lines+markers"]
    assert [(line["name"], line["legendgroup"], line["showlegend"]) for line in lines] == [
        ("first", "first", True),
        ("first", "first", False),
        ("others of second", "second", False),
    ]


def test_the_keys_of_some_panels_name_each_thing_once():
    named = keys(sections()[0].panels)
    shaded, marked = "compress phase", ["full attention", "window of 512"]
    assert [key.name for key in named] == [
        *(
            "first",
            "second",
            "chance",
            shaded,
            *marked,
            "threshold",
            "mix",
            "the row itself",
            "attention",
            "MLP",
            "peak",
        )
    ]
    assert [key.name for key in named if not key.switch] == [shaded, *marked, "mix"]
    assert next(key for key in named if key.name == "mix").color == GREY
    assert [key.dash for key in named][:7] == ["-", "--", "--", "-", "-", "-", "-."]
    assert [(key.name, key.switch) for key in keys([map_panel()])] == [("the head changes", ""), (shaded, "")]
    assert keys([map_panel()])[1].color == PHASE


def test_levels_run_along_the_whole_panel():
    level = content(log_panel())["data"][-1]
    assert (level["x"], level["y"], level["line"]["dash"]) == ([0, 5], [10, 10], "dashdot")


def test_maps_say_where_and_what():
    trace, marks = content(map_panel())["data"]
    assert trace["hovertemplate"].startswith("block %{x}, head %{y}<br>%{z")
    assert trace["colorbar"]["title"]["text"] == "no unit"
    assert trace["z"][1][2] is None
    assert marks["hovertemplate"].startswith("the head changes")


def test_logarithmic_maps_name_decades():
    trace, bar = content(ratio_panel())["data"]
    assert (trace["zmin"], trace["zmax"]) == (1, 1000)
    assert bar["marker"]["colorbar"]["ticktext"] == ["1", "10", "100", "1000"]
    assert trace["z"][2][2] is None
    narrow = Heat(ratio_panel().heat.grid, "no unit", 2.0, 8.0, log=True)
    assert len(content(Panel("x", "block", "state", heat=narrow))["data"][1]["marker"]["colorbar"]["tickvals"]) == 2


def test_changes_are_blue_below_and_red_above():
    heat = Heat(map_panel().heat.grid, "nats", -1.0, 1.0, diverging=True)
    scale = content(Panel("x", "block", "head", heat=heat))["data"][0]["colorscale"]
    assert (scale[0], scale[5], scale[-1]) == ([0.0, "#053061"], [0.5, "#f7f7f7"], [1.0, "#67001f"])
    assert len(DIVERGING) == 11


def test_ink_is_told_from_other_colours_by_the_pages_style_sheet():
    panel = Panel("x", "state", "[y]", (Line("x", spread([1.0]), INK),))
    assert content(panel)["data"][-1]["line"]["color"] == INK == "#222222"
    assert "rgb(34, 34, 34)" in (files("thalweg.report") / "page.css").read_text()


def test_bars_under_the_axis_stand_in_rows_between_panel_and_axis():
    layout = content(log_panel())["layout"]
    assert (layout["xaxis"]["anchor"], layout["xaxis"]["position"]) == ("free", 0)
    first, second = layout["shapes"]
    assert layout["yaxis"]["domain"][0] > first["y1"] > first["y0"] > second["y1"] > second["y0"] > 0
    assert [first["showlegend"], second["showlegend"]] == [False, False]  # each has its line's colour
    assert content(map_panel())["layout"]["shapes"][0]["showlegend"]
    assert content(gamma_panel())["layout"]["yaxis"]["domain"] == [0, 1]


def test_a_screen_reader_hears_the_axes_and_a_map_knows_its_heads():
    chart = chart_of(replace(map_panel(), heads=("gpt2", "main", "words")))
    assert chart.label == "Sink score. Along: block. Up: head."
    assert chart.heads == ("gpt2", "main", "words")
