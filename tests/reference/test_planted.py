"""What was planted is what the survey finds, and nothing is found where nothing was planted."""

import json
import math
import random
from dataclasses import dataclass

import polars as pl
import pytest
import torch

import thalweg
from thalweg.reference import (
    BUNDLED_PLANT,
    Earlier,
    Plant,
    Push,
    bundled_directory,
    byte_tokenizer,
    planted_llama,
    write_planted_model,
)

BLOCKS, HEADS = 7, 4
LETTERS = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ.,"


@dataclass(frozen=True)
class Draw:
    """A plant drawn at random, and how its model and prompts are made."""

    plant: Plant
    position: int
    width: int
    seed: int

    def save(self, path, *, twin=False):
        model = planted_llama(self.plant, blocks=BLOCKS, heads=HEADS, width=self.width, seed=self.seed, twin=twin)
        model.save_pretrained(path)
        byte_tokenizer().save_pretrained(path)

    def prompts(self, path):
        draw = random.Random(self.seed)
        texts = []
        for length in (70, 90, 150, 33, 260):
            text = "".join(draw.choice(LETTERS) for _ in range(length))
            if self.position:  # the trigger is a line break; the token before the text is <s>
                text = text[: self.position - 1] + "\n" + text[self.position - 1 :]
            texts.append(text)
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def drawn(seed: int) -> Draw:
    draw = random.Random(seed)
    width = draw.choice([32, 64])
    write = draw.randrange(BLOCKS - 2)
    remove = draw.choice([None, draw.randrange(write + 1, BLOCKS)])
    dims = draw.sample(range(width), draw.randint(1, 3))
    largest = draw.choice([1500.0, 6000.0, 80000.0])  # 80,000 beside rows of norm 8: a ratio of 1e4
    values = {dim: draw.choice([-1, 1]) * largest / 2**place for place, dim in enumerate(dims)}
    heads = tuple(sorted(draw.sample(range(HEADS), draw.randint(1, HEADS))))
    position = draw.choice([0, 0, 5, 17])
    trigger = 256 if position == 0 else byte_tokenizer()("\n", add_special_tokens=False).input_ids[0]
    return Draw(Plant(write, remove, values, heads, trigger), position, width, seed)


def surveyed(tmp_path, draw, *, twin=False):
    draw.save(tmp_path / "model", twin=twin)
    draw.prompts(tmp_path / "prompts.jsonl")
    options = thalweg.SurveyOptions(sink_position=draw.position, progress=False)
    return thalweg.survey(
        str(tmp_path / "model"), str(tmp_path / "prompts.jsonl"), out=tmp_path / "run", options=options
    )


@pytest.mark.parametrize("seed", range(8))
def test_the_survey_recovers_exactly_what_was_planted(tmp_path, seed):
    draw = drawn(seed)
    plant, last = draw.plant, draw.plant.remove_block if draw.plant.remove_block is not None else BLOCKS
    run = surveyed(tmp_path, draw)
    phases = run.phases.collect().row(0, named=True)
    assert phases["has_massive_activations"]
    assert (phases["compress_first"], phases["compress_last"]) == (plant.write_block + 1, last)
    assert (phases["agreement_first"], phases["agreement_last"]) == (1.0, 1.0)
    assert phases["has_refine"] == (plant.remove_block is not None)
    massive = run.massive.collect()
    rows = massive.filter(pl.col("kind") == "row")
    assert set(rows["position"]) == {draw.position}
    assert set(rows["state"]) == set(range(plant.write_block + 1, last + 1))
    entries = massive.filter(pl.col("kind") == "entry")
    largest = max(plant.values, key=lambda dim: abs(plant.values[dim]))
    assert set(entries["position"]) == {draw.position}
    assert largest in set(entries["dim"]) <= set(plant.values)
    for dim, value in entries.select("dim", "value").iter_rows():
        assert value == pytest.approx(plant.values[dim], rel=1e-5)
    peaks = run.layers.filter(pl.col("state").is_in(rows["state"].unique().to_list())).collect()
    assert set(peaks["peak_dim"]) == {largest}
    assert set(peaks["peak_position"]) == {draw.position}
    assert sinking(run) == {
        (block, head) for block in range(plant.write_block + 1, min(last, BLOCKS - 1) + 1) for head in plant.heads
    }
    assert run.bound_violations == 0


