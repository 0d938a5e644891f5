"""At whatever file operation an experiment is killed, the same command ends with the tables of an undisturbed one."""

import random

import pytest
from tests.faults.performed import JOINED, NAMES, TRAINED, Fault, differing, performed, tables
from tests.faults.share import some

from thalweg.experiments import experiments

FAULTS = 20
"""Of each experiment; in every one it is killed twice."""


def test_every_experiment_is_killed():
    assert set(NAMES) == {known.verb for known in experiments()}


@pytest.mark.parametrize("name", [*NAMES, TRAINED, JOINED])
def test_one_that_was_killed_ends_with_the_tables_of_an_undisturbed_one(name, undisturbed, tmp_path):
    operations, whole = undisturbed.of(name)
    assert whole
    assert all(frame.height for frame in whole.values())
    for first in some(range(1, operations + 1), FAULTS):
        run, then = tmp_path / str(first), random.Random(first).randint(1, operations)
        assert performed(name, undisturbed.place, run, Fault(first)).killed
        performed(name, undisturbed.place, run, Fault(then))
        ending = performed(name, undisturbed.place, run)
        what = f"{name} killed in front of operation {first} of {operations}, and going on in front of {then}"
        assert ending.error is None, f"{what}: {ending.error}"
        assert differing(whole, tables(run)) == [], what
        assert not list(run.rglob("*.tmp")), what
