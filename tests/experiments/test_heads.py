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
from thalweg.experiments._heads.tables import PATTERNS, TABLES, attention_of
from thalweg.experiments._heads.tokens import TokenRows
from thalweg.experiments._heads.view import LEAST, _of_norms, chapters, shortened
from thalweg.experiments._pass import StateSeen
from thalweg.report import write_report
from thalweg.store import Tables

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


def recording(path, token_ids):
    """One prompt through the model's own eager attention."""
    return Recording(AutoModelForCausalLM.from_pretrained(path).eval(), torch.tensor(token_ids))


def eager(path, token_ids):
    """The model's own maps, block x head x query x key, in float64."""
    return np.array(recording(path, token_ids).maps)


def assert_tokens_are_those_of(recorded, found):
    """Every token's row, what it receives and where it looks, against loops over what the model itself gives."""
    rows = found.table("token_states").sort("state", "position").collect().to_dicts()
    assert [(row["state"], row["position"]) for row in rows] == list(np.ndindex(BLOCKS + 1, len(recorded.states[0])))
    for row in rows:
        own = recorded.states[row["state"]][row["position"]]
        assert row["norm"] == pytest.approx(math.sqrt(math.fsum(own**2)), rel=1e-5)
        assert row["value"] == pytest.approx(own[row["dim"]], rel=1e-4)
        assert abs(own[row["dim"]]) >= np.abs(own).max() * (1 - 1e-5)
    tokens = recorded.maps[0].shape[-1]
    for row in found.table("token_blocks").collect().to_dicts():
        column = recorded.maps[row["block"]][:, :, row["position"]]
        assert row["received"] == pytest.approx(math.fsum(column.ravel()) / column.size, rel=1e-4, abs=1e-7)
    looks = found.table("token_heads").collect().to_dicts()
    assert len(looks) == BLOCKS * HEADS * tokens
    for row in looks:
        query = recorded.maps[row["block"]][row["head"]][row["position"]]
        assert query[row["looks_at"]] >= query.max() - 2e-6
        assert (query[: row["looks_at"]] < query.max() - 5e-7).all()  # the lowest of those that are equal


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text", "gpt_oss", "bloom", "falcon", "qwen2"])
def test_maps_are_those_of_eager_attention_to_the_step_of_a_byte(family, tmp_path):
    path = built(family, tmp_path / "model")
    found = thalweg.heads(path, TEXTS, prompt=2, blocks="0-2", heads="all", out=tmp_path / "run", **QUIET)
    recorded = recording(path, tables(found)["tokens"]["token_id"].to_list())
    assert_tokens_are_those_of(recorded, found)
    own, kept = np.array(recorded.maps), maps_of(found)
    assert sorted(kept) == [(block, head) for block in range(BLOCKS) for head in range(HEADS)]
    for (block, head), attention in kept.items():
        expected = own[block, head]
        assert (np.abs(attention - expected) <= np.sqrt(expected) / 255 + 4e-6 + 2e-5).all()
        assert (attention[np.triu_indices(len(attention), 1)] == 0).all()


def test_the_step_of_a_byte_is_as_it_is_said():
    shares = torch.linspace(0, 1, 4096, dtype=torch.float64).reshape(64, 64)
    kept = attention_of(_quantized(shares, 0).numpy().tobytes(), 64)
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
    assert found.table("token_blocks").collect()["block"].unique().to_list() == [1]
    norms, received, _ = (panel.heat.grid for panel in tokens_of(found).panels)
    assert np.isfinite(norms).all()
    assert np.isfinite(received).all(1).tolist() == [block == 1 for block in range(len(received))]
    assert "of 1 block, up to" in tokens_of(found).sentences[1]


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


def section_of(found, number=0):
    (section,) = list(chapters(thalweg.open_run(found.run)))[number].sections
    return section


def tokens_of(found):
    return section_of(found, 1)


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


# what its tokens do


def test_a_row_that_is_not_finite_has_no_largest_coordinate():
    rows, seen = torch.tensor([[3.0, -4.0], [math.nan, 1.0], [2.0, -2.0]]), TokenRows()
    seen.state(5, StateSeen(rows[None], torch.tensor([3]), (3,)))
    frame = seen.states
    assert frame["norm"].to_list() == [5.0, pytest.approx(math.nan, nan_ok=True), pytest.approx(math.sqrt(8))]
    assert (frame["dim"].to_list(), frame["state"].unique().to_list()) == ([1, None, 0], [5])
    assert frame["value"].to_list() == [-4.0, pytest.approx(math.nan, nan_ok=True), 2.0]


