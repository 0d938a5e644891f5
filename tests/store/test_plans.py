"""What says how to measure outlives what is made of the measurements."""

import polars as pl
import pytest
from tests.synthetic_run import PLANTED, header

from thalweg.experiments import experiments, tables_of
from thalweg.store import Column, Shard, Table, Tables, open_findings

ROW = {"model": PLANTED.name, "revision": "main", "data": "words", "value": 1.0}
KEY = (Column("model", pl.String()), Column("revision", pl.String()), Column("data", pl.String()))
VALUE = Table("a value", (*KEY, Column("value", pl.Float64())))
ROWS = Table("a prompt", (*KEY, Column("prompt", pl.Int64()), Column("value", pl.Float64())), ("prompt",))
TRIAL = Tables({"rows": ROWS}, {"means": VALUE, "planned": VALUE}, ("planned",))


def opened(path):
    return open_findings(path, header((PLANTED,), ("words",)), "trial", {}, TRIAL)


def filled(writer):
    for name in ("planned", "means"):
        writer.write_table(name, pl.DataFrame([ROW]))
        assert writer.reading().table(name).collect().height == 1
    writer.write_part(Shard(PLANTED.name, "main", "words", 0, 1), {"rows": pl.DataFrame([{**ROW, "prompt": 0}])})


def test_a_new_part_removes_means_and_leaves_the_plan(tmp_path):
    with opened(tmp_path / "run") as writer:
        filled(writer)
        assert writer.reading().table("means").collect().height == 0
        assert writer.reading().table("planned").collect().height == 1
        assert writer.missing == ("means",)


@pytest.mark.parametrize("harm", [lambda file: file.write_bytes(b"half"), lambda file: file.unlink()])
def test_without_its_plan_everything_is_measured_again(tmp_path, harm):
    with opened(tmp_path / "run") as writer:
        filled(writer)
        assert writer.done(PLANTED.name, "main", "words") == [(0, 1)]
    with opened(tmp_path / "run") as writer:
        assert writer.done(PLANTED.name, "main", "words") == [(0, 1)]
    harm(next((tmp_path / "run" / "trial").rglob("planned.parquet")))
    with opened(tmp_path / "run") as writer:
        assert writer.done(PLANTED.name, "main", "words") == []
        assert not list((tmp_path / "run" / "trial").rglob("*.rows.parquet"))
        filled(writer)


@pytest.mark.parametrize("name", [name for known in experiments() for name in known.tables])
def test_a_plan_is_a_table_that_is_written_whole(name):
    assert set(tables_of(name).plans) <= set(tables_of(name).wholes)
