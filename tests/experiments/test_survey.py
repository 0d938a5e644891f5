"""A survey as its users run it: resumed, killed, extended, interrupted, on several models and data sets."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

import thalweg
from families import tiny
from thalweg.errors import DataError, ModelError, OverflowInFloat16, RunError, UsageError
from thalweg.experiments import tables_of
from thalweg.reference import Plant, byte_tokenizer, planted_llama

QUIET = thalweg.SurveyOptions(progress=False, shard_rows=4)
TABLES = (*tables_of("survey").parts, *tables_of("survey").wholes)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A planted model on disk."""
    path = tmp_path_factory.mktemp("models") / "planted-small"
    planted_llama(Plant(0, 2, {3: 2000.0}, (0,)), blocks=4, width=32).save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    return str(path)


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        "".join(json.dumps({"text": f"{row} bottles of water " * (1 + row % 5)}) + "\n" for row in range(23))
    )
    return str(path)


def tables(run):
    return {name: getattr(run, name).collect() for name in TABLES}


def assert_equal(one, other):
    for name in TABLES:
        assert_frame_equal(tables(one)[name], tables(other)[name], check_exact=True)


def test_a_finished_run_finds_nothing_left_to_do(model, data, tmp_path, monkeypatch):
    run = thalweg.survey(model, data, out=tmp_path / "run", options=QUIET)
    before = tables(run)
    monkeypatch.setattr("thalweg.experiments._over_prompts.load_model", lambda *_: pytest.fail("loaded again"))
    again = thalweg.survey(model, data, out=tmp_path / "run", options=QUIET)
    assert again.status == "finished"
    for name, frame in before.items():
        assert_frame_equal(tables(again)[name], frame)


def test_raising_the_limit_extends_a_run(model, data, tmp_path):
    thalweg.survey(model, data, out=tmp_path / "run", options=replace(QUIET, limit=6))
    extended = thalweg.survey(model, data, out=tmp_path / "run", options=replace(QUIET, limit=23))
    whole = thalweg.survey(model, data, out=tmp_path / "whole", options=QUIET)
    assert extended.prompts.collect()["prompt"].to_list() == list(range(23))
    for name in TABLES:  # rows 4 to 7 were measured in other batches: rounding of float32 differs
        assert_frame_equal(tables(extended)[name], tables(whole)[name], check_exact=False, rel_tol=1e-4, abs_tol=1e-6)


def test_batch_size_changes_no_number(model, data, tmp_path):
    one = thalweg.survey(model, data, out=tmp_path / "one", options=replace(QUIET, batch_size=1))
    many = thalweg.survey(model, data, out=tmp_path / "many", options=replace(QUIET, shard_rows=64, batch_tokens=9000))
    for name in ("layers", "heads"):
        assert_frame_equal(tables(one)[name], tables(many)[name], check_exact=False, rel_tol=1e-5, abs_tol=1e-6)


