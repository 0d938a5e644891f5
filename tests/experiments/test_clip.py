"""Clamped below what was planted, the valley fills; clamped above, nothing changes."""

import json
import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from tests import waved
from tests.reference.test_planted import drawn

import thalweg
from thalweg.errors import UsageError
from thalweg.experiments import _over_prompts as over_prompts
from thalweg.experiments._clip import measure as module
from thalweg.experiments._clip.measure import log_grid
from thalweg.reference import Plant, byte_tokenizer, planted_llama

QUIET = thalweg.SurveyOptions(progress=False, shard_rows=3)
PARTS, WHOLES = ("states", "blocks", "losses"), ("segments", "sweeps", "curves")


OWN = ("gamma", "entropy_without_massive")
"""What differs where nothing else does: the reference is measured in the model as it is alone."""


def tables(experiment):
    return {name: experiment.table(name).collect() for name in (*PARTS, *WHOLES)}


def clipped(model, data, out, *, limit=None, **asked):
    own = {name: asked.pop(name) for name in ("batch_size", "bos", "sink_position") if name in asked}
    return thalweg.clip(model, data, out=out, options=replace(QUIET, limit=limit, **own), **{"gamma": "5,50", **asked})


def entropies(frame, gamma):
    return frame.filter(gamma=gamma).sort("prompt", "state")["entropy"].to_numpy()


@pytest.mark.parametrize("seed", range(3))
def test_entropy_falls_with_gamma_until_nothing_is_clipped(tmp_path, seed):
    """A row that is clamped adds to the entropy while it weighs no more than one of the others' directions, and takes
    from it afterwards: with energy m beside others of energy R and entropy H, from m = R / exp(H) on."""
    draw = drawn(seed)
    draw.save(tmp_path / "model")
    draw.save(tmp_path / "twin", twin=True)
    draw.prompts(tmp_path / "prompts.jsonl")
    own = {"sink_position": draw.position, "limit": 3}
    names = tmp_path / "prompts.jsonl", tmp_path / "run"
    planted, largest = max(map(abs, draw.plant.values.values())), list(draw.plant.values)
    twin = thalweg.survey(
        tmp_path / "twin", names[0], out=tmp_path / "bare", options=replace(QUIET, **own)
    ).layers.collect()
    energy = twin.select((pl.col("frobenius_sq") * (-pl.col("entropy")).exp()).sqrt().max()).item()
    grid = (energy, *log_grid(1.5 * energy, planted, 5), 2.0 * planted)
    found = tables(clipped(tmp_path / "model", *names, gamma=grid, **own))
    (sweep,) = found["sweeps"].to_dicts()
    assert sweep["dims"] == sorted(largest)
    assert sweep["peak"] == pytest.approx(planted, rel=1e-5)
    assert 0 < sweep["ordinary"] < 30  # rows of width 32 or 64 and of norm about its root
    first = draw.plant.write_block + 1
    last = 7 if draw.plant.remove_block is None else draw.plant.remove_block
    inside = found["states"].filter(pl.col("state").is_between(first, last))
    steps = np.stack([entropies(inside, gamma) for gamma in grid])
    # the others move a little with gamma, since they read the row, and its energy is at least gamma squared
    assert np.diff(steps, axis=0).max() <= 1e-3
    assert (steps[0] - steps[-1]).min() > 1.0
    untouched = entropies(found["states"], math.inf)
    for name in PARTS:
        whole, intact = (found[name].filter(gamma=gamma).drop(OWN, strict=False) for gamma in (2 * planted, math.inf))
        assert_frame_equal(whole, intact, check_exact=True)
    assert np.array_equal(entropies(found["states"], 2.0 * planted), untouched)
    assert not np.array_equal(entropies(found["states"], grid[-3]), untouched)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("models")
    for name in ("planted", "twin"):
        own = planted_llama(Plant(0, 2, {3: 2000.0, 9: -900.0}, (0, 1)), blocks=4, width=32, twin=name == "twin")
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
    return clipped(model, data, tmp_path_factory.mktemp("runs") / "run")


