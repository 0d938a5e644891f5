"""Heads that depend on the prompt are found, in tables and in a model; what cannot be compared says what to do."""

import json

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from tests.contrasted import DEPENDENT, EVERY_THIRD, LENGTH, MODEL, PROMPTS, among, contrasted_run, depend
from tests.synthetic_run import PLAIN, PLANTED, add_findings

import thalweg
from thalweg.errors import ModelError, RunError, UsageError
from thalweg.experiments._contrast.prompts import head_values
from thalweg.reference import Plant, byte_tokenizer, planted_llama
from thalweg.store import open_run

TABLES = ("rankings", "heads", "prompts")


def tables(found):
    return {name: found.table(name).collect() for name in TABLES}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return contrasted_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def found(run):
    return tables(thalweg.contrast(run.path))


def test_heads_that_sink_on_some_prompts_only_are_found(found):
    sink = found["heads"].filter(metric="sink_score")
    changed = sink.filter("changes")
    assert set(DEPENDENT) <= set(changed.select("block", "head").rows())
    assert changed.height <= len(DEPENDENT) + 1  # of those said to change, 5% may be false
    planted = sink.filter(among(DEPENDENT))
    np.testing.assert_allclose(planted["difference"], 0.8, atol=0.02)
    assert (sink.join(planted, on=["block", "head"], how="anti")["difference"].abs() < 0.02).all()
    mixing = found["heads"].filter(metric="mixing")
    assert set(DEPENDENT) <= set(mixing.filter("changes").select("block", "head").rows())
    assert found["rankings"]["changed"].to_list() == [changed.height]


def test_the_ends_of_the_ranking_are_the_prompts_with_and_without(found):
    ends = {side: found["prompts"].filter(side=side) for side in ("top", "bottom")}
    assert all(row % EVERY_THIRD == 0 for row in ends["top"]["prompt"])
    assert all(row % EVERY_THIRD for row in ends["bottom"]["prompt"])
    assert ends["top"]["score"].is_sorted(descending=True)
    assert ends["bottom"]["score"].is_sorted()
    assert [one["rank"].to_list() for one in ends.values()] == [list(range(6))] * 2  # a tenth of the prompts


def test_every_number_is_that_of_a_loop_over_the_runs_rows(run, found):
    rows = run.heads.select("prompt", "block", "head", "sink_score", "mixing").collect()
    scores = {place: own.sort("prompt")["sink_score"].to_list() for place, own in rows.group_by("block", "head")}
    for block, head in [*DEPENDENT, (0, 0), (5, 3)]:
        others = [own for place, own in scores.items() if place != (block, head)]
        ranking = [sum(one[prompt] for one in others) / len(others) for prompt in range(PROMPTS)]
        order = sorted(range(PROMPTS), key=lambda prompt: -ranking[prompt])
        for metric in ("sink_score", "mixing"):
            own = rows.filter(block=block, head=head).sort("prompt")[metric].to_list()
            top, bottom = (np.mean([own[prompt] for prompt in ends]) for ends in (order[:6], order[-6:]))
            row = found["heads"].filter(metric=metric, block=block, head=head).row(0, named=True)
            assert (row["top"], row["bottom"]) == pytest.approx((top, bottom), abs=1e-6)
            assert row["difference"] == pytest.approx(top - bottom, abs=1e-6)
            assert row["low"] < row["difference"] < row["high"]
    ends = {side: found["prompts"].filter(side=side)["prompt"].to_list() for side in ("top", "bottom")}
    shown = found["heads"].filter(metric="mixing", block=0, head=2).row(0, named=True)
    own = rows.filter(block=0, head=2).sort("prompt")["mixing"].to_list()
    for side, prompts in ends.items():
        assert shown[f"overall_{side}"] == pytest.approx(np.mean([own[prompt] for prompt in prompts]), abs=1e-6)


