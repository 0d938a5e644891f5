"""A line that lies under others is drawn so that it is seen, on paper and on a page."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from thalweg.shown import PALETTE, Line, Panel, Rule, Scale, Section, Ticks, chart_of, figure_of

PLACES = 40
WAVE = np.sin(np.arange(PLACES) / 3)


def line(number, values, **look):
    rows = pl.DataFrame({"at": np.arange(len(values), dtype=float), "mean": values}, strict=False)
    return Line(f"line {number}", rows, PALETTE[number], **look)


def panel(*lines, **more):
    return Panel("planted", "state", "[share]", lines, **more)


def on_paper(shown):
    drawn = figure_of(Section("", panels=[shown])).axes[0].get_lines()
    return [each.get_linewidth() for each in drawn[: len(shown.lines)]]


def on_a_page(shown):
    traces = json.loads(chart_of(shown).json)["data"]
    return [trace["line"]["width"] for trace in traces if trace["mode"] == "lines+markers"]


def widths(shown):
    return [[width > own[-1] for width in own] for own in (on_paper(shown), on_a_page(shown))]


def pixels(shown, color):
    """How many pixels between the axes are about of this colour."""
    figure = figure_of(Section("", panels=[shown]))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box = figure.axes[0].get_window_extent()
    picture = np.asarray(canvas.buffer_rgba())[::-1][int(box.y0) : int(box.y1), int(box.x0) : int(box.x1), :3] / 255
    return int((np.abs(picture - to_rgb(color)).max(axis=-1) < 0.12).sum())


def test_a_line_under_another_is_wider_and_seen():
    both = panel(line(0, WAVE), line(1, WAVE + 0.001))
    assert widths(both) == [[True, False]] * 2
    alone = [pixels(panel(line(number, WAVE)), PALETTE[number]) for number in (0, 1)]
    seen = [pixels(both, PALETTE[number]) for number in (0, 1)]
    assert all(now > before / 5 for now, before in zip(seen, alone, strict=True)), (seen, alone)


def test_of_many_that_coincide_each_is_wider_than_what_lies_on_it_up_to_a_limit():
    for own in (on_paper, on_a_page):
        few = own(panel(*(line(number, WAVE) for number in range(3))))
        assert few == sorted(few, reverse=True)
        assert len(set(few)) == 3
        assert max(own(panel(*(line(number, WAVE) for number in range(7))))) == 8


def test_halves_hidden_by_two_lines_make_one_hidden_line():
    start, end = WAVE.copy(), WAVE.copy()
    start[20:], end[:20] = np.nan, np.nan
    assert widths(panel(line(0, WAVE), line(1, start), line(2, end))) == [[True, False, False]] * 2


@pytest.mark.parametrize(
    "other",
    [
        line(1, WAVE + 0.3),
        line(1, np.where(np.arange(PLACES) < 16, WAVE, WAVE + 1)),
        line(1, WAVE, dash="--"),
        line(1, np.full(PLACES, np.nan)),
        line(1, []),
    ],
    ids=["apart", "alike in less than half", "dashes have gaps", "no values", "no rows"],
)
def test_a_line_that_is_seen_is_left_as_it_is(other):
    assert widths(panel(line(0, WAVE), other)) == [[False, False]] * 2


def test_a_line_that_is_wide_enough_is_left_as_it_is():
    assert on_paper(panel(line(0, WAVE, width=5.0), line(1, WAVE))) == [5.0, 1.6]


def test_dashes_hide_the_same_dashes():
    assert widths(panel(line(0, WAVE, dash=":"), line(1, WAVE, dash=":"))) == [[True, False]] * 2


def test_what_is_alike_depends_on_the_axis():
    low, high = np.full(PLACES, 1e-3), np.full(PLACES, 2e-3)
    both = panel(line(0, low), line(1, high), rules=(Rule("level", 10.0),))
    assert widths(both) == [[True, False]] * 2
    assert widths(replace(both, log_y=True)) == [[False, False]] * 2


def test_lines_whose_colours_follow_a_scale_are_left_as_they_are():
    scale = Scale("step", 0.0, 1.0, Ticks([0], ["0"]), PALETTE[:2])
    assert widths(panel(line(0, WAVE), line(1, WAVE), scale=scale)) == [[False, False]] * 2