def course(kind: str, draw: random.Random) -> tuple[Plant, list[dict], dict]:
    """A plant of one kind drawn at random, its segments and what else has to be told of it."""
    blocks, dim, heads = 9, draw.randrange(64), tuple(sorted(draw.sample(range(HEADS), 2)))
    wave = draw.randrange(2)
    gone = wave + 1 + draw.randrange(2)
    write = draw.randrange(gone + 1, 6) if kind == "a wave" else draw.randrange(1, 5)
    remove = draw.randrange(write + 1, blocks - 1)
    value = draw.choice([-1, 1]) * (80000.0 if kind in ("a wave", "a shoulder", "aligned") else 6000.0)
    compress = {"name": "compress", "first": write + 1, "last": remove, "run_first": write + 1, "shoulders": []}
    removed = {"end": "removed"}
    match kind:
        case "alone":
            return Plant(write, remove, {dim: value}, heads), [compress | removed], {"row_compresses": "yes"}
        case "a wave":
            plant = Plant(write, remove, {dim: value}, heads, earlier=Earlier(wave, gone, 0.01))
            first = {"name": "wave", "first": wave + 1, "last": gone, "run_first": wave + 1, "until": gone}
            return (
                plant,
                [first | removed, compress | removed],
                {"row_compresses": "yes", "mix_mark": "as the paper says"},
            )
        case "a shoulder":
            plant = Plant(write, remove, {dim: value}, heads, earlier=Earlier(0, None, 0.0025))
            told = compress | {"run_first": 1, "shoulders": list(range(1, write + 1))}
            return plant, [told | removed], {"compress_mark": "as the paper says"}
        case "embedded":
            told = compress | {"first": 1, "run_first": 1} | removed
            said = {"massive_at_embedding": True, "mix_mark": "not here"}
            return Plant(None, remove, {dim: value}, heads), [told], said
        case "to the end":
            told = compress | {"last": blocks, "end": None, "end_state": None}
            return Plant(write, None, {dim: value}, heads), [told], {"has_refine": False, "refine_mark": "not here"}
        case "aligned":
            plant = Plant(write, remove, {dim: value}, heads, push=Push(write, 60.0))
            return plant, [compress | removed], {"row_compresses": "no", "row_explains": "norm"}
        case _:
            plant = Plant(write, None, {dim: value}, heads, push=Push(remove, 3000.0))
            return plant, [compress | {"end": "caught up"}], {"row_compresses": "yes", "refine_mark": "not here"}


COURSES = ("alone", "a wave", "a shoulder", "embedded", "to the end", "aligned", "caught up")


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", COURSES)
def test_every_course_is_recovered_exactly(tmp_path, kind, seed):
    plant, segments, said = course(kind, random.Random(f"{kind} {seed}"))
    planted_llama(plant, blocks=9, heads=HEADS, width=64, seed=seed).save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    Draw(plant, 0, 64, seed).prompts(tmp_path / "prompts.jsonl")
    options = thalweg.SurveyOptions(progress=False)
    run = thalweg.survey(
        str(tmp_path / "model"), str(tmp_path / "prompts.jsonl"), out=tmp_path / "run", options=options
    )
    found = run.segments.collect().to_dicts()
    assert [{name: row[name] for name in told} for row, told in zip(found, segments, strict=True)] == segments
    assert all(row["position"] == 0 and row["position_share"] == 1 and row["tokens"] == ["<s>"] for row in found)
    phases = run.phases.collect().row(0, named=True)
    assert {name: phases[name] for name in said} == said
    assert run.bound_violations == 0
    for row in found:  # the two factors are the whole fall
        if row["end"]:
            fall = -math.log(row["row_factor"]) + math.log(row["others_factor"])
            at_end = run.layers.filter(state=row["end_state"]).join(
                run.row_norms.filter(position=0), on=["prompt", "state"]
            )
            ratios = (at_end.collect()["norm"] / at_end.collect()["median_norm"]).log()
            assert fall == pytest.approx(math.log(row["peak_ratio"]) - ratios.mean(), rel=1e-6)


def sinking(run):
    """Heads that sink at least half as much as a head can that only looks at the sink position."""
    means = run.heads.join(run.prompts.select("prompt", "tokens"), on="prompt").with_columns(
        share=pl.col("sink_score") * pl.col("tokens") / (pl.col("tokens") - run.header.thresholds.sink_position)
    )
    found = means.group_by("block", "head").agg(pl.col("share").mean()).filter(pl.col("share") >= 0.5).collect()
    return set(found.select("block", "head").iter_rows())


@pytest.mark.parametrize("seed", range(3))
def test_a_twin_without_the_plant_has_none(tmp_path, seed):
    draw = drawn(seed)
    run = surveyed(tmp_path, draw, twin=True)
    phases = run.phases.collect().row(0, named=True)
    assert phases["has_massive_activations"] is False
    assert phases["compress_first"] is None
    assert run.massive.collect().is_empty()
    assert sinking(run) == set()


def test_a_twin_differs_in_two_neurons_alone():
    draw = drawn(4)
    one, other = (
        planted_llama(draw.plant, blocks=BLOCKS, seed=9, width=64, twin=twin).state_dict() for twin in (False, True)
    )
    differing = {name for name in one if not torch.equal(one[name], other[name])}
    blocks = {draw.plant.write_block, draw.plant.remove_block} - {None}
    assert differing == {f"model.layers.{block}.mlp.down_proj.weight" for block in blocks}


def test_the_bundled_directory_is_what_its_plant_builds(tmp_path):
    write_planted_model(tmp_path)
    bundled = bundled_directory("planted")
    for name in ("config.json", "tokenizer.json"):
        assert json.loads((tmp_path / name).read_text()) == json.loads((bundled / name).read_text())
    from safetensors.torch import load_file

    weights = "model.safetensors"
    built, bundled = load_file(tmp_path / weights), load_file(bundled / weights)
    assert built.keys() == bundled.keys()
    for name in built:
        torch.testing.assert_close(built[name], bundled[name], rtol=1e-5, atol=1e-6)
    assert BUNDLED_PLANT.heads


@pytest.mark.parametrize(
    "plant",
    [
        Plant(3, 2, {1: 9.0}, (0,)),
        Plant(0, 99, {1: 9.0}, (0,)),
        Plant(0, 2, {640: 9.0}, (0,)),
        Plant(0, 2, {1: 9.0}, (9,)),
    ],
)
def test_a_plant_that_does_not_fit_is_refused(plant):
    with pytest.raises(ValueError, match="expected"):
        planted_llama(plant, blocks=BLOCKS)
