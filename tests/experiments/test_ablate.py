"""Without its writer the planted massive row is gone, and sinks and compression with it; controls do what they must."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from tests.reference.test_planted import drawn
from transformers import AutoModelForCausalLM, AutoTokenizer

import thalweg
from thalweg.errors import ProofError, UsageError
from thalweg.experiments import _over_prompts as over_prompts
from thalweg.experiments._ablate import measure as module
from thalweg.experiments._attribute.writers import Writers
from thalweg.interventions import Remove
from thalweg.reference import Earlier, Plant, Push, byte_tokenizer, planted_llama

QUIET = thalweg.SurveyOptions(progress=False, shard_rows=3)
FOLDER = os.environ.get("THALWEG_TEST_DATA")
PARTS = ("states", "blocks", "losses")
WHOLES = ("segments", "conditions", "effects", "verdicts", "replacements")
BY = ["prompt", "condition", "seed"]
NEW_LINE = byte_tokenizer()("\n", add_special_tokens=False).input_ids[0]


def tables(experiment):
    return {name: experiment.table(name).collect() for name in (*PARTS, *WHOLES)}


def ablated(model, data, out, *, limit=None, **asked):
    """With one draw of each control, which is enough where planted blocks are not looked for."""
    options = replace(QUIET, limit=limit, **{name: asked.pop(name) for name in ("batch_size", "bos") if name in asked})
    return thalweg.ablate(model, data, out=out, options=options, **{"seeds": 1, **asked})


def verdicts(found, **which):
    return set(found["verdicts"].filter(**which)["verdict"])


@pytest.mark.parametrize("seed", range(3))
def test_the_planted_block_is_found_and_without_it_the_model_is_its_twin(tmp_path, seed):
    draw = drawn(seed)
    draw.save(tmp_path / "model")
    draw.save(tmp_path / "twin", twin=True)
    draw.prompts(tmp_path / "prompts.jsonl")
    options, write = replace(QUIET, limit=3), draw.plant.write_block
    names = tmp_path / "model", tmp_path / "prompts.jsonl"
    found = tables(thalweg.ablate(*names, seeds=1, out=tmp_path / "run", options=options))
    ablated = f"blocks {write}"
    assert found["conditions"].filter(pl.col("control").is_null())["condition"].to_list() == ["intact", ablated]
    assert verdicts(found, condition=ablated) == {"removed"}
    assert verdicts(found, control="negative") == {"unchanged"}
    assert verdicts(found, condition="emptied compress") == {"removed"}
    # RMSNorm takes a row's length away: the planted heads still see the direction of a rescaled one
    assert verdicts(found, condition="rescaled compress", phenomenon="compression") == {"removed"}
    assert found["verdicts"].filter(condition=ablated, phenomenon="sinks")["moved"].to_list() == [False]
    assert found["replacements"].filter(condition=ablated)["other_states"].to_list() == [[]]
    (row,) = found["segments"].iter_rows(named=True)
    assert (row["name"], row["position"]) == ("compress", draw.position)
    for name, blocks in found["conditions"].select("condition", "blocks").iter_rows():
        if name == "other blocks compress":
            assert all(write < block < row["last"] for block in module._blocks(blocks))
    twin = thalweg.ablate(
        tmp_path / "twin",
        tmp_path / "prompts.jsonl",
        blocks=[write],
        seeds=0,
        out=tmp_path / "bare",
        options=replace(options, sink_position=draw.position),
    )
    for table, column, place in (("states", "entropy_normalized", "state"), ("blocks", "sink_rate", "block")):
        one, other = (
            frame.filter(condition=ablated).sort("prompt", place)[column].to_numpy()
            for frame in (found[table], twin.table(table).collect())
        )
        assert len(one) > 0
        # bit-equal but for the order in which sums of zeros and others are taken; the issue's own bound is 0.02
        np.testing.assert_allclose(one, other, atol=0.0 if column == "sink_rate" else 1e-5)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small planted model and its twin."""
    path = tmp_path_factory.mktemp("models")
    for name in ("planted", "twin"):
        own = planted_llama(Plant(0, 2, {3: 2000.0}, (0, 1)), blocks=4, width=32, twin=name == "twin")
        own.save_pretrained(path / name)
        byte_tokenizer().save_pretrained(path / name)
    return path


