"""What is shown of the writers: bars of what is added, steps of the row, and what the tables say in words."""

import math

import numpy as np
import polars as pl
import pytest
from tests.synthetic_run import PLAIN, PLANTED, add_findings, build_run, header

from thalweg.experiments import tables_of
from thalweg.experiments._attribute.view import COLUMNS, _ticks, chapters
from thalweg.shown import Span
from thalweg.store import Shard, open_run

ADDED = {("embedding", None): 2.0, ("mlp", 1): 900.0, ("mlp", 0): 90.0, ("attention", 1): 8.0, ("mlp", 6): -970.0}
KEYS = {"model": PLANTED.name, "revision": "main"}
WRITERS = {
    "segment": "compress",
    "first": 2,
    "last": 6,
    "reference_state": 2,
    "writing_blocks": [1],
    "writing_share": 0.9,
    "writing_threshold": 0.9,
    "writing_agreement": 1.0,
    "erasing_parts": ["mlp 6"],
    "erasing_share": 0.97,
    "erased_share": 0.98,
    "erasing_agreement": 1.0,
    "prompts": 4,
    "massive_prompts": 4,
    "reason": None,
}
SEGMENT = {"name": "compress", "first": 2, "last": 6, "position": 0, "position_share": 1.0, "reference_state": 2}
NONE = {"segment": "none", "first": None, "last": None, "reason": "no massive activation", "writes": ()}
NOTHING = {"erasing_parts": [], "erasing_share": math.nan, "erased_share": math.nan}


def averages(data, segment, *, writes=(1,), gap=False):
    parts = [("embedding", None), *((part, block) for block in range(PLANTED.blocks) for part in ("attention", "mlp"))]
    rows = []
    for part, block in parts:
        along = math.nan if gap else ADDED.get((part, block), 0.5)
        own = {**KEYS, "data": data, "segment": segment, "block": block, "part": part, "n": 4}
        own |= {"writes": part == "mlp" and block in writes, "erases": part == "mlp" and block == 6}
        numbers = {"norm": abs(along) + 1, "along": along, "share": along / 1000, "cosine": 0.5}
        dims = [17, 42] if part == "mlp" else []
        rows += [
            {**own, "metric": metric, "mean": mean, "std": 3.0, "low": mean - 1, "high": mean + 1, "dims": dims}
            for metric, mean in numbers.items()
        ]
    return pl.DataFrame(rows, schema=tables_of("attribution")["attribution"].schema)


def with_attribution(path, *, data=("words",), writes=(1,), gap=False, settings=None, places=(SEGMENT,), **changes):
    """A run with an attribution made up from known numbers."""
    empty = {name: pl.DataFrame(schema=tables_of("attribution")[name].schema) for name in ("states", "dimensions")}
    with add_findings(path, header((PLANTED,), data), "attribution", settings or {}) as writer:
        for one in data:
            part = {**KEYS, "data": one, "prompt": 0, "segment": "compress", "part": "embedding", "before": True}
            names = tables_of("attribution")["contributions"].schema
            rows = pl.DataFrame([{name: part.get(name) for name in names}], schema=names)
            writer.write_part(Shard(PLANTED.name, "main", one, 0, 1), {**empty, "contributions": rows})
        row = {**WRITERS, "writing_blocks": list(writes), **changes}
        means = [averages(one, row["segment"], writes=writes, gap=gap) for one in data]
        writer.write_table("attribution", pl.concat(means))
        wholes = {"writers": [row], "segments": [{"dims": [], "tokens": [], **place} for place in places]}
        for name, rows in wholes.items():
            schema = tables_of("attribution")[name].schema
            every = [{**dict.fromkeys(schema), **KEYS, "data": one, **known} for one in data for known in rows]
            writer.write_table(name, pl.DataFrame(every, schema=schema))
        writer.update(status="finished")
    return open_run(path)