def test_it_is_read_back_and_its_curves_are_plain_means(found):
    (read,) = thalweg.open_run(found.run).experiments("clip")
    assert read.header.status == "finished"
    assert read.header.settings == {"gammas": [5.0, 50.0], "states": "1-4", "massive_only": False}
    frames = tables(found)
    for name, frame in frames.items():
        assert frame.height > 0
        assert_frame_equal(tables(read)[name], frame)
    assert frames["states"]["gamma"].unique().sort().to_list() == [5.0, 50.0, math.inf]
    assert frames["losses"].height == 3 * 6
    curves = frames["curves"]
    assert set(curves.select("compress_first", "compress_last").iter_rows()) == {(1, 2)}
    unclipped = frames["states"].filter(gamma=math.inf).sort("prompt", "state")
    without = unclipped["entropy_without_massive"].to_numpy().reshape(6, 5)
    for gamma in (5.0, 50.0, math.inf):
        own = frames["states"].filter(gamma=gamma).sort("prompt", "state")["entropy"].to_numpy().reshape(6, 5)
        intact = entropies(frames["states"], math.inf).reshape(6, 5)
        row = curves.filter(gamma=gamma, site="compress", metric="compression").row(0, named=True)
        depth, before = ((1 - one[:, 1:3] / without[:, 1:3]).clip(0).mean(1) for one in (own, intact))
        assert row["clipped"] == pytest.approx(depth.mean(), rel=1e-12)
        assert row["difference"] == pytest.approx((depth - before).mean(), abs=1e-12)
    assert curves.filter(pl.col("gamma").is_infinite(), ~pl.col("geometric"))["difference"].unique().to_list() == [0.0]


def test_the_row_that_is_clamped_is_no_larger_than_gamma(found):
    states = found.table("states").filter(gamma=5.0).collect()
    assert states.filter(pl.col("state") > 0)["sink_norm"].max() <= 5.0 * math.sqrt(32) * (1 + 1e-6)
    own, intact = (found.table("states").filter(gamma=gamma, state=0).collect() for gamma in (5.0, math.inf))
    assert own["entropy"].equals(intact["entropy"])  # what enters the first block is left alone


def test_states_narrow_it_and_massive_only_leaves_the_rest(model, data, tmp_path):
    late = tables(clipped(model, data, tmp_path / "run", states="2", limit=2))
    for state, same in ((1, True), (2, False)):
        own, intact = (late["states"].filter(gamma=gamma, state=state)["sink_norm"] for gamma in (50.0, math.inf))
        assert own.equals(intact) is same
    massive = tables(clipped(model, data, tmp_path / "run", gamma="0.001", massive_only=True, limit=2))
    every = tables(clipped(model, data, tmp_path / "run", gamma="0.001", limit=2))
    norms = [frame["states"].filter(gamma=0.001, state=1)["sink_norm"].to_numpy() for frame in (massive, every)]
    assert (norms[0] > 1.0).all()
    assert (norms[1] < 0.001 * math.sqrt(32) * 1.001).all()
    assert massive["sweeps"]["dims"].to_list() == [[3, 9]]
    assert len(thalweg.open_run(tmp_path / "run").experiments("clip")) == 3


def test_by_default_gammas_go_from_where_compression_is_gone_to_the_peak(model, data, tmp_path, monkeypatch):
    own, limits = module.read_shards, set()
    monkeypatch.setattr(
        module, "read_shards", lambda *given, limit, size: limits.add(limit) or own(*given, limit=limit, size=size)
    )
    auto = tables(clipped(model, data, tmp_path / "run", gamma=None, limit=2))
    (sweep,) = auto["sweeps"].to_dicts()
    gammas, lowest = np.array(sweep["gammas"]), sweep["ordinary"] / 10
    assert gammas[-1] == pytest.approx(1.001 * sweep["peak"])
    steps = np.diff(np.log(gammas))
    np.testing.assert_allclose(steps, steps[0], rtol=1e-4)
    assert gammas[-13] == sweep["ordinary"]
    assert auto["states"]["gamma"].unique().sort().to_list() == [*gammas, math.inf]
    peak, intact = (auto["states"].filter(gamma=gamma).drop(OWN) for gamma in (gammas[-1], math.inf))
    assert_frame_equal(peak, intact, check_exact=True)
    before = compression(auto["states"], math.inf)
    assert before > 0.9
    # judged on the first eight prompts, which are all there are, so the sweep may begin a little off for two of them
    assert compression(auto["states"], gammas[0]) < 0.12 * before or gammas[0] / np.exp(steps[0]) < lowest
    assert gammas[0] >= lowest
    if len(gammas) > 13:
        assert compression(auto["states"], gammas[1]) > 0.08 * before
    assert limits == {8}
    thalweg.clip(model, data, out=tmp_path / "run", options=QUIET)  # more prompts keep the sweep
    (kept,) = thalweg.open_run(tmp_path / "run").experiments("clip")[-1].table("sweeps").collect()["gammas"]
    assert kept.to_list() == gammas.tolist()


