"""Every table has exactly its columns, its types and its order of rows."""

import math

import polars as pl
import pytest
from tests.synthetic_run import PLANTED, header, open_survey, part_tables, schema

from thalweg.store import Shard, open_run

TABLES = ("layers", "heads", "massive", "row_norms", "prompts", "profile", "phases", "segments", "claims", "coupling")
SHARD = Shard(PLANTED.name, "main", "words", 0, 3)


def written(path, changed=None, **options):
    tables = part_tables(PLANTED, "words", range(3))
    with open_survey(path, header(**options)) as writer:
        writer.write_part(SHARD, changed(tables) if changed else tables)
    return open_run(path)


@pytest.mark.parametrize("table", TABLES)
def test_every_table_names_its_model_and_data_first(table):
    assert list(schema(table))[:3] == ["model", "revision", "data"]


@pytest.mark.parametrize("table", ["layers", "heads", "massive", "prompts"])
def test_stored_tables_have_their_schema(tmp_path, table):
    assert getattr(written(tmp_path), table).collect().schema == pl.Schema(schema(table))


@pytest.mark.parametrize("table", ["layers", "heads", "massive", "prompts"])
def test_columns_and_rows_may_come_in_any_order(tmp_path, table):
    straight = getattr(written(tmp_path / "a"), table).collect()

    def shuffled(tables):
        frame = tables[table]
        return tables | {table: frame.reverse().select(reversed(frame.columns))}

    assert getattr(written(tmp_path / "b", shuffled), table).collect().equals(straight)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda frame: frame.drop("entropy"), "missing: entropy; unexpected: none"),
        (lambda frame: frame.with_columns(extra=1), "missing: none; unexpected: extra"),
        (lambda frame: frame.with_columns(entropy=pl.lit("high")), "table layers: a column cannot be stored"),
        (lambda frame: frame.with_columns(state=pl.lit(2**40)), "table layers: a column cannot be stored"),
        (lambda frame: frame.with_columns(prompt=pl.lit(3)), "belong elsewhere"),
        (lambda frame: frame.with_columns(model=pl.lit("other")), "belong elsewhere"),
        (lambda frame: frame.with_columns(data=pl.lit(None, pl.String)), "belong elsewhere"),
    ],
)
def test_a_frame_that_does_not_fit_is_refused(tmp_path, change, words):
    with pytest.raises(ValueError, match=words):
        written(tmp_path, lambda tables: tables | {"layers": change(tables["layers"])})
    assert open_run(tmp_path).prompts.collect().height == 0


def test_all_four_tables_are_needed(tmp_path):
    with pytest.raises(ValueError, match="expected the tables layers, heads, massive, row_norms, prompts"):
        written(tmp_path, lambda tables: {"layers": tables["layers"]})


def test_undefined_numbers_are_nan_and_absent_ones_null(tmp_path):
    def gaps(tables):
        layers = tables["layers"].with_columns(entropy=pl.lit(None, pl.Float64), row_position=pl.lit(None, pl.Int64))
        return tables | {"layers": layers}

    run = written(tmp_path, gaps)
    layers = run.layers.collect()
    assert all(math.isnan(value) for value in layers["entropy"])
    assert layers["row_position"].null_count() == layers.height
    rows = run.massive.filter(pl.col("kind") == "row").collect()
    assert rows["value"].null_count() == rows["dim"].null_count() == rows.height > 0


def test_variants_and_texts_are_columns_only_where_asked_for(tmp_path):
    def with_more(tables):
        entropies = [name for name in schema("layers", variants=True) if name not in schema("layers")]
        layers = tables["layers"].with_columns(pl.lit(0.5).alias(name) for name in entropies)
        return tables | {"layers": layers, "prompts": tables["prompts"].with_columns(text=pl.lit("words"))}

    run = written(tmp_path / "more", with_more, variants=True, keep_text=True)
    assert run.layers.collect()["entropy_skean_2"].to_list()[0] == 0.5
    assert run.prompts.collect()["text"].to_list()[0] == "words"
    with pytest.raises(ValueError, match="unexpected: entropy_without_sink"):
        written(tmp_path / "less", with_more)


def test_only_aggregates_are_written_as_one_table(tmp_path):
    with open_survey(tmp_path, header()) as writer:
        with pytest.raises(ValueError, match="expected one of profile, phases, segments, claims, coupling"):
            writer.write_table("layers", pl.DataFrame())
        with pytest.raises(ValueError, match="missing: revision, data, coupling_entropy"):
            writer.write_table("coupling", pl.DataFrame({"model": ["a"]}))
    with pytest.raises(ValueError, match="expected one of layers"):
        schema("leyers")