def test_it_is_read_back_from_the_run_and_leaves_its_tables_alone(run, found):
    before = {name: getattr(run, name).collect() for name in ("layers", "heads", "prompts")}
    again = thalweg.contrast(run.path)
    for name, frame in tables(open_run(run.path).experiments("contrast")[-1]).items():
        assert_frame_equal(frame, found[name])
    assert again.header.status == "finished"
    assert again.header.settings["seed"] == 0
    for name, frame in before.items():
        assert_frame_equal(getattr(open_run(run.path), name).collect(), frame)


def test_settings_stand_side_by_side(tmp_path):
    path = contrasted_run(tmp_path / "run").path
    ten, five = thalweg.contrast(path, top=10), thalweg.contrast(path, top=5, by="mixing", seed=3)
    assert len(open_run(path).experiments("contrast")) == 2
    assert ten.table("rankings").collect()["per_side"].to_list() == [10]
    row = five.table("rankings").collect().row(0, named=True)
    assert (row["by"], row["per_side"], row["prompts"]) == ("mixing", 5, PROMPTS)
    assert set(five.table("heads").collect()["metric"]) == {"mixing", "sink_score"}
    bottom = five.table("prompts").collect().filter(side="bottom")["prompt"]
    assert all(prompt % EVERY_THIRD == 0 for prompt in bottom)  # where heads sink they mix least