@pytest.mark.parametrize(("whole_at", "first"), [(300.0, 17.8), (1e9, 100.0), (1e-9, 10.0)])
def test_a_sweep_is_lowered_to_a_tenth_of_the_compression_or_of_what_is_ordinary(whole_at, first, monkeypatch):
    def judged(_, gamma):
        return {(0, 1): (1 - min(1.0, gamma / whole_at), 1.0)}

    monkeypatch.setattr(module, "_judged", judged)
    grid = module._lowered(object.__new__(module._Clipping), log_grid(100.0, 1e5 * 0.99, 13))
    np.testing.assert_allclose(grid[0], first, rtol=0.01)
    np.testing.assert_allclose(np.diff(np.log(grid)), np.log(990) / 12, rtol=1e-3)
    assert grid[-13:] == log_grid(100.0, 1e5 * 0.99, 13)


def compression(states, gamma):
    """Mean over prompts and the states 1 and 2 of how much lower the entropy is than that of the others alone."""
    intact = states.filter(gamma=math.inf).sort("prompt", "state")
    entropy, others = states.filter(gamma=gamma).sort("prompt", "state")["entropy"], intact["entropy_without_massive"]
    shares = [max(0.0, 1 - one / other) for one, other in zip(entropy, others, strict=True)]
    return np.mean([share for share, state in zip(shares, intact["state"], strict=True) if state in (1, 2)])


def test_the_row_of_each_prompt_is_clamped_where_it_is(tmp_path):
    planted, model = waved.drawn(0)
    positions = waved.prompts(tmp_path / "prompts.jsonl", 0, count=3)
    path = waved.save(tmp_path / "model", model)
    found = tables(clipped(path, tmp_path / "prompts.jsonl", tmp_path / "run", gamma="1"))
    _, compress = planted
    (sweep,) = found["sweeps"].to_dicts()
    assert (sweep["dims"], sweep["peak"]) == (
        sorted(compress.values),
        pytest.approx(max(map(abs, compress.values.values())), rel=0.01),
    )
    survey = thalweg.survey(path, tmp_path / "prompts.jsonl", out=tmp_path / "run", options=QUIET)
    peaks = found["segments"].filter(name="compress").select("peak", "first", "last").row(0, named=True)
    inside = pl.col("state").is_between(peaks["first"], peaks["last"])
    assert set(survey.layers.filter(inside).select("prompt", "row_position").collect().rows()) == set(
        enumerate(positions)
    )
    clamped = found["states"].filter(inside, gamma=1.0)
    assert clamped["sink_norm"].max() <= math.sqrt(waved.WIDTH) * (1 + 1e-6)
    assert found["states"].filter(inside, gamma=math.inf)["sink_norm"].min() > 100
    ordinary = survey.layers.filter(inside).select("rest_norm").collect()["rest_norm"].max()
    assert 0 < sweep["ordinary"] < ordinary


