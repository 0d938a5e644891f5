"""A survey holds no more memory the longer it gets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.faults.share import times

ROOT = Path(__file__).parents[2]


FEW = 6


def held(model, shards):
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    told = subprocess.run(
        [sys.executable, "-m", "tests.faults.memory", str(model), str(64 * shards)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path},
    )
    *after_each, most = (int(word) for word in told.stdout.split())
    assert len(after_each) == shards
    return after_each, most


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not tell a process's memory")
def test_a_survey_of_many_prompts_holds_no_more_than_one_of_few(undisturbed):
    model, shards = undisturbed.place / "model", max(FEW, times(48))
    after_each, most = held(model, shards)
    assert after_each[-1] <= 1.05 * after_each[1]
    if shards > FEW:
        assert most <= 1.05 * held(model, FEW)[1]
