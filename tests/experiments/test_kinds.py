"""Blocks that see all tokens before are told from those with a sliding window: on axes of blocks, and in words."""

import polars as pl
import pytest
from pydantic import ValidationError
from tests.compared_run import with_ablation
from tests.experiments.test_attribute_view import with_attribution
from tests.families import FAMILIES
from tests.saved import SIZES, llama, save
from tests.synthetic_run import PLAIN, PLANTED, header, open_survey, write_aggregates, write_parts
from transformers import AutoModelForCausalLM

import thalweg
from thalweg.experiments import experiments, pairs
from thalweg.store import ModelFacts, open_run

WINDOWS = (None, 16, 16, None, 16, 16, None, 64)
FULL, NARROW, WIDE = (0, 3, 6), (1, 2, 4, 5), (7,)


def windowed(path, windows=WINDOWS, models=(PLANTED,)):
    asked = header(models, ("words",))
    facts = tuple(model.model_copy(update={"windows": windows}) for model in asked.models)
    with open_survey(path, asked.model_copy(update={"models": facts})) as writer:
        write_parts(writer, models, ("words",))
        write_aggregates(writer, models, ("words",))
        writer.update(status="finished")
    return open_run(path)


def by_blocks(run):
    """Every panel along blocks that the run shows."""
    every = [section for known in experiments() for chapter in known.chapters(run) for section in chapter.sections]
    return [panel for section in every for panel in section.panels if panel.x == "block"]


def sentence(run):
    (depth,) = next(chapter for chapter in experiments()[1].chapters(run) if chapter.anchor == "depth").sections
    return depth.sentences


def test_kinds_are_listed_the_widest_first(tmp_path):
    (pair,) = pairs(windowed(tmp_path / "run"))
    assert [(kind.name, kind.places) for kind in pair.kinds] == [
        ("full attention", FULL),
        ("sliding window of 64 tokens", WIDE),
        ("sliding window of 16 tokens", NARROW),
    ]
    assert len({kind.color for kind in pair.kinds}) == 3


@pytest.mark.parametrize("windows", [None, (16,) * 8, (None,) * 8])
def test_where_all_are_alike_nothing_is_marked_or_said(windows, tmp_path):
    run = windowed(tmp_path / "run", windows)
    assert pairs(run)[0].kinds == ()
    assert sentence(run) == []
    assert not any(panel.kinds for panel in by_blocks(run))


def test_every_axis_of_blocks_is_marked(tmp_path):
    run = windowed(tmp_path / "run")
    with_ablation(run.path)
    with_attribution(run.path)
    panels = by_blocks(open_run(run.path))
    assert len(panels) >= 8
    assert all([kind.places for kind in panel.kinds] == [FULL, WIDE, NARROW] for panel in panels)


def test_maps_of_differences_are_marked(tmp_path):
    run = windowed(tmp_path / "run")
    thalweg.contrast(run.path, length="any", top=2)
    maps = [panel for panel in by_blocks(open_run(run.path)) if panel.heat is not None]
    assert len(maps) >= 4
    assert all(panel.kinds for panel in maps)


def test_sink_rates_are_told_apart_in_words(tmp_path):
    run = windowed(tmp_path / "run")
    rates = run.profile.filter(metric="sink_rate").collect()
    full, wide, narrow = (rates.filter(pl.col("index").is_in(places))["mean"].mean() for places in (FULL, WIDE, NARROW))
    (said,) = sentence(run)
    assert said == (
        f"planted on words: the mean sink rate is {100 * full:.0f} % with full attention (blocks 0, 3 and 6), "
        f"{100 * wide:.0f} % with a sliding window of 64 tokens (block 7) and {100 * narrow:.0f} % with a sliding "
        "window of 16 tokens (blocks 1, 2, 4 and 5)"
    )


def test_that_no_prompt_is_longer_than_the_window_is_said(tmp_path):
    run = windowed(tmp_path / "run", tuple(window and 512 for window in WINDOWS))
    assert sentence(run)[0].endswith("; no prompt is longer than 40 tokens, so all see the same")


def test_models_that_differ_have_no_marks_in_common(tmp_path):
    asked = header((PLANTED, PLAIN), ("words",))
    every = tuple(model.model_copy(update={"windows": WINDOWS[: model.blocks]}) for model in asked.models)
    with open_survey(tmp_path, asked.model_copy(update={"models": every})) as writer:
        write_parts(writer, (PLANTED, PLAIN), ("words",))
        write_aggregates(writer, (PLANTED, PLAIN), ("words",))
        writer.update(status="finished")
    run = open_run(tmp_path)
    assert len(sentence(run)) == 2
    assert all(len(panel.kinds) in (2, 3) or panel.heat is None for panel in by_blocks(run))


def test_a_survey_learns_them_from_the_model(tmp_path):
    config = FAMILIES["gemma3_text"]()
    config.vocab_size = SIZES["vocab_size"]
    model = save(AutoModelForCausalLM.from_config(config), tmp_path / "model")
    run = thalweg.survey(model, ["a text of some tokens"], out=tmp_path / "run", progress=False)
    assert run.header.models[0].windows == (5, None, 5)
    assert "with full attention (block 1)" in sentence(run)[0]
    plain = save(llama(), tmp_path / "plain")
    assert thalweg.survey(plain, ["a text"], out=tmp_path / "other", progress=False).header.models[0].windows is None


def test_a_header_says_a_window_of_every_block():
    with pytest.raises(ValidationError, match="windows of 2 blocks are said of a model of 8"):
        ModelFacts(name="m", weights=None, dtype="float32", blocks=8, heads=4, windows=(None, 16))