def test_sinks_elsewhere_are_counted_prompt_by_prompt(found, model, data):
    blocks = found.table("blocks").collect()
    assert (blocks["elsewhere_rate"] <= blocks["top_rate"]).all()
    assert (blocks["top_rate"] >= blocks["sink_rate"]).all()
    run = thalweg.survey(model, data, out=found.run, options=QUIET)
    heads = run.heads.filter(pl.col("top_score") >= 0.3, pl.col("top_position") != 0).collect()
    counted = {(prompt, block): 0.0 for prompt in range(6) for block in range(4)}
    for prompt, block in heads.select("prompt", "block").iter_rows():
        counted[prompt, block] += 1 / 4
    measured = blocks.filter(gamma=math.inf).select("prompt", "block", "elsewhere_rate", "mixing_normalized")
    assert {(prompt, block): rate for prompt, block, rate, _ in measured.iter_rows()} == counted
    mixing = run.heads.group_by("prompt", "block").agg(pl.col("mixing_normalized").mean()).sort("prompt", "block")
    np.testing.assert_allclose(measured["mixing_normalized"], mixing.collect()["mixing_normalized"], rtol=1e-5)


def test_where_nothing_is_massive_there_is_nothing_to_clip_by_default(saved, data, tmp_path):
    for asked, said in (
        ({"gamma": None}, r"nothing to clip by default; name gammas, as in --gamma 1:1000:13"),
        ({"gamma": "3", "massive_only": True}, r"nothing to clip; leave out --massive-only"),
    ):
        with pytest.raises(UsageError, match=rf"position 0 has no massive coordinate on prompts\.jsonl: {said}"):
            clipped(saved / "twin", data, tmp_path / "run", limit=3, **asked)
    found = tables(clipped(saved / "twin", data, tmp_path / "run", gamma="0.5", limit=3))
    assert found["curves"]["compress_first"].is_null().all()
    assert set(found["curves"]["site"]) == {"state", "block", "prompt", "depth"}
    assert found["sweeps"]["dims"].to_list() == [[]]


def test_nothing_is_loaded_for_what_is_finished(found, model, data, monkeypatch):
    before = tables(found)
    monkeypatch.setattr(over_prompts, "load_model", lambda *_: pytest.fail("loaded again"))
    again = clipped(model, data, found.run)
    for name, frame in tables(again).items():
        assert_frame_equal(frame, before[name], check_exact=True)


def test_one_stopped_half_way_ends_with_the_tables_of_an_undisturbed_one(found, model, data, tmp_path, monkeypatch):
    own, seen = module.intervened, []

    def stopping(*given):
        seen.append(1)
        if len(seen) > 4:
            raise KeyboardInterrupt
        return own(*given)

    with monkeypatch.context() as patch:
        patch.setattr(module, "intervened", stopping)
        with pytest.raises(KeyboardInterrupt):
            clipped(model, data, tmp_path / "run")
    (left,) = thalweg.open_run(tmp_path / "run").experiments("clip")
    assert left.header.status == "interrupted"
    assert left.table("losses").select("prompt").unique().collect().height == 3
    resumed = tables(clipped(model, data, tmp_path / "run"))
    for name, frame in tables(found).items():
        assert_frame_equal(resumed[name], frame, check_exact=True)


def test_raising_the_limit_extends_it_and_batches_change_no_number(found, model, data, tmp_path):
    clipped(model, data, tmp_path / "run", limit=3, batch_size=1)
    extended = tables(clipped(model, data, tmp_path / "run", batch_size=1))
    for name in PARTS:
        assert_frame_equal(extended[name], found.table(name).collect(), rel_tol=1e-5, abs_tol=1e-5)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"gamma": "0"}, "--gamma is the largest magnitude left, above 0; got 0"),
        ({"gamma": [-1.0]}, "--gamma is the largest magnitude left, above 0; got -1"),
        ({"gamma": "ten"}, "--gamma takes numbers"),
        ({"states": "5"}, "--states 5 is out of range; this model has states 0 to 4"),
    ],
)
def test_bad_input_is_one_clear_line_before_anything_is_loaded(model, data, tmp_path, monkeypatch, asked, said):
    monkeypatch.setattr(over_prompts, "load_model", lambda *_: pytest.fail("loaded"))
    with pytest.raises(UsageError) as left:
        clipped(model, data, tmp_path / "run", **asked)
    assert said in str(left.value)
    assert not (tmp_path / "run").exists()
