"""Headers that somebody wrote on purpose: a line or an answer, no traceback, no memory, nothing written elsewhere."""

import json
import random
import shutil
from pathlib import Path

import pytest
from tests.faults.hostile import changed, write
from tests.faults.looked import VERBS, drawn, look
from tests.faults.performed import NAMES, TRAINED
from tests.faults.share import times

from thalweg.errors import ThalwegError

FAULTS = 100
"""Of each experiment; each is read by every verb."""
MEMORY = 2 * 2**30
PEAK = Path("/proc/self/clear_refs")
"""Where Linux is told to begin anew with the largest memory that a process has held."""


def most() -> int:
    """Bytes that this process has held at most since that, or at all."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


@pytest.mark.parametrize("name", [*NAMES, TRAINED])
def test_a_hostile_header_is_a_line_or_harmless(name, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr("thalweg.shown.files_of", drawn)
    undisturbed.of(name)
    intact, run, chance = undisturbed.run(name), tmp_path / "run", random.Random(name)
    shutil.copytree(intact, run)
    files = [intact / "run.json", *sorted(intact.glob("*/*/header.json"))]
    if PEAK.exists():
        PEAK.write_text("5")
        before = most()
    for _ in range(times(FAULTS)):
        file = chance.choice(files)
        values = json.loads(file.read_text())
        values.pop("checksum")
        document, harm = changed(values, chance)
        write(run / file.relative_to(intact), document)
        for verb in VERBS:
            what = f"{name}, {file.relative_to(intact)}: {harm}: {verb}"
            said = ""
            try:
                look(verb, run)
            except ThalwegError as error:
                said = str(error)
            except Exception as error:
                pytest.fail(f"{what}: {type(error).__name__}: {error}")
            assert "\n" not in said, what
            assert len(said) < 1500, what
        shutil.copyfile(file, run / file.relative_to(intact))
    assert {path.name for path in tmp_path.iterdir()} <= {"looked", "run"}
    if PEAK.exists():
        assert most() - before < MEMORY
