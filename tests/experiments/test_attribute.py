"""What was planted is what is attributed; sums are exact for every family; a stopped run goes on to equal tables."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from tests import waved
from tests.families import BLOCKS as TINY_BLOCKS
from tests.families import VOCABULARY, tiny
from tests.reference.test_planted import BLOCKS, drawn

import thalweg
from thalweg.capture import subject_of
from thalweg.capture._proof import proof_tokens
from thalweg.errors import DataError, ModelError, OverflowInFloat16, ProofError, RunError, UsageError
from thalweg.experiments import attributed as attributed_model
from thalweg.experiments import writing_blocks_of
from thalweg.experiments._attribute.measure import segment_frames
from thalweg.experiments._planned import Plan, Target
from thalweg.experiments._prepare import prepare
from thalweg.prompts import Prompt
from thalweg.reference import Plant, byte_tokenizer, planted_llama

QUIET = thalweg.SurveyOptions(progress=False, shard_rows=4)
PARTS, WHOLES = ("states", "contributions", "dimensions"), ("segments", "attribution", "writers")


def tables(experiment):
    return {name: experiment.table(name).collect() for name in (*PARTS, *WHOLES)}


def attributed(tmp_path, draw, *, twin=False):
    draw.save(tmp_path / "model", twin=twin)
    draw.prompts(tmp_path / "prompts.jsonl")
    options = replace(QUIET, sink_position=draw.position)
    return thalweg.attribute(tmp_path / "model", tmp_path / "prompts.jsonl", out=tmp_path / "run", options=options)


@pytest.mark.parametrize("seed", range(8))
def test_exactly_the_planted_block_and_its_dimensions_write_the_massive_row(tmp_path, seed):
    draw = drawn(seed)
    found = tables(attributed(tmp_path, draw))
    row = found["writers"].row(0, named=True)
    assert row["writing_blocks"] == [draw.plant.write_block]
    assert row["writing_share"] > 0.99
    assert row["writing_agreement"] == 1.0
    assert (row["segment"], row["massive_prompts"], row["reason"]) == ("compress", 5, None)
    last = BLOCKS if draw.plant.remove_block is None else draw.plant.remove_block
    assert (row["first"], row["last"]) == (draw.plant.write_block + 1, last)
    assert found["states"]["position"].unique().to_list() == [draw.position]
    planted = {"block": draw.plant.write_block, "part": "mlp"}
    each = found["contributions"].filter(**planted)
    assert each["share"].min() > 0.98  # other blocks add a little until the row is longest
    assert each["share"].max() < 1.01
    assert each["before"].all()
    wrote = found["attribution"].filter(metric="along", writes=True)
    assert wrote.select("block", "part").rows() == [(draw.plant.write_block, "mlp")]
    assert set(wrote["dims"][0]) == set(draw.plant.values)
    values = found["dimensions"].filter(**planted, rank=0)
    largest = max(draw.plant.values, key=lambda dim: abs(draw.plant.values[dim]))
    assert set(values["dim"]) == {largest}
    np.testing.assert_allclose(values["value"], draw.plant.values[largest], rtol=1e-5)
    if draw.plant.remove_block is not None:
        gone = found["contributions"].filter(block=draw.plant.remove_block, part="mlp")
        assert gone["share"].max() < -0.98
        assert not gone["before"].any()
        assert (row["erasing_parts"], row["erasing_agreement"]) == ([f"mlp {draw.plant.remove_block}"], 1.0)
    else:
        assert not row["erased_share"] >= 0.05


@pytest.mark.parametrize("seed", range(3))
def test_exactly_the_planted_parts_write_and_erase_the_row_of_each_segment(tmp_path, seed):
    planted, model = waved.drawn(seed)
    positions = waved.prompts(tmp_path / "prompts.jsonl", seed)
    path = waved.save(tmp_path / "model", model)
    found = tables(thalweg.attribute(path, tmp_path / "prompts.jsonl", out=tmp_path / "run", options=QUIET))
    assert found["writers"]["segment"].to_list() == ["wave", "compress"]
    for row, segment in zip(found["writers"].iter_rows(named=True), planted, strict=True):
        assert row["writing_blocks"] == list(segment.writers)
        assert max(segment.writers) < row["reference_state"] <= min(segment.erasers)
        assert row["writing_share"] == pytest.approx(1.0, abs=0.02)
        assert row["erasing_parts"] == [f"mlp {block}" for block in segment.erasers]
        assert row["erasing_share"] == pytest.approx(1.0, abs=0.05)
        assert row["writing_agreement"] == row["erasing_agreement"] == 1.0
        own = {"segment": row["segment"], "part": "mlp"}
        for block, share in segment.writers.items() | {(block, -share) for block, share in segment.erasers.items()}:
            shares = found["contributions"].filter(**own, block=block)["share"]
            assert shares.to_list() == pytest.approx([share] * len(positions), abs=0.06)
        states = found["states"].filter(segment=row["segment"])
        assert states.group_by("prompt").agg(pl.col("position").unique()).sort("prompt")["position"].to_list() == [
            [position] for position in positions
        ]
        assert states["sum_error"].max() < 1e-6
        dims = found["segments"].filter(name=row["segment"])["dims"][0]
        assert dims.to_list() == sorted(segment.values)


def test_a_segment_that_is_named_is_attributed_alone(tmp_path):
    planted, model = waved.drawn(1)
    waved.prompts(tmp_path / "prompts.jsonl", 1, count=2)
    path, data = waved.save(tmp_path / "model", model), tmp_path / "prompts.jsonl"
    state = max(planted[0].writers) + 1
    found = tables(thalweg.attribute(path, data, segment=state, out=tmp_path / "run", options=QUIET))
    for name in ("writers", "attribution", *PARTS):
        assert found[name]["segment"].unique().to_list() == ["wave"]
    assert found["segments"]["name"].to_list() == ["wave", "compress"]
    assert found["writers"]["erasing_parts"][0].to_list() == [f"mlp {block}" for block in planted[0].erasers]
    with pytest.raises(UsageError, match=r"--segment 0 is no segment on prompts\.jsonl: expected one of wave"):
        thalweg.attribute(path, data, segment=0, out=tmp_path / "run", options=QUIET)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_writes_where_nothing_was_planted(tmp_path, seed):
    found = attributed(tmp_path, drawn(seed), twin=True)
    row = found.table("writers").collect().row(0, named=True)
    assert (row["writing_blocks"], row["reason"]) == ([], "no massive activation")
    assert row["segment"] == "none"
    assert not found.table("attribution").collect()["writes"].any()


def prompt(length, row):
    tokens = torch.randint(2, VOCABULARY, (length,), generator=torch.Generator().manual_seed(row)).tolist()
    return Prompt(row, tuple(tokens), "", "", truncated=False)


PROMPTS = [prompt(length, row) for row, length in enumerate((9, 2, 30, 12))]


def naive(states, added, sink, reference):
    """Shares of one prompt, part by part, in float64."""
    size = np.linalg.norm(states[reference][sink])
    direction = states[reference][sink] / size
    return [np.dot(part, direction) / size for part in [states[0][sink], *added]]


@torch.no_grad()
def recorded(model, tokens, sink):
    """States and what each block adds, from Hugging Face's own states and hooks of the test's own, one prompt alone."""
    subject = subject_of(model)
    names = {
        "gpt2": ("attn", "mlp"),
        "gpt_neox": ("attention", "mlp"),
        "bloom": ("self_attention.dense", "mlp.dense_4h_to_h"),
    }
    post = ("post_attention_layernorm", "post_feedforward_layernorm")
    kind = model.config.model_type
    own = names.get(kind, post if kind in ("gemma2", "olmo2") else ("self_attn", "mlp"))
    factor = model.config.residual_multiplier if kind == "granite" else 1.0
    states, added, handles = [], [], []

    def keep(into):
        def hook(_, __, output):
            tensor = output[0] if isinstance(output, tuple) else output
            into.append(tensor.reshape(len(tokens), -1).double().numpy().copy())

        return hook

    for block in subject.parts.blocks:
        for name in own:
            handles.append(block.module.get_submodule(name).register_forward_hook(keep(added)))
        handles.append(block.module.register_forward_hook(keep(states)))
    output = subject.parts.body(input_ids=torch.tensor([tokens]), use_cache=False, output_hidden_states=True)
    for handle in handles:
        handle.remove()
    states = [output.hidden_states[0][0].double().numpy(), *states]
    return states, [factor * one[sink] for one in added]


def target(name, **changes):
    """A segment of a tiny model, as a plan has it."""
    plain = {"first": 1, "last": 2, "peak": 2, "until": 2, "reference_state": 2, "position": 0, "sink_position": None}
    return Target(name, **{**plain, **changes}, dims=(), largest=math.nan, ordinary=math.nan)


@pytest.mark.parametrize("sink", [None, 4])
@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma2", "olmo2", "granite", "gpt_oss"])
def test_norms_after_attention_are_those_of_a_naive_recomputation(family, sink):
    model = tiny(family)
    plan = Plan((target("at 2", sink_position=sink),))
    found = segment_frames(subject_of(model), plan, PROMPTS, ranks=4)
    for one, frames in zip(PROMPTS, found, strict=True):
        states, added = recorded(model, one.tokens, slice(None))
        place = int(np.linalg.norm(states[2], axis=1).argmax()) if sink is None else sink
        measured = frames["states"].sort("state").select("sink_norm_after_attention", "rest_norm_after_attention")
        assert measured.row(TINY_BLOCKS) == (pytest.approx(math.nan, nan_ok=True),) * 2
        for block, row in enumerate(measured.rows()[:TINY_BLOCKS]):
            norms = np.linalg.norm(states[block] + added[2 * block], axis=1)
            expected = math.nan, math.nan
            if family != "gpt_neox" and place < len(one):  # in whose blocks nothing lies between the two
                rest = np.delete(norms, place)
                expected = norms[place], rest.mean() if len(rest) else math.nan
            assert row == pytest.approx(expected, rel=1e-5, nan_ok=True)


@pytest.mark.parametrize("sink", [None, 4])
@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma2", "olmo2", "granite", "mixtral", "gpt_oss", "bloom"])
def test_shares_in_a_mixed_batch_are_those_of_a_naive_recomputation(family, sink):
    model = tiny(family)
    if family not in ("bloom", "mixtral", "gpt_oss"):  # these run in no more than float32
        model = model.double()
    plan = Plan(tuple(target(f"at {peak}", peak=peak, reference_state=peak, sink_position=sink) for peak in (1, 2)))
    found = segment_frames(subject_of(model), plan, PROMPTS, ranks=4)
    pairs = [(one, own) for one in PROMPTS for own in plan.targets]
    for (one, own), frames in zip(pairs, found, strict=True):
        shares = frames["contributions"]["share"].to_numpy()
        if sink is not None and sink >= len(one):
            assert np.isnan(shares).all()
            assert set(frames["contributions"]["reason"]) == {"the row is missing or not finite"}
            assert frames["states"]["position"].is_null().all()
            continue
        states, _ = recorded(model, one.tokens, 0)
        norms = [np.linalg.norm(state, axis=1) for state in states]
        row = int(np.argmax(norms[own.peak])) if sink is None else sink
        _, added = recorded(model, one.tokens, row)
        reference = own.reference_state
        # Attention alone and in a batch rounds differently in float32, and the difference passes through every block;
        # of a float64 model, too, eager attention takes its softmax in float32.
        expected = naive(states, added, row, reference)
        np.testing.assert_allclose(shares, expected, atol=5e-7 if model.dtype == torch.float64 else 2e-5)
        assert set(frames["states"]["position"]) == {row}
        assert set(frames["states"]["segment"]) == {own.name}
        assert shares[: 1 + 2 * reference].sum() == pytest.approx(1.0, abs=1e-6)
        assert frames["contributions"]["before"].sum() == 1 + 2 * reference
        ratios = [state[row] / np.delete(state, row).mean() for state in norms]
        np.testing.assert_allclose(frames["states"]["norm_ratio"], ratios, rtol=1e-5)
        # each of two sums a block is rounded once
        assert frames["states"]["sum_error"].max() < 2 * TINY_BLOCKS * torch.finfo(model.dtype).eps / 2
        assert frames["contributions"].height == 1 + 2 * TINY_BLOCKS


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "planted-small"
    planted_llama(Plant(0, 2, {3: 2000.0}, (0,)), blocks=4, width=32).save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    return str(path)


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "prompts.jsonl"
    lines = [{"text": f"{row} bottles of water " * (1 + row % 5)} for row in range(11)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_it_is_read_back_from_the_run(model, data, tmp_path):
    found = thalweg.attribute(model, data, out=tmp_path / "run", options=QUIET)
    run = thalweg.open_run(tmp_path / "run")
    (read,) = run.experiments("attribution")
    assert read.header.status == "finished"
    assert read.header.settings == {"threshold": 0.9, "dimensions": 4}
    for name, frame in tables(found).items():
        assert frame.height > 0
        assert_frame_equal(tables(read)[name], frame)
    ((name, blocks),) = writing_blocks_of(read, model, "local", "prompts.jsonl").items()
    assert (name, blocks.blocks, blocks.reason) == ("compress", (0,), None)
    assert blocks.share > 0.99
    with pytest.raises(RunError, match=r"no attribution of other on prompts\.jsonl: run `thalweg attribute`"):
        writing_blocks_of(read, "other", "local", "prompts.jsonl")


def test_it_joins_a_survey_and_sees_the_same_rows(model, data, tmp_path):
    run = thalweg.survey(model, data, out=tmp_path / "run", options=QUIET)
    found = thalweg.attribute(model, data, out=tmp_path / "run", options=QUIET)
    names = ("sink_norm", "rest_norm", "norm_ratio", "row_ratio")
    surveyed = run.layers.select("prompt", "state", *names).collect()
    # the survey streams attention, the attribution leaves it to the model: rounding of float32 between them
    assert_frame_equal(found.table("states").select("prompt", "state", *names).collect(), surveyed, rel_tol=1e-4)
    surveyed = run.segments.select("name", "first", "last", "peak", "position", "tokens").collect()
    planned = found.table("segments").collect().select(surveyed.columns)
    assert planned.equals(surveyed.cast(dict(planned.schema)))


def test_nothing_is_loaded_for_what_is_finished(model, data, tmp_path, monkeypatch):
    before = tables(thalweg.attribute(model, data, out=tmp_path / "run", options=QUIET))
    monkeypatch.setattr("thalweg.experiments._over_prompts.load_model", lambda *_: pytest.fail("loaded again"))
    for name, frame in tables(thalweg.attribute(model, data, out=tmp_path / "run", options=QUIET)).items():
        assert_frame_equal(frame, before[name])


def test_raising_the_limit_extends_it_and_renews_the_averages(model, data, tmp_path):
    thalweg.attribute(model, data, out=tmp_path / "run", options=replace(QUIET, limit=4))
    extended = tables(thalweg.attribute(model, data, out=tmp_path / "run", options=QUIET))
    whole = tables(thalweg.attribute(model, data, out=tmp_path / "whole", options=QUIET))
    for name, frame in extended.items():
        assert_frame_equal(frame, whole[name])
    assert extended["writers"]["prompts"].to_list() == [11]


def test_other_data_join_and_the_earlier_stay(model, data, tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text("One short line of plain text.\nAnd another one, somewhat longer.\n")
    thalweg.survey(model, (data, lines), out=tmp_path / "run", options=QUIET)
    first = tables(thalweg.attribute(model, data, out=tmp_path / "run", options=QUIET))
    both = tables(thalweg.attribute(model, lines, out=tmp_path / "run", options=QUIET))
    for name, frame in first.items():
        assert_frame_equal(both[name].filter(data="prompts.jsonl"), frame)
        assert both[name].filter(data="lines.txt").height > 0


def test_batch_size_changes_no_number(model, data, tmp_path):
    one = tables(thalweg.attribute(model, data, out=tmp_path / "one", options=replace(QUIET, batch_size=1)))
    many = tables(thalweg.attribute(model, data, out=tmp_path / "many", options=replace(QUIET, shard_rows=64)))
    for name in ("states", "contributions"):
        numbers = one[name].drop("sum_error", strict=False)  # the error is rounding itself
        assert_frame_equal(numbers, many[name].drop("sum_error", strict=False), rel_tol=1e-4, abs_tol=1e-5)


SLOWED = """
import time
import thalweg.experiments._attribute.measure as attribute
own = attribute.segment_frames
attribute.segment_frames = lambda *given, **options: (time.sleep(0.2), own(*given, **options))[1]
from thalweg.cli import main
main()
"""


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_one_stopped_half_way_ends_with_the_tables_of_an_undisturbed_one(model, tmp_path, stop):
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps({"text": f"{row} bottles, " * (1 + row % 3)}) + "\n" for row in range(200)))
    command = ["attribute", model, "--data", str(data), "--out", str(tmp_path / "run")]
    slowed = subprocess.Popen(
        [sys.executable, "-c", SLOWED, *command], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=os.environ
    )
    deadline = time.monotonic() + 90
    while not list((tmp_path / "run" / "attribution").glob("*/*/*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
        assert slowed.poll() is None, slowed.stderr.read().decode()
    slowed.send_signal(stop)
    message = slowed.communicate(timeout=60)[1].decode()
    if stop == signal.SIGINT:
        assert slowed.returncode == 130
        assert message.startswith("thalweg: interrupted")
        (left,) = thalweg.open_run(tmp_path / "run").experiments("attribution")
        assert left.header.status == "interrupted"
        assert 0 < left.table("contributions").select("prompt").unique().collect().height < 200
    options = thalweg.SurveyOptions(progress=False)
    resumed = tables(thalweg.attribute(model, data, out=tmp_path / "run", options=options))
    whole = tables(thalweg.attribute(model, data, out=tmp_path / "whole", options=options))
    for name, frame in resumed.items():
        assert_frame_equal(frame, whole[name], check_exact=True)


def test_a_row_that_is_massive_from_the_embedding_on_is_nobodys_work(data, tmp_path):
    path = tmp_path / "model"
    large = planted_llama(Plant(0, 2, {3: 2000.0}, (0,)), blocks=4, width=32, twin=True)
    with torch.no_grad():
        large.model.embed_tokens.weight[256, 5:] *= 2000.0
    large.save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    found = thalweg.attribute(path, data, out=tmp_path / "run", options=QUIET)
    row = found.table("writers").collect().row(0, named=True)
    assert row["segment"] == "compress"
    assert row["writing_blocks"] == []
    assert "below 90%; the embedding writes 100%, attention" in row["reason"]


def test_a_massive_row_at_another_position_is_named(model, data, tmp_path):
    options = replace(QUIET, sink_position=3)
    found = thalweg.attribute(model, data, out=tmp_path / "run", options=options)
    row = found.table("writers").collect().row(0, named=True)
    assert row["reason"].endswith("position 3, but at position 0 most often; leave out --sink-position")
    assert row["writing_blocks"] == []


def test_prompts_that_do_not_reach_the_position_asked_for_say_so(model, tmp_path):
    (tmp_path / "lines.txt").write_text("a\nfour words of text\n")
    options = replace(QUIET, bos="never", sink_position=1)
    found = thalweg.attribute(model, tmp_path / "lines.txt", out=tmp_path / "run", options=options)
    parts = found.table("contributions").collect()
    lost = parts.filter(pl.col("reason").is_not_null())
    assert set(lost["prompt"]) == {0}
    assert set(lost["reason"]) == {"the row is missing or not finite"}
    assert lost["share"].is_nan().all()
    assert parts.filter(prompt=1)["share"].is_finite().all()
    assert found.header.settings == {"threshold": 0.9, "dimensions": 4, "sink_position": 1}


def test_states_that_are_not_finite_give_gaps_with_a_reason(tmp_path):
    path = tmp_path / "model"
    broken, odd = planted_llama(Plant(0, 2, {3: 2000.0}, (0,)), blocks=4, width=32), ord("Z") - ord("!")
    assert byte_tokenizer().decode([odd]) == "Z"
    with torch.no_grad():
        broken.model.embed_tokens.weight[odd] = torch.nan
    assert odd not in proof_tokens(subject_of(broken))  # a model that is broken whatever it reads is refused
    broken.save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    data = tmp_path / "lines.txt"
    data.write_text("Zebras walk in lines\nFour Zebras walk\nHorses walk in lines\n")
    found = tables(thalweg.attribute(path, data, out=tmp_path / "run", options=replace(QUIET, bos="never")))
    reasons = found["contributions"].select("prompt", "reason").unique().sort("prompt")["reason"].to_list()
    lost = "the row is missing or not finite"
    assert reasons == [lost, lost, None]  # a masked NaN times zero is NaN: it reaches the rows before it, too
    shares = found["contributions"].group_by("prompt").agg(pl.col("share").is_nan().all()).sort("prompt")["share"]
    assert shares.to_list() == [True, True, False]
    assert found["dimensions"].filter(prompt=0).height == 0
    assert found["states"].filter(pl.col("prompt") < 2)["norm_ratio"].is_nan().all()
    assert found["attribution"]["n"].unique().to_list() == [1]


def test_float16_stops_at_the_first_infinity(data, tmp_path):
    path = tmp_path / "model"
    planted_llama(Plant(0, 2, {3: 200_000.0}, (0,)), blocks=4, width=32).save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    with pytest.raises((OverflowInFloat16, ProofError), match="bfloat16 or float32"):
        thalweg.attribute(path, data, out=tmp_path / "run", options=replace(QUIET, dtype="float16"))
    found = thalweg.attribute(path, data, out=tmp_path / "other", options=replace(QUIET, dtype="bfloat16"))
    assert writing_blocks_of(found, str(path), "local", "prompts.jsonl")["compress"].blocks == (0,)


def test_a_model_that_does_more_than_its_summands_is_refused(model, data, tmp_path, monkeypatch):
    from transformers.models.llama import modeling_llama

    own = modeling_llama.LlamaDecoderLayer.forward
    monkeypatch.setattr(modeling_llama.LlamaDecoderLayer, "forward", lambda *given, **named: own(*given, **named) * 1.5)
    with pytest.raises(ProofError, match="input \\+ attention \\+ MLP = output in every block"):
        thalweg.attribute(model, data, out=tmp_path / "run", options=QUIET)
    (left,) = thalweg.open_run(tmp_path / "run").experiments("attribution")
    assert left.header.status == "failed"


def test_bad_input_is_one_clear_line(model, data, tmp_path):
    said = r"attribute takes one model at a time; got .*planted-small at local, planted at local"
    with pytest.raises(UsageError, match=said):
        attributed_model(prepare([model, "planted"], data, out=tmp_path / "run", options=QUIET))
    with pytest.raises(ModelError):
        thalweg.attribute(str(tmp_path / "nowhere"), data, out=tmp_path / "run", options=QUIET)
    (tmp_path / "empty.jsonl").write_text('{"text": ""}\n{"text": " "}\n')
    for _ in range(2):  # the second time every row is known to give no prompt
        with pytest.raises(DataError, match="expected at least one prompt"):
            thalweg.attribute(model, tmp_path / "empty.jsonl", out=tmp_path / "none", options=QUIET)
    thalweg.attribute(model, data, out=tmp_path / "run", options=QUIET)
    with pytest.raises(RunError, match="massive_ratio"):
        thalweg.attribute(model, data, out=tmp_path / "run", options=replace(QUIET, massive_ratio=20.0))
    assert not math.isnan(
        tables(thalweg.open_run(tmp_path / "run").experiments("attribution")[0])["states"]["along"][0]
    )