def sections(run):
    (chapter,) = chapters(run)
    assert (chapter.title, chapter.anchor) == ("Attribution", "attribution")
    return chapter.sections


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    (section,) = sections(with_attribution(tmp_path_factory.mktemp("runs") / "run"))
    return section


def test_bars_are_the_averages_with_the_embedding_before_block_0(section):
    along, _ = section.panels
    attention, mlp = along.bars
    (embedding,) = along.points
    assert (attention.name, mlp.name) == ("attention", "MLP")
    assert attention.color != mlp.color
    assert [bars.rows["at"].to_list() for bars in along.bars] == [list(range(PLANTED.blocks))] * 2
    assert embedding.rows.select("at", "mean").rows() == [(-1, 2.0)]
    (row,) = mlp.rows.filter(at=1).rows(named=True)
    assert (row["mean"], row["lower"], row["upper"]) == (900, 897, 903)
    assert {900.0, -970.0} <= set(mlp.rows["mean"])
    assert 8.0 in set(attention.rows["mean"])


def test_the_row_is_the_sum_of_what_was_added_before(section):
    (steps,) = section.panels[0].lines
    assert steps.name == "the row itself"
    assert steps.step
    # a state stands left of the block that reads it
    assert steps.rows["at"].to_list() == [state - 0.5 for state in range(PLANTED.blocks + 1)]
    assert steps.rows["mean"].to_list()[:3] == [2.0, 2.0 + 0.5 + 90.0, 92.5 + 8.0 + 900.0]
    assert steps.rows["mean"][7] == pytest.approx(1000.5 + 4 * 1.0 + 0.5 - 970.0)


def test_panels_show_parts_by_block_and_the_compress_phase(section):
    along, norm = section.panels
    assert [line.rows["mean"][1] for line in norm.lines] == [9.0, 901.0]
    assert [line.name for line in norm.lines] == [bars.name for bars in along.bars]
    assert [line.color for line in norm.lines] == [bars.color for bars in along.bars]
    assert norm.log_y
    for panel in section.panels:
        assert "activation units" in panel.y
        assert panel.x == "block"
        assert panel.ticks.names[:2] == ("emb", "0")
        assert panel.ticks.places[:2] == (-1, 0)
        assert max(map(int, panel.ticks.names[1:])) < PLANTED.blocks
        assert panel.spans == (Span("compress phase", 2, 6),)
    assert along.title == "compress: added along the row's direction at state 2"
    assert norm.title == "compress: norm of what is added"
    assert "block 1's MLP writes 90.0% of the massive row, into dimensions 17, 42" in section.headline


def test_without_a_segment_nothing_is_shaded(tmp_path):
    (section,) = sections(with_attribution(tmp_path / "run", **NONE, **NOTHING, writing_share=math.nan, places=()))
    assert not any(panel.spans for panel in section.panels)
    assert section.panels[0].title == "Added along the row's direction at state 2"
    assert "no massive activation: nothing is written" in section.headline


def test_every_segment_has_panels_a_sentence_and_a_table(tmp_path):
    wave = {**WRITERS, "segment": "wave", "first": 1, "last": 1, "reference_state": 1, "writing_blocks": [0]}
    both = with_attribution(tmp_path / "run", places=({**SEGMENT, "name": "wave", "position_share": 0.55}, SEGMENT))
    schema = tables_of("attribution")["writers"].schema
    with add_findings(both.path, header((PLANTED,), ("words",)), "attribution", {}) as writer:
        rows = [{**KEYS, "data": "words", **wave}, {**KEYS, "data": "words", **WRITERS}]
        writer.write_table("writers", pl.DataFrame(rows, schema=schema))
        means = [averages("words", "wave", writes=(0,)), averages("words", "compress")]
        writer.write_table("attribution", pl.concat(means))
    (section,) = sections(open_run(both.path))
    assert [panel.title.split(":")[0] for panel in section.panels] == ["wave", "wave", "compress", "compress"]
    assert section.panels[0].spans == (Span("wave", 1, 1),)
    assert [sentence.split(":")[0] for sentence in section.sentences] == [
        "wave (state 1), at position 0 in 55% of prompts",
        "compress (states 2-6), at position 0",
    ]
    assert [table.title.split("row of ")[1].split(",")[0] for table in section.tables] == ["wave", "compress"]


