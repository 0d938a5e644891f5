"""Whatever happens to a file of a run, no verb gives other numbers, and the same command makes it whole again."""

import random
import re
import shutil

import pytest
from tests.faults.harm import HARMS
from tests.faults.looked import VERBS, drawn, look, wrong
from tests.faults.performed import NAMES, TRAINED, performed, tables
from tests.faults.share import some

FAULTS = 48
"""Of each experiment."""
REFUSED = re.compile(r"run\.json|a folder lies in its place|it has no run\.json|no thalweg run")
"""What says of what everything was measured cannot be made anew, and a folder is nobody's to remove."""


def kinds(run):
    """One file of each kind, ours or made for us."""
    found = {}
    for file in sorted(path for path in run.rglob("*") if path.is_file() and path.name != ".lock"):
        found.setdefault(re.sub(r"[0-9a-f]{8,}", "", str(file.relative_to(run))), file.relative_to(run))
    return [*found.values()]


def faults(run):
    every = [(file, harm) for file in kinds(run) for harm in HARMS]
    random.Random(0).shuffle(every)
    return some(every, FAULTS)


@pytest.mark.parametrize("name", [*NAMES, TRAINED])
def test_a_damaged_file_is_a_line_and_is_made_anew(name, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr("thalweg.shown.files_of", drawn)
    _, whole = undisturbed.of(name)
    intact, run = undisturbed.run(name), tmp_path / "run"
    shutil.copytree(intact, run)
    before = {verb: look(verb, run) for verb in VERBS}
    for file, harm in faults(intact):
        shutil.rmtree(run)
        shutil.copytree(intact, run)
        harm(run / file, random.Random(str(file)))
        what = f"{name}, {file}, {harm.__name__}"
        assert [said for verb in VERBS if (said := wrong(verb, run, before[verb]))] == [], what
        ending = performed(name, undisturbed.place, run)
        if ending.error is not None:
            assert REFUSED.search(str(ending.error)), f"{what}: {ending.error}"
            assert "\n" not in str(ending.error), what
            continue
        assert tables(run).keys() == whole.keys(), what
        assert wrong("tables", run, whole) == "", what
        look("report", run)