@pytest.fixture(scope="module")
def model(saved):
    return str(saved / "planted")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "prompts.jsonl"
    lines = [{"text": f"{row} bottles of water " * (1 + row // 3)} for row in range(6)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


@pytest.fixture(scope="module")
def found(model, data, tmp_path_factory):
    return ablated(model, data, tmp_path_factory.mktemp("runs") / "run")


def test_it_is_read_back_from_the_run_and_joins_a_survey(found, model, data, tmp_path):
    run = thalweg.open_run(found.run)
    (read,) = run.experiments("ablation")
    assert (read.header.status, read.header.settings) == ("finished", {"blocks": "auto", "seeds": 1})
    thalweg.survey(model, data, out=tmp_path / "run", options=QUIET)
    joined = ablated(model, data, tmp_path / "run")
    for name, frame in tables(found).items():
        assert frame.height > 0
        assert_frame_equal(tables(read)[name], frame)
        assert_frame_equal(tables(joined)[name], frame)
    names = ("entropy", "entropy_normalized", "sink_norm", "rest_norm", "norm_ratio", "row_ratio", "row_position")
    run = thalweg.open_run(tmp_path / "run")
    intact = joined.table("states").filter(condition="intact")
    surveyed = run.layers.select("prompt", "state", *names).collect()
    # the survey's tables hold float32
    assert_frame_equal(intact.select("prompt", "state", *names).collect(), surveyed, rel_tol=1e-5, check_dtypes=False)
    rates = run.heads.group_by("prompt", "block").agg((pl.col("sink_score") >= 0.3).mean()).sort("prompt", "block")
    blocks = joined.table("blocks").filter(condition="intact").select("prompt", "block", "sink_rate").collect()
    assert blocks["sink_rate"].to_list() == rates.collect()["sink_score"].to_list()


def test_the_loss_is_the_models_own(found, model, data):
    network, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    losses = found.table("losses").filter(condition="intact").sort("prompt").collect()
    texts = [json.loads(line)["text"] for line in Path(data).read_text().splitlines()]
    for text, loss, tokens in zip(texts, losses["loss"], losses["tokens"], strict=True):
        ids = tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            expected = float(network(input_ids=ids, labels=ids).loss)
        assert tokens == ids.shape[1] - 1
        assert loss == pytest.approx(expected, rel=1e-5)  # float32 on both sides, in batches here


def test_every_number_is_measured_under_every_condition(found):
    frames = tables(found)
    conditions = frames["conditions"]
    count = conditions.height
    assert conditions["reason"].is_null().all()
    assert conditions.filter(condition="emptied compress")["dims"].to_list() == [[3]]
    assert frames["states"].height == count * 6 * 5
    assert frames["blocks"].height == count * 6 * 4
    assert frames["losses"].height == count * 6
    assert frames["verdicts"].height == 2 * (count - 1)
    about = frames["verdicts"].select("condition", "seed", "control", "blocks").unique()
    assert about.height == count - 1
    assert frames["verdicts"]["control"].null_count() == 2
    naught = frames["effects"].filter(condition="nothing")
    change = naught.filter(~pl.col("geometric"))["difference"]
    assert change.unique().to_list() == [0.0]


def test_nothing_is_loaded_for_what_is_finished(found, model, data, monkeypatch):
    before = tables(found)
    monkeypatch.setattr(over_prompts, "load_model", lambda *_: pytest.fail("loaded again"))
    again = ablated(model, data, found.run)
    for name, frame in tables(again).items():
        assert_frame_equal(frame, before[name], check_exact=True)


def test_the_model_is_loaded_once_and_each_condition_is_one_pass_a_batch(model, data, tmp_path, monkeypatch):
    loads, passes = [], []
    load, measure = over_prompts.load_model, module.intervened
    monkeypatch.setattr(over_prompts, "load_model", lambda one: (loads.append(one), load(one))[1])
    monkeypatch.setattr(module, "intervened", lambda *given: (passes.append(len(given[1])), measure(*given))[1])
    ablated(model, data, tmp_path / "run")
    assert len(loads) == 1
    # two batches of three; intact, without block 0, nothing, other position, other blocks, rescaled, emptied
    assert passes == [3] * 2 * 7


def stop_after(monkeypatch, passes):
    own, seen = module.intervened, []

    def stopping(*given):
        seen.append(1)
        if len(seen) > passes:
            raise KeyboardInterrupt
        return own(*given)

    monkeypatch.setattr(module, "intervened", stopping)


def test_one_stopped_half_way_ends_with_the_tables_of_an_undisturbed_one(found, model, data, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 10)
        with pytest.raises(KeyboardInterrupt):
            ablated(model, data, tmp_path / "run")
    (left,) = thalweg.open_run(tmp_path / "run").experiments("ablation")
    assert left.header.status == "interrupted"
    assert 0 < left.table("losses").select("prompt").unique().collect().height < 6
    assert left.table("conditions").collect().height == found.table("conditions").collect().height
    resumed = tables(ablated(model, data, tmp_path / "run"))
    for name, frame in tables(found).items():
        assert_frame_equal(resumed[name], frame, check_exact=True)


def test_raising_the_limit_extends_it_under_the_same_conditions(found, model, data, tmp_path):
    first = ablated(model, data, tmp_path / "run", limit=3)
    assert first.table("losses").select("prompt").unique().collect().height == 3
    extended = tables(ablated(model, data, tmp_path / "run"))
    for name, frame in tables(found).items():
        assert_frame_equal(extended[name], frame, check_exact=True)


def test_if_more_prompts_say_other_blocks_write_it_is_refused(model, data, tmp_path, monkeypatch):
    ablated(model, data, tmp_path / "run", limit=2)
    monkeypatch.setattr(module, "writing_blocks_of", lambda *_: {"compress": Writers((1, 2), 1.0, None)})
    with pytest.raises(UsageError, match=r"are 1-2; .* was begun with 0\. Name one choice with --blocks"):
        ablated(model, data, tmp_path / "run")


def test_batch_size_changes_no_number(found, model, data, tmp_path):
    one = tables(ablated(model, data, tmp_path / "one", batch_size=1))
    for name in PARTS:
        assert_frame_equal(one[name], found.table(name).collect(), rel_tol=1e-5, abs_tol=1e-5)


def test_other_data_and_other_settings_join_and_the_earlier_stay(model, data, tmp_path, monkeypatch):
    lines = tmp_path / "lines.txt"
    lines.write_text("One short line of plain text.\nAnd another line of it there.\n")
    thalweg.survey(model, (data, lines), out=tmp_path / "run", options=replace(QUIET, limit=2))
    first = tables(ablated(model, data, tmp_path / "run", limit=2))
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            ablated(model, lines, tmp_path / "run")
    both = tables(ablated(model, lines, tmp_path / "run"))
    for name, frame in first.items():
        assert_frame_equal(both[name].filter(data="prompts.jsonl"), frame)
        assert both[name].filter(data="lines.txt").height > 0
    ablated(model, lines, tmp_path / "run", blocks="0,2", seeds=0)
    assert len(thalweg.open_run(tmp_path / "run").experiments("ablation")) == 2


def test_without_a_massive_activation_auto_has_nothing_to_ablate(saved, data, tmp_path):
    with pytest.raises(UsageError, match=r"^no massive activation: nothing to ablate on prompts\.jsonl\. Name blocks"):
        ablated(saved / "twin", data, tmp_path / "run", limit=3)
    found = tables(ablated(saved / "twin", data, tmp_path / "run", limit=3, blocks="1-2"))
    assert set(found["verdicts"]["verdict"]) == {"cannot be told"}
    assert set(found["verdicts"]["reason"]) == {"no massive state: no compress phase, no wave"}
    assert found["effects"].filter(metric="loss")["difference"].is_finite().all()
    assert "positive" not in set(found["conditions"]["control"])
    named = found["states"].filter(condition="blocks 1-2")["entropy"].to_numpy()
    assert np.isfinite(named).all()
    assert not np.array_equal(named, found["states"].filter(condition="intact")["entropy"].to_numpy())


WAVED = Plant(4, 6, {3: 2000.0}, (0, 1), earlier=Earlier(0, 2, 0.03))


def waved(path, texts, plant, **options):
    """The tables of a model of eight blocks."""
    planted_llama(plant, blocks=8, width=32).save_pretrained(path / "model")
    byte_tokenizer().save_pretrained(path / "model")
    (path / "prompts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return tables(thalweg.ablate(path / "model", path / "prompts.jsonl", out=path / "run", options=QUIET, **options))


LINES = [f"{row} bottles\n of water {'the ' * row}on the wall" for row in range(4)]


def test_each_segment_is_ablated_at_its_row_and_judged_apart(tmp_path):
    found = waved(tmp_path, LINES, WAVED, seeds=1)
    segments = found["segments"].select("name", "first", "last", "position").rows()
    assert segments == [("wave", 1, 2, 0), ("compress", 5, 6, 0)]
    names = found["conditions"].filter(pl.col("control").is_null())["condition"].to_list()
    assert names == ["intact", "blocks 0", "blocks 4", "blocks 0,4"]
    said = {
        (row["condition"], row["segment"], row["phenomenon"]): row["verdict"]
        for row in found["verdicts"].filter(pl.col("control").is_null()).iter_rows(named=True)
    }
    assert said == {
        ("blocks 0", "wave", "compression"): "removed",
        ("blocks 0", "wave", "sinks"): "nothing to remove",  # heads sink on compress's row alone
        ("blocks 0", "compress", "compression"): "unchanged",
        ("blocks 0", "compress", "sinks"): "unchanged",
        ("blocks 4", "wave", "compression"): "cannot be told",
        ("blocks 4", "wave", "sinks"): "cannot be told",
        ("blocks 4", "compress", "compression"): "removed",
        ("blocks 4", "compress", "sinks"): "removed",
        ("blocks 0,4", "wave", "compression"): "removed",
        ("blocks 0,4", "wave", "sinks"): "nothing to remove",
        ("blocks 0,4", "compress", "compression"): "removed",
        ("blocks 0,4", "compress", "sinks"): "removed",
    }
    assert verdicts(found, control="negative", phenomenon="compression") == {"unchanged"}
    for segment in ("wave", "compress"):
        assert set(found["verdicts"].filter(condition=f"emptied {segment}")["segment"]) == {segment}
        assert verdicts(found, condition=f"emptied {segment}", phenomenon="compression") == {"removed"}


def test_one_segment_alone_can_be_asked_about(tmp_path):
    found = waved(tmp_path, LINES, WAVED, seeds=0, segment=5)
    assert found["segments"]["name"].to_list() == ["compress"]
    assert set(found["verdicts"]["segment"]) == {"compress"}
    names = found["conditions"]["condition"].to_list()
    assert names == ["intact", "blocks 4", "nothing", "rescaled compress", "emptied compress"]
    with pytest.raises(UsageError, match=r"--segment 4 is no segment on prompts\.jsonl: expected one of wave"):
        waved(tmp_path, LINES, WAVED, seeds=0, segment=4)


def test_a_second_massive_row_is_what_keeps_compression(tmp_path):
    texts = [f"wood\n{row} bottles\n of water on {'the ' * row}wall" for row in range(1, 6)]
    found = waved(tmp_path, texts, Plant(4, None, {3: 2000.0}, (0, 1), NEW_LINE), seeds=0)
    row = found["verdicts"].filter(condition="blocks 4", phenomenon="compression").row(0, named=True)
    assert row["verdict"] in ("unchanged", "reduced")
    (taken,) = found["replacements"].filter(condition="blocks 4").iter_rows(named=True)
    # the two rows are equal up to rounding, so that which of them is the segment's differs between processors, and the
    # other one is massive before, too: it replaces nothing
    assert taken["other_states"] == []
    assert taken["still_states"] == []


def test_a_row_that_does_not_compress_leaves_nothing_to_remove(tmp_path):
    found = waved(tmp_path, LINES, Plant(1, 4, {3: 2400.0}, (0, 1), push=Push(1, 60.0)), seeds=0)
    row = found["verdicts"].filter(condition="blocks 1", phenomenon="compression").row(0, named=True)
    assert row["verdict"] == "nothing to remove"
    assert 0 <= row["intact"] < 0.2


def test_an_ablation_of_nothing_that_does_something_is_an_error(model, data, tmp_path, monkeypatch):
    own = module.Changes.under

    def broken(changes, condition):
        return (Remove("mlp", (0,), (0,)),) if condition.name == "nothing" else own(changes, condition)

    monkeypatch.setattr(module.Changes, "under", broken)
    with pytest.raises(ProofError, match="an ablation of nothing changes what is measured"):
        ablated(model, data, tmp_path / "run", limit=2)


def test_prompts_of_one_token_have_no_loss_and_no_interval(model, tmp_path):
    (tmp_path / "lines.txt").write_text("a\nb\n")
    found = ablated(model, tmp_path / "lines.txt", tmp_path / "run", blocks="1", bos="never")
    assert found.table("losses").collect()["loss"].is_nan().all()
    assert found.table("losses").collect()["tokens"].unique().to_list() == [0]
    assert set(found.table("verdicts").collect()["verdict"]) == {"cannot be told"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"blocks": "5"}, "--blocks 5 is out of range; this model has blocks 0 to 3"),
        ({"blocks": [0, 9]}, "--blocks 9 is out of range"),
        ({"blocks": "all"}, "got 'all'"),
        ({"seeds": -1}, "--seeds is how often each random control is drawn"),
    ],
)
def test_bad_input_is_one_clear_line_before_anything_is_loaded(model, data, tmp_path, monkeypatch, options, said):
    monkeypatch.setattr(over_prompts, "load_model", lambda *_: pytest.fail("loaded"))
    with pytest.raises(UsageError) as left:
        thalweg.ablate(model, data, out=tmp_path / "run", options=QUIET, **options)
    assert said in str(left.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not FOLDER, reason="THALWEG_TEST_DATA names no folder with a real model and real data")
def test_a_real_model_without_a_massive_activation_is_measured_and_not_judged(tmp_path):
    model, data = Path(FOLDER) / "models" / "stories260k", Path(FOLDER) / "data" / "gsm8k_train.jsonl"
    with pytest.raises(UsageError, match=r"^no massive activation: nothing to ablate"):
        ablated(model, data, tmp_path / "run", limit=3)
    found = tables(ablated(model, data, tmp_path / "run", limit=3, blocks="0"))
    assert set(found["verdicts"]["reason"]) == {"no massive state: no compress phase, no wave"}
    change = found["effects"].filter(condition="blocks 0", site="depth", metric="entropy_normalized")
    assert change["difference"].item() != 0.0
    assert change["n"].item() == 3
