"""``thalweg show``: what a run holds, what is damaged, and the commands that made it."""

import json

import pytest
from tests.compared_run import with_ablation
from tests.faults.harm import HARMS
from tests.synthetic_run import PLAIN, PLANTED, build_run, header, open_survey, session, write_parts

import thalweg as library
from thalweg.store import open_run

DATA = ("words",)


@pytest.fixture
def run(tmp_path):
    return with_ablation(build_run(tmp_path / "a run", (PLANTED, PLAIN), DATA).path).path


def test_a_run_tells_what_it_holds(thalweg, run):
    outcome = thalweg("show", run)
    assert (outcome.code, outcome.err) == (0, "")
    out = " ".join(outcome.out.split())
    for words in (
        "lab/planted main 8 4 float32 - sha256:lab/planted",
        "lab/plain main words 8 8 0",
        "blocks: auto finished 3 states 243",
        "layers 128, heads 448",
        "run.json",
        "made by thalweg survey lab/planted lab/plain",
    ):
        assert words in out, words
    told = json.loads(thalweg("show", run, "--json").out)
    assert [row["experiment"] for row in told["experiments"]] == ["survey", "ablation"]
    rows = {table: getattr(open_run(run), table).collect().height for table in ("layers", "profile", "claims")}
    assert {table: told["experiments"][0]["rows"][table] for table in rows} == rows
    whole = sum(file.stat().st_size for file in run.rglob("*") if file.is_file() and file.name != ".lock")
    assert sum(told["sizes"].values()) == whole
    assert told["damaged"] == []


def test_what_was_stopped_says_what_is_missing(thalweg, tmp_path):
    asked = header((PLANTED,), DATA)
    with open_survey(tmp_path / "run", asked, session((PLANTED,), command=("thalweg", "survey", "it's"))) as writer:
        write_parts(writer, (PLANTED,), DATA, prompts=4)
        writer.update(status="interrupted")
    outcome = thalweg("show", tmp_path / "run")
    assert outcome.code == 0
    assert "profile, phases, segments, claims and coupling" in " ".join(outcome.out.split())
    assert """  thalweg survey 'it'"'"'s'""" in outcome.out
    assert "interrupted" in outcome.out


def files(run):
    return sorted(path for path in run.rglob("*") if path.is_file() and path.name not in (".lock", "run.json"))


@pytest.mark.parametrize("harm", [harm for harm in HARMS if harm.__name__ != "foreign"], ids=lambda harm: harm.__name__)
@pytest.mark.parametrize("ending", [".layers.parquet", "profile.parquet", "header.json", "000000004.json"])
def test_what_is_damaged_is_named(thalweg, run, chance, harm, ending):
    file = next(path for path in files(run) if path.name.endswith(ending))
    before = file.read_bytes()
    harm(file, chance)
    if file.is_file() and file.read_bytes() == before:
        pytest.skip("nothing to swap with")
    outcome = thalweg("show", run)
    gone = ending == "header.json" and not file.exists()
    assert outcome.code == 3
    assert str(file if not gone else file.parent.name) in outcome.out or "records are missing" in outcome.out
    assert "damaged or missing:" in outcome.out


@pytest.fixture
def chance():
    import random

    return random.Random(0)


def test_looking_touches_nothing(run):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    library.show(run)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_what_is_no_run_is_one_line(thalweg, tmp_path):
    assert "there is no such directory" in thalweg("show", tmp_path / "nowhere").complaint
