"""What says how to measure outlives what is made of the measurements."""

import polars as pl
import pytest
from tests.synthetic_run import PLANTED, header

from thalweg.store import EXPERIMENTS, ExperimentTables, Shard, open_experiment
from thalweg.store._schemas import DATA_KEY, KEY

ROW = {"model": PLANTED.name, "revision": "main", "data": "words", "value": 1.0}
TRIAL = ExperimentTables(
    parts={"rows": {**KEY, "value": pl.Float64()}},
    wholes={"means": {**DATA_KEY, "value": pl.Float64()}, "planned": {**DATA_KEY, "value": pl.Float64()}},
    order={"rows": ("prompt",)},
    plans=("planned",),
)


def test_a_new_part_removes_means_and_leaves_the_plan(tmp_path, monkeypatch):
    monkeypatch.setitem(EXPERIMENTS, "trial", TRIAL)
    with open_experiment(tmp_path / "run", header((PLANTED,), ("words",)), "trial", {}) as writer:
        for name in ("means", "planned"):
            writer.write_table(name, pl.DataFrame([ROW]))
            assert writer.reading().table(name).collect().height == 1
        writer.write_part(Shard(PLANTED.name, "main", "words", 0, 1), {"rows": pl.DataFrame([{**ROW, "prompt": 0}])})
        assert writer.reading().table("means").collect().height == 0
        assert writer.reading().table("planned").collect().height == 1


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_plan_is_a_table_that_is_written_whole(name):
    assert set(EXPERIMENTS[name].plans) <= set(EXPERIMENTS[name].wholes)
