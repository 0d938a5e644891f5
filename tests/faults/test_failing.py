"""What fails for a reason that can pass loses nothing, and the same command ends with undisturbed tables."""

import errno
import os

import pytest
import torch
from tests.faults.performed import NAMES, TRAINED, Fault, differing, performed, tables
from tests.faults.share import some

from thalweg.errors import NotMeasured, RunError
from thalweg.experiments import experiments
from thalweg.store import open_run

FAILING = {
    "out of memory": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    "a device error": RuntimeError("CUDA error: unspecified launch failure"),
    "a time-out": TimeoutError("timed out"),
}
NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
EVERY = [*NAMES, TRAINED]


def waiting(path):
    """By reason, how many rows wait in a run."""
    run = open_run(path)
    every = [found for known in experiments() for folder in known.tables for found in run.experiments(folder)]
    return {
        reason: len(rows)
        for findings in every
        for coverage in findings.header.coverage
        for reason, rows in coverage.waiting.items()
    }


@pytest.mark.parametrize(
    ("name", "reason"),
    [*((name, "out of memory") for name in EVERY), ("survey", "a device error"), ("lens", "a time-out")],
)
def test_rows_that_were_not_measured_are_named_and_measured_later(name, reason, undisturbed, tmp_path):
    _, whole = undisturbed.of(name)
    fault = Fault(fails=FAILING[reason], **({"fits": 0} if name == "scan" else {}))  # its prompts have one token
    ending = performed(name, undisturbed.place, tmp_path / "run", fault)
    if ending.error is None:
        assert waiting(tmp_path / "run").keys() == {reason}
    else:
        assert isinstance(ending.error, NotMeasured)
        assert reason in str(ending.error)
        assert "Run the same command again" in str(ending.error)
    ending = performed(name, undisturbed.place, tmp_path / "run")
    assert ending.error is None
    assert waiting(tmp_path / "run") == {}
    assert differing(whole, tables(tmp_path / "run")) == []


@pytest.mark.parametrize("name", EVERY)
def test_a_disk_that_refuses_is_a_line_and_loses_nothing(name, undisturbed, tmp_path):
    operations, whole = undisturbed.of(name)
    for at in some(range(1, operations + 1), 8):
        run, number = tmp_path / str(at), NUMBERS[at % len(NUMBERS)]
        what = f"{name}, {os.strerror(number)} at operation {at} of {operations}"
        ending = performed(name, undisturbed.place, run, Fault(at, number))
        if ending.error is not None:
            assert isinstance(ending.error, RunError), what
            assert "\n" not in str(ending.error), what
        ending = performed(name, undisturbed.place, run)
        assert ending.error is None, f"{what}: {ending.error}"
        assert differing(whole, tables(run)) == [], what