def test_numbers_that_are_missing_are_gaps(tmp_path):
    run = with_attribution(tmp_path / "run", gap=True, writes=(), reason="no prompt has such a row")
    (section,) = sections(run)
    for panel in section.panels:
        for drawn in (*panel.lines, *panel.bars, *panel.points):
            assert drawn.rows.height
            assert drawn.rows["mean"].is_nan().all()


def test_an_attribution_without_averages_of_any_part_is_empty(tmp_path):
    run = with_attribution(tmp_path / "run", writes=(), reason="no prompt has such a row")
    none = run.experiments("attribution")[-1].table("attribution").collect().clear()
    with add_findings(run.path, header((PLANTED,), ("words",)), "attribution", {}) as writer:
        writer.write_table("attribution", none)
    (section,) = sections(open_run(run.path))
    for panel in section.panels:
        assert not any(drawn.rows.height for drawn in (*panel.lines, *panel.bars, *panel.points))
    assert section.tables[0].rows == []


WRITES = "block 1's MLP writes 90.0% of the massive row, into dimensions 17, 42"
ERASES = "the MLP of block 6 takes 97.0% of it away again"
WHERE = "compress (states 2-6), at position 0"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, f"{WHERE}: {WRITES}; {ERASES}"),
        ({"writing_share": 0.99998}, f"{WHERE}: {WRITES.replace('90.0%', 'over 99.9%')}; {ERASES}"),
        (
            {"writes": (0, 1), "writing_share": 0.99},
            f"{WHERE}: the MLPs of blocks 0 and 1 write 99.0% of the massive row (9.0% and 90.0%), into dimensions "
            f"17, 42; {ERASES}",
        ),
        (
            {"erasing_parts": ["attention 3", "mlp 4", "mlp 6"]},
            f"{WHERE}: {WRITES}; attention of block 3 and the MLPs of blocks 4 and 6 take 97.0% of it away again",
        ),
        (
            {"erased_share": 0.031},
            f"{WHERE}: {WRITES}; nothing takes it away again (all that lowers it sums to 3.1%)",
        ),
        (NOTHING, f"{WHERE}: {WRITES}"),
        ({**NONE, **NOTHING}, "no massive activation: nothing is written"),
        ({"writes": (), "reason": "all MLPs together write 30%"}, f"{WHERE}: all MLPs together write 30%; {ERASES}"),
        (
            {"places": ({**SEGMENT, "sink_position": 3},)},
            f"compress (states 2-6), the row at position 3 as asked for: {WRITES}; {ERASES}",
        ),
    ],
)
def test_one_sentence_says_it(tmp_path, changes, said):
    (section,) = sections(with_attribution(tmp_path / "run", **changes))
    assert section.sentences == [said]
    assert section.headline == f"planted on words: {said}"


def test_the_table_has_a_row_for_every_part(section):
    (table,) = section.tables
    assert table.title.startswith("planted on words")
    assert table.title.endswith("what is added to the row of compress, along its direction at state 2")
    assert table.columns == COLUMNS
    assert table.rows[0][:3] == [None, "embedding", 3.0]
    assert table.rows[4] == [1, "mlp", 901.0, 900.0, 0.9, "writes", "17, 42"]
    assert len(table.rows) == 1 + 2 * PLANTED.blocks
    assert [row[5] for row in table.rows if row[5]] == ["writes", "erases"]


def test_it_is_shown_where_there_is_one(tmp_path):
    assert sections(build_run(tmp_path / "run", (PLANTED, PLAIN), ("words", "sums"))) == []
    shown = sections(with_attribution(tmp_path / "run", data=("words", "sums")))
    assert [section.title for section in shown] == ["planted on words", "planted on sums"]
    assert len({section.name for section in shown}) == 2
    assert all(section.name.startswith("attribution_planted") for section in shown)