def test_only_prompts_of_one_length_are_compared(tmp_path):
    lengths = (20, 31, 20, 12)
    run = contrasted_run(tmp_path / "run", lengths=lengths)
    row = thalweg.contrast(run.path).table("rankings").collect().row(0, named=True)
    assert (row["length"], row["prompts"], row["other_length"]) == (20, PROMPTS // 2, PROMPTS // 2)
    other = thalweg.contrast(run.path, length=31, top=2)
    assert set(other.table("prompts").collect()["tokens"]) == {31}
    row = other.table("rankings").collect().row(0, named=True)
    assert (row["prompts"], row["other_length"], row["reason"]) == (PROMPTS // 4, PROMPTS * 3 // 4, None)
    mixed = thalweg.contrast(run.path, length="any").table("rankings").collect().row(0, named=True)
    assert (mixed["length"], mixed["prompts"], mixed["other_length"]) == (None, PROMPTS, 0)
    assert mixed["reason"] == "prompts of different lengths are compared, and sink scores fall with length"


def test_of_equally_common_lengths_the_longest_is_taken(tmp_path):
    run = contrasted_run(tmp_path / "run", lengths=(12, 31))
    assert thalweg.contrast(run.path).table("rankings").collect()["length"].to_list() == [31]


def test_what_is_undefined_is_dropped_and_counted(tmp_path):
    gap = pl.lit(float("nan"))
    one, head = pl.col("prompt") == 7, (pl.col("block") == 0) & (pl.col("head") == 2)

    def broken(heads):
        scores = pl.when(one | head).then(gap).otherwise("sink_score").alias("sink_score")
        return depend(heads).with_columns(scores)

    found = tables(thalweg.contrast(contrasted_run(tmp_path / "run", change=broken).path))
    row = found["rankings"].row(0, named=True)
    assert (row["prompts"], row["undefined"], row["heads"]) == (PROMPTS - 1, 1, MODEL.blocks * MODEL.heads - 1)
    lost = found["heads"].filter(pl.col("reason").is_not_null())
    assert set(lost.select("block", "head").rows()) == {(0, 2)}
    assert set(lost["reason"]) == {"undefined in more than half of the prompts"}
    assert lost["p"].is_nan().all()
    assert not lost["changes"].any()
    assert 7 not in found["prompts"]["prompt"].to_list()
    kept = found["heads"].filter(pl.col("reason").is_null())
    assert set(DEPENDENT) <= set(kept.filter("changes").select("block", "head").rows())


def test_every_model_and_data_set_is_contrasted_by_itself(tmp_path):
    run = contrasted_run(tmp_path / "run", models=(MODEL, PLAIN), data=("words", "sums"), prompts=40)
    found = tables(thalweg.contrast(run.path))
    assert found["rankings"].height == 4
    assert set(found["rankings"]["prompts"]) == {40}
    alone = tables(thalweg.contrast(contrasted_run(tmp_path / "one", models=(PLAIN,), data=("sums",), prompts=40).path))
    for name, frame in alone.items():
        assert_frame_equal(found[name].filter(model=PLAIN.name, data="sums"), frame)


def test_a_data_set_without_enough_prompts_is_named_and_the_rest_compared(tmp_path):
    lengths = {"words": (20,), "sums": tuple(range(11, 51))}
    run = contrasted_run(tmp_path / "run", data=("words", "sums"), prompts=40, lengths=lengths)
    found = tables(thalweg.contrast(run.path, top=4))
    compared, left_out = found["rankings"].rows(named=True)
    assert (compared["data"], compared["prompts"], compared["reason"]) == ("words", 40, None)
    assert (left_out["data"], left_out["prompts"], left_out["other_length"]) == ("sums", 0, 39)
    assert left_out["reason"].startswith("expected at least 8 prompts of 50 tokens, 4 a side; lab/inert on sums has 1.")
    assert set(found["heads"]["data"]) == {"words"}


ADVICE = "; cut to a shorter --max-length, more prompts of a survey have one length"


def test_few_prompts_say_what_they_cannot_show(tmp_path):
    run = contrasted_run(tmp_path / "run", prompts=20)
    row = thalweg.contrast(run.path, top=1).table("rankings").collect().row(0, named=True)
    assert row["exact"]
    assert row["permutations"] == 20 * 19
    assert row["least_p"] == pytest.approx(2 / 380)
    little = "one prompt a side shows what differs and proves little: ask for a larger --top"
    least = f"p cannot fall below 0.0053 with 20 prompts, 1 a side: a few heads alone cannot be found{ADVICE}"
    assert row["reason"] == f"{little}; {least}"
    row = thalweg.contrast(contrasted_run(tmp_path / "six", prompts=6).path, top=1).table("rankings").collect()
    least = f"p cannot fall below 0.067 with 6 prompts, 1 a side: no head can be found{ADVICE}"
    assert row["reason"].to_list() == [f"{little}; {least}"]


def test_matrices_hold_what_the_tables_hold(run):
    key = {"model": MODEL.name, "revision": "main", "data": "words"}
    prompts = pl.Series("prompt", [3, 4, 58])
    found = head_values(run, key, prompts, ["sink_score", "dormant"])
    rows = run.heads.collect()
    for row, prompt in enumerate(prompts):
        for at, place in enumerate(zip(found.blocks, found.heads, strict=True)):
            own = rows.filter(prompt=prompt, block=place[0], head=place[1]).row(0, named=True)
            assert found.values["sink_score"][row, at] == np.float32(own["sink_score"])
            assert found.values["dormant"][row, at] == own["dormant"]


def test_a_model_that_cannot_be_loaded_is_not_needed(run, monkeypatch):
    monkeypatch.setattr("thalweg.experiments._over_prompts.load_model", lambda *_: pytest.fail("loaded"))
    monkeypatch.setattr("thalweg.experiments._prepare.identify_model", lambda *_: pytest.fail("looked for"))
    assert thalweg.contrast(run.path, top=4).header.status == "finished"


# a model


@pytest.fixture(scope="module")
def trigger(tmp_path_factory):
    """A model whose heads sink where the first token is #, and prompts of which every third begins with it."""
    folder = tmp_path_factory.mktemp("model")
    [token] = byte_tokenizer()("#", add_special_tokens=False).input_ids
    planted_llama(Plant(1, 3, {5: 1500.0}, (0, 2), token), blocks=5, width=32).save_pretrained(folder / "tiny")
    byte_tokenizer().save_pretrained(folder / "tiny")
    letters = "abcdefghijklmnopqrstuvwxyz "
    random = np.random.default_rng(0)
    texts = ["".join(random.choice(list(letters), 40 if row % 7 else 20)) for row in range(60)]
    texts = [f"#{text}" if row % EVERY_THIRD == 0 else f"{text}." for row, text in enumerate(texts)]
    data = folder / "prompts.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder / "tiny", data


QUIET = thalweg.SurveyOptions(progress=False, bos="never")


def test_heads_planted_to_sink_on_a_token_are_found_in_a_model(trigger, tmp_path):
    model, data = trigger
    found = tables(thalweg.contrast(model, data, length=32, top=10, out=tmp_path / "run", options=QUIET))
    row = found["rankings"].row(0, named=True)
    assert (row["length"], row["prompts"], row["other_length"]) == (32, 60 - 9, 9)  # every seventh is shorter
    ends = {side: found["prompts"].filter(side=side)["prompt"].to_list() for side in ("top", "bottom")}
    assert all(prompt % EVERY_THIRD == 0 for prompt in ends["top"])
    assert all(prompt % EVERY_THIRD for prompt in ends["bottom"])
    planted = {(block, head) for block in (2, 3) for head in (0, 2)}
    sink = found["heads"].filter(metric="sink_score").sort(pl.col("difference").abs(), descending=True)
    assert set(sink.head(len(planted)).select("block", "head").rows()) == planted
    assert sink.head(len(planted))["changes"].all()
    assert (sink.head(len(planted))["difference"] > 0.5).all()
    assert (sink.tail(-len(planted))["difference"].abs() < 0.1).all()
    mixing = found["heads"].filter(metric="mixing").filter("changes").select("block", "head", "difference")
    assert planted <= {(block, head) for block, head, difference in mixing.rows() if difference < -1}
    assert open_run(tmp_path / "run").header.max_length == 32


def test_a_model_is_surveyed_once(trigger, tmp_path, monkeypatch):
    model, data = trigger
    first = tables(thalweg.contrast(model, data, out=tmp_path / "run", length=24, options=QUIET))
    monkeypatch.setattr("thalweg.experiments._over_prompts.load_model", lambda *_: pytest.fail("loaded again"))
    again = tables(thalweg.contrast(model, data, out=tmp_path / "run", length=24, options=QUIET))
    from_run = tables(thalweg.contrast(tmp_path / "run"))
    for name, frame in first.items():
        assert_frame_equal(again[name], frame)
        assert_frame_equal(from_run[name], frame)


def test_a_length_that_a_model_cannot_read_is_refused_before_anything_is_measured(trigger, tmp_path):
    with pytest.raises(UsageError, match=r"--length 4096: .*tiny reads 2,048 tokens at most"):
        thalweg.contrast(*trigger, length=4096, out=tmp_path / "run", options=QUIET)
    assert not (tmp_path / "run").exists()


def test_prompts_shorter_than_the_length_say_which_lengths_there_are(trigger, tmp_path):
    with pytest.raises(UsageError, match=r"at least 10 prompts of 50 tokens.* has 0\. .* 41 \(51 prompts\), 21 \(9 pr"):
        thalweg.contrast(*trigger, length=50, out=tmp_path / "run", options=QUIET)


# bad input


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"top": 0}, "--top is a number of prompts a side, 1 or more; got 0"),
        ({"top": -3}, "1 or more; got -3"),
        (
            {"top": 31},
            "expected at least 62 prompts of 20 tokens, 31 a side; lab/inert on words has 60. .* --top 30 at",
        ),
        ({"fdr": 0.0}, "--fdr is a share .* got 0"),
        ({"fdr": 1.0}, "got 1"),
        ({"fdr": float("nan")}, "got nan"),
        ({"by": "sinkscore"}, "--by sinkscore is no metric of heads .*: sink_score, top_score, mixing"),
        ({"by": "entropy"}, "--by entropy is no metric of heads"),
        ({"by": "top_position"}, "--by top_position is no metric"),
        ({"seed": -1}, "--seed counts from 0; got -1"),
        ({"length": 0}, "--length is a number of tokens, 2 or more, or any; got 0"),
        ({"length": "long"}, "or any; got long"),
        ({"length": 21}, r"at least 10 prompts of 21 tokens.* 20 \(60 prompts\)\. Ask for --length 20"),
        ({"data": "words"}, "--data: a run is contrasted as it was measured"),
        ({"out": "there"}, "--out: a run is"),
        ({"options": thalweg.SurveyOptions(limit=3, max_length=9)}, "--limit, --max-length: a run is"),
    ],
)
def test_an_option_that_makes_no_sense_is_one_line(run, asked, said):
    with pytest.raises(UsageError, match=said) as refused:
        thalweg.contrast(run.path, **asked)
    assert "\n" not in str(refused.value)