def test_heads_that_are_picked_see_the_same_tokens_as_all(every, place, tmp_path):
    found = thalweg.heads(place / "model", place / "data.jsonl", prompt=2, out=tmp_path / "run", **QUIET)
    for name in ("token_states", "token_blocks"):
        assert found.table(name).collect().equals(every.table(name).collect())
    picked = tables(found)["heads"].select("block", "head")
    whole = every.table("token_heads").collect().join(picked, on=["block", "head"], how="semi")
    assert found.table("token_heads").collect().equals(whole)


def test_a_text_and_its_maps_show_what_was_kept(every):
    section, tokens = tokens_of(every), tables(every)["tokens"]["token"].to_list()
    assert section.text == [shortened(token, 40) for token in tokens]
    assert {"\\t", "\\x1b", "<"} <= set(section.text)
    norms, received, looks = (panel.heat for panel in section.panels)
    for heat, table, column, at in (
        (norms, "token_states", "norm", "state"),
        (received, "token_blocks", "received", "block"),
    ):
        rows = every.table(table).collect()
        assert heat.grid[rows[at], rows["position"]].tolist() == rows[column].to_list()
        assert heat.grid.size == rows.height
    assert (norms.low, norms.high, norms.log) == (norms.grid.min(), norms.grid.max(), True)
    rows = every.table("token_heads").collect()
    place = [looks.up.index(f"block {block}, head {head}") for block, head in rows.select("block", "head").rows()]
    assert looks.grid[place, rows["position"].to_numpy()].tolist() == rows["looks_at"].to_list()
    assert looks.pointing
    assert section.name.startswith("tokens_")


def told(norms, ratio=10.0):
    return _of_norms(np.array(norms, dtype=float), ["a", " b", "c\n", "d"], ratio)


def test_massive_rows_are_told_with_where_they_stand_out_and_are_born():
    rest = [1.0, 1.0, 1.0]
    assert told([[1, *rest], [2, *rest], [60, *rest], [50, *rest], [4, *rest]]) == (
        "Massive rows: position 0 ('a') at states 2-3, norm up to 60.0 at state 2, 60.0 times the median row's, born "
        "at state 2 (x 30.0)"
    )
    assert told([[1, 1, 1, 1], [1, 1, 30, 1]]).startswith(
        "Massive rows: position 2 ('c\\n') at state 1, norm up to 30.0"
    )
    two = told([[1, 1, 1, 1, 1], [20, 1, 1, 40, 1]])
    assert two.index("position 3") < two.index("position 0")


def test_without_a_massive_row_the_nearest_is_told():
    assert told([[1, 1, 1, 1], [2, 1, 9, 2]]) == (
        "No row is massive, with a norm of 10 times the median row's: position 2 ('c\\n') comes nearest, 4.50 times at "
        "state 1"
    )
    assert told([[math.nan] * 4, [1, 1, 3, 1]]).endswith("3.00 times at state 1")


def test_more_massive_rows_than_fit_are_counted():
    norms = np.ones((2, 20))
    norms[1, :5] = range(50, 100, 10)
    said = _of_norms(norms, [str(place) for place in range(20)], 10.0)
    assert said.count("born at state 1") == 3
    assert said.endswith("; and 2 other tokens")


def test_an_older_run_is_read_and_told_what_adds_its_tokens(place, tmp_path, monkeypatch):
    given = (place / "model", place / "data.jsonl")
    old = Tables(wholes={name: TABLES.wholes[name] for name in ("heads", "maps", "tokens")}, main="heads")
    with monkeypatch.context() as earlier:
        earlier.setattr("thalweg.experiments._heads.measure.TABLES", old)
        found = thalweg.heads(*given, prompt=2, out=tmp_path / "run", **QUIET)
    assert section_of(found).panels
    (said,) = tokens_of(found).sentences
    assert said == "What single tokens do was not kept yet when this was measured: the same call adds it"
    assert not tokens_of(found).panels
    assert write_report(thalweg.open_run(found.run)).stat().st_size > 1e6
    again = thalweg.heads(*given, prompt=2, out=tmp_path / "run", **QUIET)
    assert tables(again)["heads"].equals(tables(found)["heads"])
    assert len(tokens_of(again).panels) == 3
