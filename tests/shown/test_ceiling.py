"""An axis that ends below some values marks them at its end and says how far they go, on paper and on a page."""

import json
import math
from dataclasses import replace

import polars as pl
import pytest

from thalweg.shown import Line, Panel, Points, Section, chart_of, figure_of

VALUES = [1e41, 1e16, 1e6, 40.0]
LINE = Line("curve", pl.DataFrame({"at": [0, 1, 2, 3], "mean": VALUES}))
HIGH = Panel("Perplexity", "state", "[no unit]", (LINE,), log_y=True, ceiling=1e14)
TITLE = "Perplexity (\N{BLACK UP-POINTING TRIANGLE} above the axis: up to 1e+41)"


def axes_of(panel):
    return figure_of(Section("", panels=[panel])).axes[0]


def page_of(panel):
    chart = json.loads(chart_of(panel).json)
    return chart["data"], chart["layout"]["yaxis"]


def test_paper_ends_at_the_ceiling_and_marks_what_is_above():
    axes = axes_of(HIGH)
    assert axes.get_ylim()[1] == 1e14
    curve, marks = axes.get_lines()
    assert curve.get_ydata().tolist() == VALUES
    assert (marks.get_marker(), marks.get_xdata().tolist(), set(marks.get_ydata())) == ("^", [0, 1], {1e14})
    assert axes.get_title(loc="left").replace("\n", " ") == TITLE


def test_a_page_ends_there_too_and_hovering_tells_the_values():
    (curve, marks), axis = page_of(HIGH)
    assert axis["range"][1] == pytest.approx(14)
    assert curve["y"] == VALUES
    assert (marks["x"], set(marks["y"]), marks["customdata"]) == ([0, 1], {1e14}, VALUES[:2])
    assert marks["marker"]["symbol"] == "triangle-up"
    assert (marks["legendgroup"], marks["showlegend"]) == (curve["legendgroup"], False)
    assert axis["dtick"] == round(math.log10(1e14 / 40) / 5)
    chart = chart_of(HIGH)
    assert chart.title == TITLE
    assert chart.label.startswith(TITLE)


def test_points_are_marked_too_and_an_axis_may_be_linear():
    panel = replace(HIGH, lines=(), points=(Points("some", LINE.rows),), log_y=False, ceiling=1e7)
    assert axes_of(panel).get_ylim()[1] == 1e7
    (_, marks), axis = page_of(panel)
    assert marks["x"] == [0, 1]
    assert axis["range"] == [None, 1e7]


@pytest.mark.parametrize("ceiling", [None, 1e42, 1e41, 40.0, 1.0], ids=str)
def test_an_axis_that_can_show_everything_or_nothing_has_no_ceiling(ceiling):
    panel = replace(HIGH, ceiling=ceiling)
    assert len(axes_of(panel).get_lines()) == 1
    assert axes_of(panel).get_ylim()[1] > 1e41
    assert len(page_of(panel)[0]) == 1
    assert chart_of(panel).title == "Perplexity"