def test_lengths_of_their_own_say_how_to_survey_again(tmp_path):
    run = contrasted_run(tmp_path / "run", lengths=tuple(range(11, 51)), prompts=40, change=lambda heads: heads)
    with pytest.raises(UsageError, match=r"has 1\. .* Survey again with --max-length 31, which cuts at least half"):
        thalweg.contrast(run.path)
    assert open_run(run.path).experiments("contrast") == []


def test_what_is_neither_run_nor_model_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"is neither: it has no run\.json and no config\.json"):
        thalweg.contrast(tmp_path)
    with pytest.raises(ModelError, match="nowhere"):
        thalweg.contrast(tmp_path / "nowhere")


@pytest.mark.parametrize("status", ["started", "interrupted", "failed"])
def test_an_unfinished_run_says_how_to_finish_it(tmp_path, status):
    run = contrasted_run(tmp_path / "run", prompts=20, status=status)
    with pytest.raises(RunError, match=f"its status is {status}. The same `thalweg survey` command with `--out"):
        thalweg.contrast(run.path)


def test_a_run_without_head_scores_says_which_verb_makes_them(tmp_path):
    run = contrasted_run(tmp_path / "run", prompts=0)
    with add_findings(run.path, run.header, "clip", {}):
        pass
    with pytest.raises(RunError, match=r"holds no scores of heads\. A `thalweg survey` command with `--out"):
        thalweg.contrast(run.path)