SLOWED = """
import sys, time
import thalweg.experiments._survey.measure as survey
own = survey.measure_batch
survey.measure_batch = lambda *arguments: (time.sleep(0.2), own(*arguments))[1]
from thalweg.cli import main
main()
"""


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_a_run_stopped_half_way_ends_with_the_tables_of_an_undisturbed_one(model, tmp_path, stop):
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps({"text": f"{row} bottles, " * (1 + row % 3)}) + "\n" for row in range(200)))
    command = ["survey", model, "--data", str(data), "--out", str(tmp_path / "run")]
    slowed = subprocess.Popen(
        [sys.executable, "-c", SLOWED, *command], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=os.environ
    )
    deadline = time.monotonic() + 90
    while not list((tmp_path / "run" / "survey").glob("*/*/*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
        assert slowed.poll() is None, slowed.stderr.read().decode()
    slowed.send_signal(stop)
    message = slowed.communicate(timeout=60)[1].decode()
    if stop == signal.SIGINT:
        assert slowed.returncode == 130
        assert message.startswith("thalweg: interrupted")
        assert thalweg.open_run(tmp_path / "run").status == "interrupted"
    assert 0 < thalweg.open_run(tmp_path / "run").prompts.collect().height < 200
    options = thalweg.SurveyOptions(progress=False)
    resumed = thalweg.survey(model, str(data), out=tmp_path / "run", options=options)
    assert resumed.status == "finished"
    assert_equal(resumed, thalweg.survey(model, str(data), out=tmp_path / "whole", options=options))


def test_several_models_and_data_sets_in_one_run(model, data, tmp_path):
    other = tmp_path / "twin"
    planted_llama(Plant(0, 2, {3: 2000.0}, (0,)), blocks=3, width=32, twin=True).save_pretrained(other)
    byte_tokenizer().save_pretrained(other)
    lines = tmp_path / "lines.txt"
    lines.write_text("One short line of plain text.\n\nAnd another one, somewhat longer.\n")
    run = thalweg.survey([model, str(other)], (data, str(lines)), out=tmp_path / "run", options=QUIET)
    found = run.phases.collect()
    assert found.height == 4
    assert found.filter(pl.col("model") == model)["has_massive_activations"].all()
    assert not found.filter(pl.col("model") == str(other))["has_massive_activations"].any()
    assert "all models" in set(run.coupling.collect()["model"])
    assert thalweg.write_report(run).stat().st_size > 10_000


def test_another_run_in_the_directory_is_refused_and_kept(model, data, tmp_path):
    run = thalweg.survey(model, data, out=tmp_path / "run", options=replace(QUIET, limit=4))
    before = tables(run)["layers"]
    with pytest.raises(RunError, match="max_length"):
        thalweg.survey(model, data, out=tmp_path / "run", options=replace(QUIET, max_length=9))
    assert_frame_equal(thalweg.open_run(tmp_path / "run").layers.collect(), before)


def test_weights_that_changed_in_place_are_another_run(data, tmp_path):
    path = tmp_path / "model"
    for seed in (0, 1):
        planted_llama(Plant(0, 2, {3: 2000.0}, (0,)), blocks=4, width=32, seed=seed).save_pretrained(path)
        byte_tokenizer().save_pretrained(path)
        if seed == 0:
            thalweg.survey(str(path), data, out=tmp_path / "run", options=replace(QUIET, limit=4))
    with pytest.raises(RunError, match="weights"):
        thalweg.survey(str(path), data, out=tmp_path / "run", options=replace(QUIET, limit=4))


def test_float16_stops_at_the_first_infinity(data, tmp_path):
    path = tmp_path / "model"
    planted_llama(Plant(0, 2, {3: 200_000.0}, (0,)), blocks=4, width=32).save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    with pytest.raises(OverflowInFloat16, match="bfloat16 or float32"):
        thalweg.survey(str(path), data, out=tmp_path / "run", options=replace(QUIET, dtype="float16"))
    assert thalweg.open_run(tmp_path / "run").status == "failed"
    run = thalweg.survey(str(path), data, out=tmp_path / "other", options=replace(QUIET, dtype="bfloat16"))
    assert run.nonfinite_states == 0


def test_infinities_in_another_dtype_are_rows_of_nan_and_counted(data, tmp_path):
    path = tmp_path / "model"
    broken = planted_llama(Plant(0, 2, {3: 2000.0}, (0,)), blocks=4, width=32)
    with torch.no_grad():
        broken.model.layers[2].mlp.down_proj.weight[5, 7] = torch.nan
    broken.save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    run = thalweg.survey(str(path), data, out=tmp_path / "run", options=replace(QUIET, limit=5))
    layers = run.layers.collect()
    assert run.nonfinite_states == 10  # states 3 and 4 of five prompts
    lost = layers.filter(pl.col("state") >= 3)
    assert lost["entropy"].is_nan().all()
    assert (lost["reason"] == "the state is not finite").all()
    assert layers.filter(pl.col("state") < 3)["entropy"].is_not_nan().all()
    assert thalweg.write_report(run).exists()


def test_a_batch_that_does_not_fit_is_halved_and_a_prompt_that_does_not_fit_is_skipped(
    model, data, tmp_path, monkeypatch
):
    from thalweg.experiments._survey import measure as _rows

    own, tried = _rows.measure_batch, []

    def tight(subject, batch, settings):
        tried.append(len(batch))
        if len(batch) > 2 or any(len(prompt) > 80 for prompt in batch):
            raise torch.OutOfMemoryError("out of memory")
        return own(subject, batch, settings)

    monkeypatch.setattr(_rows, "measure_batch", tight)
    run = thalweg.survey(model, data, out=tmp_path / "run", options=replace(QUIET, shard_rows=64))
    kept = run.prompts.collect()
    assert max(tried) > 2
    assert kept.height == kept.filter(pl.col("tokens") <= 80).height > 0
    [covered] = run.coverage
    assert covered.skipped == {"out of memory": 23 - kept.height}
    assert covered.rows_read == 23
    tried.clear()
    monkeypatch.setattr(_rows, "measure_batch", lambda *given: tried.append(len(given[1])) or own(*given))
    later = thalweg.survey(model, data, out=tmp_path / "run", options=replace(QUIET, shard_rows=64))
    assert sum(tried) == 23 - kept.height
    assert later.coverage[0].skipped == {}
    whole = thalweg.survey(model, data, out=tmp_path / "whole", options=replace(QUIET, shard_rows=64))
    assert later.prompts.collect().equals(whole.prompts.collect())
    for name, frame in tables(whole).items():
        assert_frame_equal(tables(later)[name], frame)  # within rounding: the batches were others


def test_prompts_too_short_for_a_sink_rate_are_counted(model, tmp_path):
    data = tmp_path / "short.txt"
    data.write_text("ab\nabcdefgh\na line of more than ten bytes\n")
    run = thalweg.survey(model, str(data), out=tmp_path / "run", options=QUIET)
    assert run.short_prompts == 2
    rates = run.profile.filter(pl.col("metric") == "sink_rate").collect()
    assert (rates["n"] == 1).all()


def test_skipped_rows_are_counted_with_their_reasons(model, tmp_path):
    data = tmp_path / "some.jsonl"
    data.write_text('{"text": "a usable prompt"}\n{"text": ""}\n{"other": 1}\n{"text": 7}\n')
    run = thalweg.survey(model, str(data), out=tmp_path / "run", options=QUIET)
    [covered] = run.coverage
    assert covered.skipped == {"empty text": 1, "field missing": 1, "field is not text": 1}
    assert (covered.rows_read, covered.prompts_kept) == (4, 1)


def test_data_without_a_usable_prompt_is_refused_with_the_reasons(model, tmp_path):
    data = tmp_path / "empty.jsonl"
    data.write_text('{"text": ""}\n{"text": ""}\n')
    with pytest.raises(DataError, match="empty text: 2"):
        thalweg.survey(model, str(data), out=tmp_path / "run", options=QUIET)


def test_other_authors_entropies_and_the_text_are_kept_when_asked(model, data, tmp_path):
    options = replace(QUIET, limit=3, variants=True, keep_text=True)
    run = thalweg.survey(model, data, out=tmp_path / "run", options=options)
    assert "entropy_wei" in run.layers.collect_schema()
    assert run.prompts.collect()["text"][0].startswith("0 bottles")
    assert "entropy_wei" in set(run.profile.collect()["metric"])


def test_a_model_larger_than_memory_is_measured_block_by_block(tmp_path, data):
    path = tmp_path / "sharded"
    model = tiny("llama").to(torch.float32)
    model.resize_token_embeddings(257)
    model.save_pretrained(path, max_shard_size="20KB")
    byte_tokenizer().save_pretrained(path)
    assert len(list(path.glob("*.safetensors"))) > 2
    short = replace(QUIET, limit=3, max_length=40)
    whole = thalweg.survey(str(path), data, out=tmp_path / "whole", options=short)
    limited = replace(short, device_map="auto", max_memory={"cpu": "60KB"}, offload_folder=str(tmp_path / "offload"))
    parts = thalweg.survey(str(path), data, out=tmp_path / "parts", options=limited)
    assert_equal(whole, parts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"limit": 0}, "--limit must be at least 1"),
        ({"max_length": -3}, "--max-length must be at least 1"),
        ({"tau": 0.0}, "--tau"),
        ({"sink_position": -1}, "--sink-position"),
        ({"massive_ratio": 1.0}, "--massive-ratio"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_is_loaded(change, message):
    with pytest.raises(UsageError, match=message):
        replace(QUIET, **change)


def test_a_model_given_twice_is_refused(model, data, tmp_path):
    with pytest.raises(UsageError, match="twice"):
        thalweg.survey([model, model], data, out=tmp_path / "run", options=QUIET)


def test_an_unknown_dtype_is_refused(model, data, tmp_path):
    with pytest.raises(ModelError, match="float8"):
        thalweg.survey(model, data, out=tmp_path / "run", options=replace(QUIET, dtype="float8"))
    assert not Path(tmp_path / "run").exists()


def test_a_model_that_cannot_be_measured_leaves_the_others_to_look_at(model, data, tmp_path):
    broken = tmp_path / "broken"
    planted_llama(Plant(0, 2, {3: 2000.0}, (0,)), blocks=4, width=32).save_pretrained(broken)
    byte_tokenizer().save_pretrained(broken)
    settings = json.loads((broken / "config.json").read_text())
    settings["num_hidden_layers"] = 5  # of which one has no weights, as loading finds out
    (broken / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError):
        thalweg.survey([model, str(broken)], data, out=tmp_path / "run", options=QUIET)
    run = thalweg.open_run(tmp_path / "run")
    assert run.status == "failed"
    assert run.phases.collect()["model"].to_list() == [model]


def test_a_changed_configuration_is_another_run(data, tmp_path):
    path = tmp_path / "model"
    planted_llama(Plant(0, 2, {3: 2000.0}, (0,)), blocks=4, width=32).save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    thalweg.survey(path, data, out=tmp_path / "run", options=replace(QUIET, limit=4))
    settings = json.loads((path / "config.json").read_text())
    settings["rms_norm_eps"] = 0.5
    (path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(RunError, match="configuration"):
        thalweg.survey(path, data, out=tmp_path / "run", options=replace(QUIET, limit=8))


def test_looking_at_a_finished_run_again_keeps_what_it_says_of_itself(model, data, tmp_path):
    first = thalweg.survey(model, data, out=tmp_path / "run", options=QUIET)
    again = thalweg.survey(model, data, out=tmp_path / "run", options=replace(QUIET, batch_size=3, limit=5))
    assert again.session.resolved == first.session.resolved
    assert again.prompts.collect().height == 23


def test_a_part_that_was_lost_is_measured_again(model, data, tmp_path):
    whole = thalweg.survey(model, data, out=tmp_path / "run", options=QUIET)
    before = tables(whole)
    next((tmp_path / "run" / "survey").rglob("*.heads.parquet")).unlink()
    mended = thalweg.survey(model, data, out=tmp_path / "run", options=QUIET)
    for name, frame in before.items():
        assert_frame_equal(tables(mended)[name], frame)


def test_undefined_flags_and_positions_are_gaps_and_no_head_of_nan_sinks(data, tmp_path):
    path = tmp_path / "model"
    broken = planted_llama(Plant(0, 2, {3: 2000.0}, (0,)), blocks=4, width=32)
    with torch.no_grad():
        broken.model.layers[2].mlp.down_proj.weight[5, 7] = torch.nan
    broken.save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    run = thalweg.survey(path, data, out=tmp_path / "run", options=QUIET)
    lost = run.heads.filter(pl.col("block") == 3).collect()
    assert lost["dormant"].is_null().all()
    assert lost["top_position"].is_null().all()
    assert run.profile.filter(metric="dormant_rate", index=3).collect()["n"].to_list() in ([], [0])
    assert "(nan)" not in thalweg.write_report(run).read_text()


def test_a_float16_run_does_not_stop_for_what_padding_does(data, tmp_path):
    path = tmp_path / "model"
    odd = planted_llama(Plant(0, 2, {3: 2000.0}, (0,)), blocks=4, width=32)
    with torch.no_grad():
        odd.model.embed_tokens.weight[0] = 1e6  # the id that fills a batch; no prompt here has it
    odd.save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    assert thalweg.survey(path, data, out=tmp_path / "run", options=replace(QUIET, dtype="float16")).status