def test_the_last_one_counts_and_earlier_ones_are_for_who_asks(tmp_path):
    with_attribution(tmp_path / "run", writing_share=0.91)
    run = with_attribution(tmp_path / "run", settings={"threshold": 0.5}, writing_share=0.97)
    first, latest = run.experiments("attribution")
    shown, earlier = sections(run)
    assert (shown.key, shown.only, shown.facts) == (latest.header.key, "", "threshold: 0.5")
    assert (earlier.key, earlier.only) == (first.header.key, "terminal")
    assert "97.0%" in shown.headline
    assert "91.0%" in earlier.headline
    assert all(np.isfinite(bars.rows["mean"].to_numpy()).all() for bars in shown.panels[0].bars)


@pytest.mark.parametrize("blocks", [1, 2, 10, 11, 24, 48, 80, 126])
def test_ticks_are_some_blocks_of_the_model(blocks):
    ticks = _ticks(blocks)
    assert ticks.names[0] == "emb"
    assert list(map(str, ticks.places[1:])) == list(ticks.names[1:])
    assert 1 <= len(ticks.places) - 1 <= 10
    assert all(0 <= place < blocks for place in ticks.places[1:])


def with_states(path, after=None):
    """A run with an attribution of two prompts whose norms are known, and between attention and MLP ``after`` times."""
    run, schema = with_attribution(path), tables_of("attribution")["states"].schema
    rows = [
        {**dict.fromkeys(schema), **KEYS, "data": "words", "prompt": prompt, "segment": "compress", "state": state}
        | {"sink_norm": 100.0 * (state + 1) * scale, "rest_norm": 10.0 * scale}
        | {
            f"{name}_norm_after_attention": None if after is None else after * size * scale
            for name, size in (("sink", 100), ("rest", 10))
        }
        for prompt, scale in ((1, 1.0), (2, 3.0))
        for state in range(PLANTED.blocks + 1)
    ]
    empty = {
        name: pl.DataFrame(schema=tables_of("attribution")[name].schema) for name in ("contributions", "dimensions")
    }
    wholes = {
        name: run.experiments("attribution")[0].table(name).collect() for name in ("writers", "segments", "attribution")
    }
    with add_findings(path, header((PLANTED,), ("words",)), "attribution", {}) as writer:
        writer.write_part(
            Shard(PLANTED.name, "main", "words", 1, 3), {**empty, "states": pl.DataFrame(rows, schema=schema)}
        )
        for name, table in wholes.items():
            writer.write_table(name, table)
        writer.update(status="finished")
    return open_run(path)


def test_norms_are_means_at_every_state_and_half_way_after_its_attention(tmp_path):
    _, between = sections(with_states(tmp_path / "run", after=5.0))
    (panel,) = between.panels
    row, others = panel.lines
    assert row.rows["at"].to_list() == [place / 2 for place in range(2 * PLANTED.blocks + 2)]
    assert row.rows["mean"].to_list()[:4] == [200.0, 1000.0, 400.0, 1000.0]
    assert set(others.rows["mean"]) == {20.0, 100.0}
    assert row.rows["upper"][0] == pytest.approx(200 + np.std([100, 300], ddof=1))
    assert [points.name for points in panel.points] == [f"{line.name}, after attention" for line in panel.lines]
    assert panel.points[0].rows["at"].to_list() == [state + 0.5 for state in range(PLANTED.blocks + 1)]
    assert between.sentences == []


def test_where_nothing_lies_between_the_two_that_is_said(tmp_path):
    _, between = sections(with_states(tmp_path / "run"))
    (panel,) = between.panels
    assert panel.lines[0].rows["at"].to_list() == list(range(PLANTED.blocks + 1))
    assert panel.points == ()
    assert "no norm between attention and MLP" in between.sentences[0]
