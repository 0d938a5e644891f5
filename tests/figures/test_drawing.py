"""Figures are drawn for whatever a run holds, name their units, and come out the same twice."""

import math
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from matplotlib import rcParams
from tests.synthetic_run import (
    PLANTED,
    Plant,
    build_run,
    header,
    open_survey,
    part_tables,
    write_aggregates,
    write_parts,
)

from thalweg.errors import RunError
from thalweg.figures import bounds, depth_profile, mixing, norms, pairs, save_figures, sink_map
from thalweg.store import Shard, open_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return build_run(tmp_path_factory.mktemp("figures") / "run")


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return build_run(tmp_path_factory.mktemp("figures") / "single", (PLANTED,), ("words",))


def drawn(axes):
    return [np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines()]


def test_every_axis_has_a_unit(run):
    pair = pairs(run)[0]
    figures = [draw(run, "words") for draw in (depth_profile, mixing, norms)]
    for figure in [*figures, bounds(run, pair)]:
        for axes in figure.axes:
            assert "[" in axes.get_ylabel()
            assert axes.get_xlabel() in ("state", "block") or "[" in axes.get_xlabel()


def test_the_profile_shows_every_model_and_the_others_in_grey(run):
    entropy, rate, norm = depth_profile(run, "words").axes
    assert len(drawn(entropy)) == len(drawn(rate)) == 2
    assert len(drawn(norm)) == 4
    assert norm.get_yscale() == "log"
    assert entropy.get_legend_handles_labels()[1] == ["planted", "plain"]
    assert max(max(line.get_xdata()) for line in entropy.get_lines()) == 1


def test_a_single_model_has_its_phase_shaded_over_its_own_states(single):
    entropy = depth_profile(single, "words").axes[0]
    band = entropy.patches[0]
    assert (band.get_x(), band.get_x() + band.get_width()) == (1.5, 7.5)
    assert max(entropy.get_lines()[0].get_xdata()) == PLANTED.blocks


def test_everything_is_saved_as_png_and_pdf(run, tmp_path):
    files = save_figures(run, tmp_path)
    assert all(file.stat().st_size > 1000 for file in files)
    assert len(files) == len(set(files)) == 2 * (3 * 2 + 2 * 4)
    assert {file.suffix for file in files} == {".png", ".pdf"}
    assert {file.parent for file in files} == {tmp_path}


def test_figures_go_into_the_run_and_are_the_same_twice(single, tmp_path):
    first = {file.name: file.read_bytes() for file in save_figures(single)}
    again = {file.name: file.read_bytes() for file in save_figures(single, tmp_path)}
    assert (single.path / "figures" / "depth_profile.png").exists()
    assert first == again


def test_the_callers_own_style_is_neither_used_nor_changed(single):
    own = rcParams["lines.linewidth"]
    before = depth_profile(single, "words").axes[0].get_lines()[0].get_linewidth()
    rcParams["lines.linewidth"] = 9
    try:
        assert depth_profile(single, "words").axes[0].get_lines()[0].get_linewidth() == before != 9
        assert rcParams["lines.linewidth"] == 9
    finally:
        rcParams["lines.linewidth"] = own


def test_an_unfinished_run_is_drawn_as_far_as_it_came(tmp_path):
    with open_survey(tmp_path, header()) as writer:
        assert save_figures(open_run(tmp_path)) == []
        write_parts(writer, (PLANTED,), ("words",), prompts=4)
    names = {file.name.split("_lab")[0] for file in save_figures(open_run(tmp_path))}
    assert names == {"bounds", "sink_map"}


def changed_run(path, change, models=(PLANTED,), lengths=(1,)):
    with open_survey(path, header(models, ("words",))) as writer:
        tables = change(part_tables(models[0], "words", range(3), lengths=lengths))
        writer.write_part(Shard(models[0].name, "main", "words", 0, 3), tables)
        write_aggregates(writer, models, ("words",))
    return open_run(path)


def all_nan(tables):
    floats = {
        table: [name for name, kind in frame.schema.items() if kind.is_float()] for table, frame in tables.items()
    }
    return {
        table: frame.with_columns(pl.lit(math.nan).alias(name) for name in floats[table])
        for table, frame in tables.items()
    }


def test_metrics_without_a_single_value_are_drawn_as_empty_panels(tmp_path):
    run = changed_run(tmp_path, all_nan, lengths=(12,))
    assert bounds(run, pairs(run)[0]).axes[0].texts[0].get_text() == "no value"
    for axes in depth_profile(run, "words").axes:
        assert [text.get_text() for text in axes.texts] == ["no value"]


def test_zeros_on_a_logarithmic_axis_are_gaps(tmp_path):
    def zero_norm(tables):
        norm = pl.when(pl.col("state") == 4).then(0.0).otherwise("sink_norm")
        return tables | {"layers": tables["layers"].with_columns(sink_norm=norm)}

    run = changed_run(tmp_path, zero_norm, lengths=(12,))
    axes = depth_profile(run, "words").axes[2]
    values = drawn(axes)[1]
    assert np.isnan(values[4])
    assert np.isfinite(np.delete(values, 4)).all()
    assert axes.get_ylim()[0] > 0


def test_a_gap_breaks_the_map(tmp_path):
    run = changed_run(
        tmp_path, lambda tables: tables | {"heads": tables["heads"].filter(pl.col("block") > 0)}, lengths=(12,)
    )
    image = sink_map(run, pairs(run)[0]).axes[0].images[0].get_array()
    assert np.ma.getmaskarray(image)[:, 0].all()
    assert not np.ma.getmaskarray(image)[:, 1:].any()


def test_names_from_outside_are_drawn_as_they_are(tmp_path):
    model = Plant("_$x^$/\n$\\frac$ 模型", blocks=2, heads=1)
    assert save_figures(build_run(tmp_path, (model,), ("_$d_a_t_a$",), prompts=1))


def test_a_place_that_cannot_be_written_is_one_clear_line(single, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write figures to"):
        save_figures(single, tmp_path / "file")


def test_drawing_needs_no_torch_and_no_pyplot(single):
    code = (
        "import sys, thalweg.figures as f, thalweg.store as s;"
        f"f.depth_profile(s.open_run({str(single.path)!r}), 'words');"
        "print([name for name in ('torch', 'matplotlib.pyplot') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
