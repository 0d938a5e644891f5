"""Maps are those of the model's own eager attention to the quantization's step; numbers and picks those of loops."""

import json
import math

import numpy as np
import polars as pl
import pytest
import torch
from tests.families import FAMILIES, HYBRIDS
from tests.oracle import Recording
from tests.saved import SIZES, save
from transformers import AutoModelForCausalLM, AutoTokenizer

import thalweg
from thalweg.errors import ModelError, RunError, UsageError
from thalweg.experiments._heads.measure import _quantized, nearest
from thalweg.experiments._heads.tables import PATTERNS, attention_of
from thalweg.experiments._heads.view import LEAST, chapters, shortened

BLOCKS, HEADS = 3, 4
TEXTS = [
    "a text of some tokens, for all to see",
    "",
    "two\tthree\n\x1b[31m<script>four</script> five six seven",
    "x " * 40,
]
QUIET = {"progress": False}


def built(family, path):
    config = {**FAMILIES, **HYBRIDS}[family]()
    config.vocab_size = SIZES["vocab_size"]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3.0)
    return save(model, path)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("heads")
    built("llama", place / "model")
    (place / "data.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return place


@pytest.fixture(scope="module")
def every(place):
    """Every head of every block on the third row."""
    return thalweg.heads(
        place / "model", place / "data.jsonl", prompt=2, blocks="0-2", heads="all", out=place / "all", **QUIET
    )


def tables(found):
    return {name: found.table(name).collect() for name in ("heads", "maps", "tokens")}


def maps_of(found):
    return {
        (row["block"], row["head"]): attention_of(row["map"], row["tokens"]) for row in tables(found)["maps"].to_dicts()
    }


def eager(path, token_ids):
    """The model's own maps, block x head x query x key, in float64."""
    return np.array(Recording(AutoModelForCausalLM.from_pretrained(path).eval(), torch.tensor(token_ids)).maps)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text", "gpt_oss", "bloom", "falcon", "qwen2"])
def test_maps_are_those_of_eager_attention_to_the_step_of_a_byte(family, tmp_path):
    path = built(family, tmp_path / "model")
    found = thalweg.heads(path, TEXTS, prompt=2, blocks="0-2", heads="all", out=tmp_path / "run", **QUIET)
    own = eager(path, tables(found)["tokens"]["token_id"].to_list())
    kept = maps_of(found)
    assert sorted(kept) == [(block, head) for block in range(BLOCKS) for head in range(HEADS)]
    for (block, head), attention in kept.items():
        expected = own[block, head]
        assert (np.abs(attention - expected) <= np.sqrt(expected) / 255 + 4e-6 + 2e-5).all()
        assert (attention[np.triu_indices(len(attention), 1)] == 0).all()


def test_the_step_of_a_byte_is_as_it_is_said():
    shares = torch.linspace(0, 1, 4096, dtype=torch.float64).reshape(64, 64)
    kept = attention_of(_quantized(shares, 0), 64)
    assert (np.abs(kept - shares.numpy()) <= np.sqrt(shares.numpy()) / 255 + 4e-6).all()
    assert (kept[0, 0], kept[-1, -1]) == (0, 1)


def test_what_is_not_finite_is_refused():
    with pytest.raises(ModelError, match=r"attention of block 3 is not finite\. In float16"):
        _quantized(torch.tensor([[math.nan]]), 3)


def test_numbers_are_those_of_a_loop_over_the_map(every, place):
    found = tables(every)
    own = eager(place / "model", found["tokens"]["token_id"].to_list())
    tokens = own.shape[-1]
    for row in found["heads"].to_dicts():
        attention = own[row["block"], row["head"]]
        mass = [math.fsum(attention[:, key]) for key in range(tokens)]
        entropy = [-math.fsum(share * math.log(share) for share in query if share > 0) for query in attention]
        expected = {
            "sink_score": mass[0] / tokens,
            "top_position": int(np.argmax(mass)),
            "top_score": max(mass) / tokens,
            "mixing": math.fsum(entropy) / tokens,
            "mixing_normalized": np.mean([entropy[query] / math.log(query + 1) for query in range(1, tokens)]),
            "diagonal": math.fsum(np.diag(attention)) / tokens,
            "previous": math.fsum(np.diag(attention, -1)) / (tokens - 1),
            "svi": mass[0] / (mass[0] + math.fsum(np.diag(attention))),
        }
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert (row["phase"], row["patterns"]) == (None, [])


def test_tokens_are_those_of_the_row(every, place):
    found = tables(every)["tokens"]
    tokenizer = AutoTokenizer.from_pretrained(place / "model")
    assert found["token_id"].to_list() == tokenizer(TEXTS[2])["input_ids"]
    assert found["token"].to_list() == [tokenizer.decode([token]) for token in found["token_id"]]
    assert found["prompt"].unique().to_list() == [2]
    assert set(tables(every)["maps"]["truncated"]) == {False}


def test_named_heads_of_named_blocks_are_kept_alone(every, place, tmp_path):
    found = thalweg.heads(
        place / "model", place / "data.jsonl", prompt=2, blocks=[2], heads="0,2-3", out=tmp_path, **QUIET
    )
    kept, whole = tables(found), tables(every)
    assert kept["heads"].select("block", "head").rows() == [(2, 0), (2, 2), (2, 3)]
    same = pl.struct("block", "head").is_in(kept["heads"].select(pl.struct("block", "head")).to_series().implode())
    for name in ("heads", "maps"):
        assert kept[name].equals(whole[name].filter(same))


def by_hand(heads, phase=None):
    """Of some heads the nearest to each pattern, with its block and head."""
    found = {}
    for pattern, metric in PATTERNS.items():
        some = [row for row in heads if phase in (None, row["phase"]) and not math.isnan(row[metric])]
        some = [row for row in some if row["top_position"] != 0] if pattern == "sink elsewhere" else some
        if some:
            best = min(some, key=lambda row: (-row[metric], row["block"], row["head"]))
            found.setdefault((best["block"], best["head"]), []).append(pattern)
    return found


def test_without_a_survey_the_nearest_heads_are_those_of_all_blocks(every, place, tmp_path):
    found = thalweg.heads(place / "model", place / "data.jsonl", prompt=2, out=tmp_path / "run", **QUIET)
    picked = {(row["block"], row["head"]): row["patterns"] for row in tables(found)["heads"].to_dicts()}
    assert picked == by_hand(tables(every)["heads"].to_dicts())
    assert sorted(maps_of(found)) == sorted(picked)
    for head, attention in maps_of(found).items():
        assert (attention == maps_of(every)[head]).all()


def test_of_each_phase_the_nearest_heads_are_picked():
    random = np.random.default_rng(3)
    rows = [
        {"block": block, "head": head, "phase": phase, "top_position": int(random.integers(0, 3))}
        | {metric: float(random.random()) for metric in PATTERNS.values()}
        for block, phase in enumerate(("mix", "compress", "compress", "wave", None, "refine"))
        for head in range(5)
    ]
    rows[7]["previous"], rows[9]["diagonal"] = math.nan, rows[8]["diagonal"]
    found = nearest(pl.DataFrame(rows, infer_schema_length=None), 0)
    assert found.select("block", "head").rows() == sorted(found.select("block", "head").rows())
    expected = {}
    for phase in ("mix", "compress", "wave", "refine"):
        expected |= by_hand(rows, phase)
    assert {(row["block"], row["head"]): row["patterns"] for row in found.to_dicts()} == expected


def test_phases_are_those_of_the_survey_in_the_run(tmp_path):
    run = thalweg.survey("planted", "bundled", limit=4, out=tmp_path / "run", **QUIET)
    phases = dict(run.profile.filter(site="block").select("index", "phase").unique().collect().iter_rows())
    assert {"mix", "compress"} <= set(phases.values())
    found = thalweg.heads(run.path, prompt=1, **QUIET)
    rows = tables(found)["heads"].to_dicts()
    assert all(row["phase"] == phases[row["block"]] for row in rows)
    assert {row["phase"] for row in rows} == set(phases.values()) - {None}
    measured = run.heads.filter(prompt=1).collect()
    for row in rows:
        (own,) = measured.filter(block=row["block"], head=row["head"]).to_dicts()
        for name in ("sink_score", "mixing", "diagonal", "svi", "top_position"):
            assert row[name] == pytest.approx(own[name], rel=1e-5, abs=1e-6)
    (section,) = next(chapters(thalweg.open_run(run.path))).sections
    assert [sentence.split(":")[0] for sentence in section.sentences] == [
        phase.capitalize() for phase in dict.fromkeys(phases[block] for block in sorted(phases)) if phase
    ]


def test_what_was_kept_is_not_computed_again(every, place, monkeypatch):
    monkeypatch.setattr("thalweg.experiments._heads.measure.loaded", lambda _: pytest.fail("it is loaded again"))
    again = thalweg.heads(
        place / "model", place / "data.jsonl", prompt=2, blocks="0-2", heads="all", out=place / "all", **QUIET
    )
    assert tables(again)["maps"].equals(tables(every)["maps"])


BAD = {
    "blocks 3 is out of range; this model has blocks 0 to 2": {"blocks": "3", "heads": "all"},
    "heads 4 is out of range; this model has heads 0 to 3": {"blocks": [0], "heads": "4"},
    "--heads takes numbers and ranges such as 0,5-7; got 'some'": {"blocks": [0], "heads": "some"},
    "--heads all takes --blocks beside it: name those to keep, such as 0,2": {"heads": "all"},
    "--prompt 4: data.jsonl has rows 0 to 3. Name one of its rows": {"prompt": 4},
    "--prompt must be at least 0; got -1": {"prompt": -1},
    "--max-map must be at least 1; got 0": {"max_map": 0},
    "--prompt 1: row 1 of data.jsonl gives no prompt": {"prompt": 1},
    "has 64 tokens, and maps of at most 20 are kept. Name a shorter prompt, raise --max-map to 64": {
        "prompt": 3,
        "max_map": 20,
    },
}


@pytest.mark.parametrize("message", BAD)
def test_what_cannot_be_had_is_refused_in_a_line_and_leaves_no_run(message, place, tmp_path):
    with pytest.raises(UsageError) as refused:
        thalweg.heads(place / "model", place / "data.jsonl", out=tmp_path / "run", **BAD[message], **QUIET)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_block_without_softmax_attention_is_refused_where_it_is_named(tmp_path):
    path = built("lfm2", tmp_path / "model")
    with pytest.raises(UsageError, match=r"--blocks 0: this block has no softmax attention; blocks 1 have"):
        thalweg.heads(path, TEXTS, blocks="0,1", heads="all", out=tmp_path / "run", **QUIET)
    found = thalweg.heads(path, TEXTS, out=tmp_path / "other", **QUIET)
    assert set(tables(found)["heads"]["block"]) == {1}


def test_a_prompt_that_is_cut_is_said_to_be(place, tmp_path):
    options = {"prompt": 3, "max_length": 12, "out": tmp_path / "run"}
    thalweg.heads(place / "model", place / "data.jsonl", **options, **QUIET)
    (section,) = next(chapters(thalweg.open_run(tmp_path / "run"))).sections
    assert section.facts.startswith("12 tokens; cut off at the end")


def test_a_damaged_map_is_a_line(every):
    file = every.directory / "maps.parquet"
    whole = file.read_bytes()
    try:
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(RunError):
            every.table("maps").collect()
    finally:
        file.write_bytes(whole)


# what is shown


def section_of(found):
    (chapter,) = chapters(thalweg.open_run(found.run))
    (section,) = chapter.sections
    return section


def test_a_gallery_shows_every_map_below_its_diagonal(every):
    section, kept = section_of(every), maps_of(every)
    assert [panel.title for panel in section.panels] == [f"block {block}, head {head}" for block, head in sorted(kept)]
    for panel, (_, attention) in zip(section.panels, sorted(kept.items()), strict=True):
        below = np.tri(len(attention), dtype=bool)
        assert panel.heat.grid[below] == pytest.approx(np.maximum(attention[below], LEAST), abs=5e-4)
        assert np.isnan(panel.heat.grid[~below]).all()
        assert panel.heat.down
    assert section.sentences == []
    assert section.title.endswith("prompt 2")


def test_tokens_name_rows_and_columns_with_control_characters_shown(every):
    heat = section_of(every).panels[0].heat
    tokens = tables(every)["tokens"]["token"]
    assert heat.up == heat.along == [f"{position} {shortened(token)}" for position, token in enumerate(tokens)]
    assert {"\\t", "\\n", "\\x1b", "<"} <= {name.partition(" ")[2] for name in heat.up}
    assert shortened(" a b") == "\N{OPEN BOX}a\N{OPEN BOX}b"
    assert shortened("\u202eabc") == "\\u202eabc"
    assert len(shortened("y" * 1_000_000)) < 20


def test_a_long_prompt_is_drawn_coarser_and_that_is_said(every, monkeypatch):
    monkeypatch.setattr("thalweg.experiments._heads.view.CELLS", 600)
    section, kept = section_of(every), maps_of(every)
    tokens = len(kept[0, 0])
    step = math.ceil(tokens / 10)
    assert f"a cell is the largest of {step} x {step}" in section.facts
    grid = section.panels[0].heat.grid
    assert len(grid) == math.ceil(tokens / step)
    assert [int(name.partition(" ")[0]) for name in section.panels[0].heat.up] == list(range(0, tokens, step))
    for row, column in [(0, 0), (3, 1), (len(grid) - 1, 2)]:
        cells = kept[0, 0][row * step : (row + 1) * step, column * step : (column + 1) * step]
        assert grid[row, column] == pytest.approx(max(cells.max(), LEAST), abs=5e-4)


def test_more_maps_than_fit_are_counted(every, monkeypatch):
    monkeypatch.setattr("thalweg.experiments._heads.view.MOST", 5)
    section = section_of(every)
    assert len(section.panels) == 5
    assert len(section.tables[0].rows) == BLOCKS * HEADS
    assert "5 of 12 maps are drawn, all are kept" in section.facts


def test_the_table_has_the_numbers_of_each_head(every):
    table = section_of(every).tables[0]
    rows = tables(every)["heads"].sort("block", "head").to_dicts()
    places = {name: place for place, name in enumerate(table.columns)}
    for cells, row in zip(table.rows, rows, strict=True):
        assert (cells[places["sink score"]], cells[places["SVI"]]) == (row["sink_score"], row["svi"])
        assert cells[places["its token"]] == repr(tables(every)["tokens"]["token"][row["top_position"]])
