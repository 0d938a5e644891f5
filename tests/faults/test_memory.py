"""A survey holds no more memory the longer it gets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.faults.share import times

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not tell a process's memory")
def test_a_survey_of_many_prompts_holds_no_more_than_one_of_few(undisturbed):
    prompts = 64 * max(6, times(48))
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    told = subprocess.run(
        [sys.executable, "-m", "tests.faults.memory", str(undisturbed.place / "model"), str(prompts)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path},
    )
    held = [int(word) for word in told.stdout.split()]
    assert len(held) == prompts // 64
    assert held[-1] <= 1.05 * held[1]