def test_a_model_without_attention_heads_has_nothing_to_compare(tmp_path):
    run = contrasted_run(tmp_path / "run", prompts=20, change=lambda heads: heads.clear())
    with pytest.raises(UsageError, match="0 heads have a sink_score: there is no other head to rank by"):
        thalweg.contrast(run.path)


@pytest.mark.parametrize("table", ["heads", "prompts"])
def test_a_run_that_lost_a_file_is_damaged(tmp_path, table):
    run = contrasted_run(tmp_path / "run")
    next(run.path.glob(f"survey/*/*/000000020-*.{table}.parquet")).unlink()
    with pytest.raises(RunError, match=rf"{table}.parquet is missing. Run the same command again"):
        thalweg.contrast(run.path)


def test_a_run_that_lost_a_shard_is_damaged(tmp_path):
    run = contrasted_run(tmp_path / "run")
    for file in run.path.glob("survey/*/*/000000020-*"):
        file.unlink()
    with pytest.raises(RunError, match="holds 40 of 60 prompts: records are missing"):
        thalweg.contrast(run.path)


@pytest.mark.parametrize("table", ["heads", "prompts"])
def test_a_file_that_cannot_be_read_is_damaged(tmp_path, table):
    run = contrasted_run(tmp_path / "run")
    file = next(run.path.glob(f"survey/*/*/*.{table}.parquet"))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(RunError, match=f"{table}.parquet is damaged: it does not hold what was written") as refused:
        thalweg.contrast(run.path)
    assert "\n" not in str(refused.value)


def test_a_planted_run_of_the_survey_itself_is_contrasted(tmp_path):
    run = contrasted_run(tmp_path / "run", models=(PLANTED,), lengths=(LENGTH,), change=lambda heads: heads)
    found = thalweg.contrast(run.path).table("heads").collect().filter(metric="sink_score")
    assert found["changes"].sum() <= 1  # its sinks are the same on every prompt
    assert found.filter(pl.col("overall_top") > 0.9).height == 2 * 6


def test_ctrl_c_leaves_no_half_tables(tmp_path, monkeypatch):
    run = contrasted_run(tmp_path / "run")

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("thalweg.experiments._contrast.measure.contrast", stopped)
    with pytest.raises(KeyboardInterrupt):
        thalweg.contrast(run.path)
    (left,) = open_run(run.path).experiments("contrast")
    assert left.header.status == "interrupted"
    assert all(frame.height == 0 for frame in tables(left).values())
