"""At whatever moment an experiment is killed, the same command ends with the tables of an undisturbed one."""

import os
import random

import pytest
from tests.killed import NAMES, child, prepare, seconds

from thalweg.experiments import experiments
from thalweg.store import open_run

KILLS = int(os.environ.get("THALWEG_TEST_KILLS", "1"))
"""How often each experiment is killed before it may end."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    prepare(place)
    return place


def tables(path, name):
    run = open_run(path)
    (declared,) = (known for known in experiments() if known.verb == name)
    return {
        f"{folder}/{number}/{table}": findings.table(table).collect()
        for folder, held in declared.tables.items()
        for number, findings in enumerate(run.experiments(folder))
        for table in (*held.parts, *held.wholes)
    }


def test_every_experiment_is_killed():
    assert set(NAMES) == {known.verb for known in experiments()}


@pytest.mark.parametrize("name", NAMES)
def test_one_that_was_killed_ends_with_the_tables_of_an_undisturbed_one(name, place, tmp_path):
    duration = seconds(name, place, tmp_path / "whole")
    moments = [random.uniform(0, duration) for _ in range(KILLS)]
    for moment in moments:
        process = child(name, place, tmp_path / "run")
        process.join(moment)
        process.kill()
        process.join()
    seconds(name, place, tmp_path / "run")
    undisturbed, resumed = tables(tmp_path / "whole", name), tables(tmp_path / "run", name)
    assert undisturbed
    assert list(undisturbed) == list(resumed)
    for table, frame in undisturbed.items():
        assert frame.height, table
        assert resumed[table].equals(frame, null_equal=True), f"{table} after kills at {moments} of {duration:.2f} s"
