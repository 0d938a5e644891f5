"""The trained model shows what it is bundled to show, and says how it came to it."""

import json
import math
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from thalweg import open_run
from thalweg.experiments import SurveyOptions, ablate, survey
from thalweg.reference import bundled_directory

FOLDER = os.environ.get("THALWEG_TEST_DATA")
TRAINING = Path(__file__).parents[2] / "training"
QUIET = SurveyOptions(progress=False)
MIDDLE = range(2, 6)  # written by block 1, taken away by block 5


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return survey(out=tmp_path_factory.mktemp("trained") / "run", options=QUIET)


def means(run, metric):
    return run.profile.filter(metric=metric).sort("index").collect()["mean"].to_list()


def test_it_is_small_half_precision_and_begins_every_text():
    directory = bundled_directory()
    assert (directory / "model.safetensors").stat().st_size <= 6 * 2**20
    assert {tensor.dtype for tensor in load_file(directory / "model.safetensors").values()} == {torch.float16}
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert len(tokenizer) == 1024
    assert tokenizer("one")["input_ids"][0] == tokenizer.bos_token_id


def test_it_mixes_compresses_and_refines_as_the_paper_says(run):
    (segment,) = run.segments.collect().iter_rows(named=True)
    assert (segment["first"], segment["last"]) == (MIDDLE.start, MIDDLE.stop - 1)
    claims = run.claims.filter("decides").collect()
    assert claims.height == 6
    assert set(claims["mark"]) == {"as the paper says"}


def test_its_massive_row_makes_a_valley(run):
    ratio, entropy = means(run, "norm_ratio"), means(run, "entropy_normalized")
    assert min(ratio[state] for state in MIDDLE) >= 10
    assert max(entropy[state] for state in MIDDLE) <= entropy[1] / 2
    assert min(entropy[MIDDLE.stop :]) >= 10 * max(entropy[state] for state in MIDDLE)


def test_its_heads_sink_where_the_row_is_massive_and_not_before(run):
    rates = means(run, "sink_rate")
    assert max(rates[: MIDDLE.start]) < 0.1
    assert max(rates[state] for state in MIDDLE) >= 0.5


def test_without_what_writes_the_massive_row_valley_and_sinks_are_gone(tmp_path):
    found = ablate(out=tmp_path / "run", seeds=1, options=SurveyOptions(limit=16, progress=False))
    verdicts = found.table("verdicts").collect()
    together = verdicts.filter(condition="blocks 1")
    assert dict(together.select("phenomenon", "verdict").iter_rows()) == {"compression": "removed", "sinks": "removed"}
    emptied = verdicts.filter(condition="emptied compress")
    assert set(emptied["verdict"]) == {"removed"}
    negative = verdicts.filter(control="negative")
    assert negative.height >= 4
    assert set(negative["verdict"]) == {"unchanged"}


def test_it_is_never_shown_without_saying_that_it_was_planted(run):
    assert "planted at initialisation" in run.header.models[0].planted


def test_its_training_can_be_looked_at():
    example = open_run(TRAINING / "run")
    (found,) = example.experiments("checkpoints")
    emerged = found.table("emergence").collect()
    (sinks,) = emerged.filter(phenomenon="sinks").iter_rows(named=True)
    assert sinks["step"] == 600
    assert emerged.filter(phenomenon="massive activations")["step"].to_list() == [0]


@pytest.mark.skipif(not FOLDER, reason="THALWEG_TEST_DATA names no folder with a real model and real data")
def test_it_predicts_held_out_problems_better_than_an_n_gram():
    figures = json.loads((TRAINING / "loss.json").read_text())
    assert figures["kneser_ney_5"] - figures["model"] >= 0.15
    rows = [json.loads(line) for line in (Path(FOLDER) / "data" / "gsm8k_train.jsonl").read_text().splitlines()[7000:]]
    directory = bundled_directory()
    tokenizer, model = AutoTokenizer.from_pretrained(directory), AutoModelForCausalLM.from_pretrained(directory).eval()
    losses, tokens = list[float](), 0
    for row in rows:
        ids = tokenizer(f"{row['question']}\n{row['answer']}", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            losses.append(float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1))
        tokens += ids.shape[1] - 1
    assert tokens == figures["tokens"]
    assert math.fsum(losses) / tokens == pytest.approx(figures["model"], abs=1e-3)  # its weights in half precision
