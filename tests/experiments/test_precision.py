"""A model in half precision, and positions that depend on the length: the survey's numbers stay what they should be."""

import json
import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

import thalweg
from saved import llama, save
from thalweg.capture import subject_of
from thalweg.engines import BatchOptions
from thalweg.experiments._declared import state_remarks
from thalweg.experiments._survey import view
from thalweg.experiments._survey.batch import MeasureOptions, measure_batch
from thalweg.experiments._survey.noise import noise_floor
from thalweg.prompts import Prompt

QUIET = thalweg.SurveyOptions(progress=False)
KEY = ("prompt", "state", "block", "head")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "prompts.jsonl"
    texts = [f"{row} bottles of water, and {row * 7} more " * (1 + row % 2) for row in range(9)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def table(run, name):
    found = getattr(run, name).collect()
    return found.sort([column for column in KEY if column in found.columns])


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.1), ("float16", 0.0125)])
def test_half_precision_is_near_float32_and_its_statistics_are_float32(tmp_path, data, dtype, tolerance):
    """The same weights. States differ by rounding, 2**-8 and 2**-11 an operation, through two blocks.

    Measured: entropies within 0.5 % in bfloat16, scores within 0.02; the tolerance is a few times that.
    """
    model = save(llama().to(getattr(torch, dtype)), tmp_path / "model")
    half = thalweg.survey(model, data, out=tmp_path / "half", options=replace(QUIET, dtype=dtype))
    whole = thalweg.survey(model, data, out=tmp_path / "whole", options=QUIET)
    assert (half.header.models[0].dtype, whole.header.models[0].dtype) == (dtype, "float32")
    assert half.bound_violations == half.nonfinite_states == 0
    for name in ("layers", "heads"):
        assert getattr(half, name).collect_schema() == getattr(whole, name).collect_schema()
    layers, expected = table(half, "layers"), table(whole, "layers")
    for column in ("entropy", "entropy_normalized", "sink_norm", "rest_norm", "anisotropy"):
        assert layers.schema[column] in (pl.Float32, pl.Float64)
        np.testing.assert_allclose(layers[column], expected[column], rtol=tolerance, err_msg=column)
    assert not np.array_equal(layers["entropy"], expected["entropy"])
    heads, expected = table(half, "heads"), table(whole, "heads")
    for column in ("sink_score", "mixing_normalized", "attended"):
        np.testing.assert_allclose(heads[column], expected[column], atol=tolerance, err_msg=column)
    # sums over a softmax taken in the model's own precision would be off by far more than float32
    np.testing.assert_allclose(heads["attended"], 1.0, atol=1e-5)


def test_the_noise_floor_is_the_largest_difference_between_alone_and_together():
    subject = subject_of(llama())
    prompts = [Prompt(row, tuple(range(5 + row, 17 + row)), "", "", truncated=False) for row in range(4)]

    def measure(batch):
        rows = measure_batch(subject, batch, MeasureOptions())
        if len(batch) == 1:
            return rows
        assert len(batch) == 3
        rows.layers["entropy"][1] *= 1.25
        rows.layers["entropy"][4] *= 0.9
        rows.layers["rest_norm"][2] *= 0.98
        rows.layers["sink_norm"][3] *= 1.01
        rows.heads["mixing"][rows.heads["block"] == 1] *= 2.0
        rows.heads["sink_score"][5] += 0.125
        rows.heads["sink_score"][2:4] = np.nan, np.inf
        return rows

    noise = noise_floor(prompts, measure, BatchOptions(1000))
    assert noise.model_dump() == pytest.approx(
        {"prompts": 3, "entropy": 0.2, "norms": 0.02, "mixing": 0.5, "sink_score": 0.125}, abs=1e-4
    )
    for alone in ({"prompts": prompts[:1], "batches": BatchOptions(1000)}, {"batches": BatchOptions(12)}):
        assert noise_floor(**{"prompts": prompts, "measure": measure} | alone) is None


def test_a_half_precision_run_says_how_far_its_numbers_repeat(tmp_path, data):
    model, asked = save(llama().bfloat16(), tmp_path / "model"), replace(QUIET, dtype="bfloat16", limit=4)
    run = thalweg.survey(model, data, out=tmp_path / "run", options=asked)
    noise = run.header.models[0].noise
    assert noise.prompts == 3
    assert all(0 <= value < 0.2 for value in noise.model_dump(exclude={"prompts"}).values())
    [said] = [remark for remark in state_remarks(run) if "bfloat16" in remark]
    assert re.fullmatch(
        r".*model in bfloat16: a prompt alone and the same in a batch differ by up to [\d.e-]+ % in entropy, "
        r"[\d.e-]+ % in norms, [\d.e-]+ % in a block's mixing and [\d.e-]+ in a head's sink score "
        r"\(3 prompts tried\)\.",
        said,
    )
    [card] = view.cards(run)
    assert f"Numbers in{said.partition(' in')[2]}" in card.details
    more = thalweg.survey(model, data, out=tmp_path / "run", options=replace(asked, limit=5))
    assert more.header.models[0].noise == noise


@pytest.mark.parametrize("options", [{"dtype": "float32"}, {"dtype": "bfloat16", "limit": 1}])
def test_where_nothing_can_be_said_of_noise_nothing_is(tmp_path, data, options):
    run = thalweg.survey(
        save(llama(), tmp_path / "model"), data, out=tmp_path / "run", options=replace(QUIET, **options)
    )
    assert run.header.models[0].noise is None
    assert not any("alone" in remark for remark in state_remarks(run))


def test_dynamic_rotary_embeddings_leave_prompts_of_any_company_alone(tmp_path):
    """transformers keeps the frequencies of the longest batch so far; prompts are cut where they begin to change."""
    parameters = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
    model = save(llama(max_position_embeddings=16, rope_parameters=parameters), tmp_path / "model")
    texts = [
        "a prompt that is a good deal longer than the context",
        "a short one",
        "sixteen in all.",
        "another long one, well beyond",
    ]
    found = {}
    for name, rows in {
        "together": [0, 1, 2, 3],
        "backwards": [3, 2, 1, 0],
        **{str(row): [row] for row in range(4)},
    }.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"text": texts[row]}) + "\n" for row in rows))
        run = thalweg.survey(model, str(path), out=tmp_path / f"run {name}", options=replace(QUIET, batch_size=1))
        assert run.prompts.collect()["tokens"].max() <= 16
        layers = table(run, "layers")
        for place, row in enumerate(rows):
            found.setdefault(row, []).append(layers.filter(pl.col("prompt") == place).drop("prompt", "data"))
    for row, tables in found.items():
        assert len(tables) == 3
        assert tables[0].height == 3
        assert all(one.equals(tables[0], null_equal=True) for one in tables), row
