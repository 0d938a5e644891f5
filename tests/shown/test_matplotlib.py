"""Figures are drawn for whatever a section holds, in one style, and come out the same twice."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from matplotlib import rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from tests.gallery import NAMES, alone, empty_panel, evil_panel, log_panel, map_panel, scale_panel, sections, spread
from tests.synthetic_run import build_run, header, open_survey

from thalweg.errors import RunError, UsageError
from thalweg.experiments import Experiment
from thalweg.figures import figure, save_figures
from thalweg.shown import Bars, Heat, Line, Panel, Section, figure_of, files_of
from thalweg.shown._matplotlib import plain, wrapped
from thalweg.store import open_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return build_run(tmp_path_factory.mktemp("figures") / "run")


@pytest.fixture(autouse=True)
def only_the_gallery():
    with alone():
        yield


def one(panel, **options):
    return figure_of(Section("title", panels=[panel], **options))


def drawn(axes):
    return [np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines()]


def test_every_axis_has_a_unit():
    for axes in (axes for section in sections()[:3] for axes in figure_of(section).axes if axes.get_xlabel()):
        assert "[" in axes.get_ylabel() or axes.get_ylabel() in ("head", "state", "query")
        assert axes.get_xlabel() in ("state", "block", "key") or "[" in axes.get_xlabel()


def test_everything_is_saved_as_png_and_pdf_and_the_latest_has_the_plain_name(run, tmp_path):
    files = save_figures(run, tmp_path)
    assert all(file.stat().st_size > 1000 for file in files)
    names = ["gallery_gpt2", "gallery_maps", "gallery_gpt2_older", "gallery_text", "gallery_evil", "gallery_page"]
    assert [file.name for file in files] == [f"{name}.{kind}" for name in names for kind in ("png", "pdf")]
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_figures_go_into_the_run_and_are_the_same_twice(run, tmp_path):
    first = {file.name: file.read_bytes() for file in save_figures(run)}
    again = {file.name: file.read_bytes() for file in save_figures(run, tmp_path)}
    assert (run.path / "figures" / "gallery_maps.png").exists()
    assert first == again


def test_the_callers_own_style_is_neither_used_nor_changed():
    def width():
        return one(log_panel()).axes[0].get_lines()[0].get_linewidth()

    own = rcParams["lines.linewidth"]
    before = width()
    rcParams["lines.linewidth"] = 9
    try:
        assert width() == before != 9
        assert rcParams["lines.linewidth"] == 9
    finally:
        rcParams["lines.linewidth"] = own


def test_a_run_that_shows_nothing_has_no_figures(tmp_path):
    with open_survey(tmp_path, header()):
        pass
    with alone(Experiment("none", {}, len, "Measure", (), "tests.shown.nothing")):
        assert save_figures(open_run(tmp_path)) == []


def test_a_panel_without_a_single_value_says_so():
    axes = one(empty_panel()).axes[0]
    assert [text.get_text() for text in axes.texts] == ["no value"]
    assert axes.get_yscale() == "linear"


def test_zeros_on_a_logarithmic_axis_are_gaps():
    axes = one(log_panel()).axes[0]
    values = drawn(axes)[0]
    assert np.isnan(values[4])
    assert np.isfinite(np.delete(values, 4)).all()
    assert axes.get_ylim()[0] > 0


def test_a_spread_that_reaches_zero_runs_off_the_lower_edge_of_a_logarithmic_axis():
    axes = one(log_panel()).axes[0]
    corners = np.concatenate([path.vertices for path in axes.collections[0].get_paths()])
    assert corners[corners[:, 0] == 0][:, 1].min() == pytest.approx(0.1)
    assert axes.get_ylim()[0] == 0.5


def test_a_gap_breaks_the_map_and_is_hatched():
    axes = one(map_panel()).axes[0]
    mask = np.ma.getmaskarray(np.ma.masked_invalid(axes.images[0].get_array()))
    assert np.argwhere(mask).tolist() == [[1, 2]]
    assert axes.patch.get_hatch() == "///"
    assert axes.images[0].origin == "lower"


def test_a_map_without_any_value_is_drawn():
    heat = Heat(np.full((2, 3), np.nan), "no unit", 1.0, 10.0, log=True)
    axes = one(Panel("Nothing", "block", "head", heat=heat)).axes[0]
    assert not axes.texts
    assert np.isnan(np.ma.filled(axes.images[0].get_array(), np.nan)).all()


def test_bars_share_a_place_with_those_that_are_there():
    alone_there = Bars("alone", spread([1.0], at=[0]))
    pair = [Bars(name, spread([1.0, 2.0], at=[1, 2])) for name in ("left", "right")]
    axes = one(Panel("Bars", "block", "[nats]", bars=(alone_there, *pair))).axes[0]
    middles = [[patch.get_x() + patch.get_width() / 2 for patch in box.patches] for box in axes.containers[1::2]]
    assert middles[0] == pytest.approx([0.0])
    assert np.array(middles[1:]) == pytest.approx(np.array([[0.81, 1.81], [1.19, 2.19]]))


def test_one_legend_names_each_thing_once():
    figure = figure_of(sections()[0])
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(names) == len(set(names))
    assert {"first", "second", "chance", "emerges", "compress phase", "attention", "MLP", "peak"} <= set(names)
    assert not {"others of second", "embedding", "nowhere", "below"} & set(names)
    assert [axes.get_legend() for axes in figure.axes] == [None] * len(figure.axes)


def test_panels_that_have_their_own_legends_have_none_in_common():
    figure = figure_of(sections()[1])
    assert not figure.legends
    assert figure.axes[0].get_legend().get_texts()[0].get_text() == "the head changes"


def test_lines_of_one_scale_share_a_colour_bar():
    figure = figure_of(Section("", panels=[scale_panel("left"), scale_panel("right")]))
    bars = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
    assert [bar.get_ylabel() for bar in bars] == ["optimizer step [steps]"]
    assert [text.get_text() for text in bars[0].get_yticklabels()] == ["1", "1k"]


def test_an_axis_that_counts_has_whole_marks():
    axes = one(Panel("Few", "state", "[nats]", (Line("x", spread([1.0, 2.0])),))).axes[0]
    assert all(tick == int(tick) for tick in axes.get_xticks())
    share = spread([1.0, 2.0, 3.0], at=[0.0, 0.5, 1.0])
    axes = one(Panel("Share", "share of depth [state / blocks]", "[nats]", (Line("x", share),))).axes[0]
    assert any(tick != int(tick) for tick in axes.get_xticks())


def test_the_headline_is_wrapped_and_the_title_stands_in_for_it():
    assert one(log_panel())._suptitle.get_text() == "title"
    long = one(log_panel(), headline="word " * 60)._suptitle.get_text()
    assert long.count("\n") >= 5


def test_a_long_title_is_wrapped_to_its_panel():
    title = one(Panel("word " * 20, "state", "[nats]")).axes[0].get_title(loc="left")
    assert max(map(len, title.split("\n"))) <= 42


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("mix: sink elsewhere (block 0, head 6)", ["mix: sink elsewhere", "(block 0, head 6)"]),
        ("the compression is reduced (C .24 -> .08)", ["the compression is reduced", "(C .24 -> .08)"]),
        ("blocks and states of a model: 23,300 -> 23,500", ["blocks and states of a model:", "23,300 -> 23,500"]),
        ("it costs more than that at state 12", ["it costs more than that at", "state 12"]),
        ("SmolLM2-135M-Instruct.Q4_1 on gsm8k", ["SmolLM2-135M-Instruct.Q4_1 on", "gsm8k"]),
        ("x" * 50, ["x" * 30, "x" * 20]),
        (
            "(what is in brackets and as long as this is broken)",
            ["(what is in brackets and as", "long as this is broken)"],
        ),
    ],
)
def test_text_is_broken_where_it_can_be_read(text, lines):
    assert wrapped(text, 30).split("\n") == lines


def test_a_panel_with_nothing_on_it_has_no_marks():
    axes = one(Panel("no sink elsewhere", "token looked at", "token")).axes[0]
    assert [*axes.get_xticks(), *axes.get_yticks()] == []


def test_rows_of_the_legend_and_of_the_headline_take_no_room_from_the_panels():
    none = one(replace(log_panel(), rules=(), lines=tuple(replace(line, named=False) for line in log_panel().lines)))
    few = one(log_panel(), legend="each")
    more = one(log_panel(), legend="each", headline="word " * 60)
    assert more.get_figheight() > few.get_figheight() > none.get_figheight() == 2.7


def test_a_legend_of_a_panel_hides_nothing():
    canvas = FigureCanvasAgg(one(log_panel(), legend="each"))
    canvas.draw()
    [axes], renderer = canvas.figure.axes, canvas.get_renderer()
    legend, below = axes.get_legend().get_window_extent(renderer), axes.xaxis.get_tightbbox(renderer)
    assert legend.y1 <= below.y0 + 1
    assert legend.y0 >= 0


@pytest.mark.parametrize(("width", "inches", "wide"), [("column", 3.3, 1), ("text", 6.8, 3)])
def test_a_figure_fits_into_a_paper(width, inches, wide, run):
    own = figure(run, "gallery_gpt2")
    fitted = figure(run, "gallery_gpt2", width=width)
    assert fitted.get_figwidth() == pytest.approx(inches)
    assert len({round(axes.get_position().x0, 2) for axes in fitted.axes if axes.get_xlabel()}) == wide
    size = {each: each.axes[0].xaxis.label.get_fontsize() for each in (own, fitted)}
    assert size[fitted] == 8 < size[own]


def test_figures_are_chosen_by_name_and_format(run, tmp_path):
    files = save_figures(run, tmp_path, only=["gallery_gpt2", "gallery_evil"], formats=["svg"], width="column")
    assert [file.name for file in files] == ["gallery_gpt2.svg", "gallery_gpt2_older.svg", "gallery_evil.svg"]
    assert (
        files[0].read_bytes()
        == save_figures(run, tmp_path / "b", only=["gallery_gpt2"], formats=["svg"], width="column")[0].read_bytes()
    )
    [png] = save_figures(run, tmp_path, only=["gallery_maps"], formats=["png"], dpi=40)
    assert png.stat().st_size < 30_000


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"only": ["galery"]}, "has no figure galery"),
        ({"formats": ["gif"]}, "--format gif: expected png, pdf, svg"),
        ({"dpi": 1}, "--dpi must be between 20 and 2400; got 1"),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_a_line(how, said, run, tmp_path):
    with pytest.raises(UsageError, match=said):
        save_figures(run, tmp_path / "none", **how)
    assert not (tmp_path / "none").exists()


def test_names_from_outside_are_drawn_as_they_are():
    figure = one(evil_panel(), headline="".join(NAMES))
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[: len(NAMES)] == list(map(plain, NAMES))
    assert names[1] == r"\$\frac{x}{\$"
    assert names[2:5] == [" _hidden", "two lines", "line separator"]
    assert set(files_of(Section("_$x^$/\n$\\frac$ 模型", panels=[evil_panel()]))) == {"png", "pdf"}


def test_columns_of_any_kind_of_number_are_drawn():
    rows = pl.DataFrame({"at": [0, 1], "mean": pl.Series([1, None], dtype=pl.Int32)})
    assert np.isnan(drawn(one(Panel("Whole", "state", "[n]", (Line("x", rows),))).axes[0])[0]).tolist() == [False, True]


def test_a_place_that_cannot_be_written_is_one_clear_line(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write figures to"):
        save_figures(run, tmp_path / "file")


def test_drawing_needs_no_torch_and_no_pyplot():
    code = (
        "import sys; sys.path.insert(0, '.'); from tests.gallery import log_panel; import thalweg.figures;"
        "from thalweg.shown import Section, figure_of; figure_of(Section('', panels=[log_panel()]));"
        "print([name for name in ('torch', 'matplotlib.pyplot', 'plotly') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
