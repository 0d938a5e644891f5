"""A model, or data, joins a run that is there, and the run is as if all had been measured together."""

import pytest

import thalweg
from saved import llama, save
from thalweg.errors import ModelError, RunError
from thalweg.experiments._survey.measure import ModelSurvey
from thalweg.store import open_run

OPTIONS = thalweg.SurveyOptions(progress=False, limit=3)
TABLES = ("layers", "heads", "prompts", "profile", "claims")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp("joining")
    for name in ("one", "two"):
        save(llama(num_hidden_layers=2 + (name == "two")), path / name)
    for name in ("words", "sums"):
        (path / f"{name}.txt").write_text("".join(f"{row} {name} of a dozen letters\n" for row in range(5)))
    return path


@pytest.fixture
def run(place, tmp_path):
    return thalweg.survey(place / "one", place / "words.txt", out=tmp_path / "run", options=OPTIONS).path


def test_a_model_joins_on_the_runs_data_and_data_for_all_models(place, run, tmp_path):
    thalweg.survey(place / "two", out=run, progress=False)
    joined = thalweg.survey(run, place / "sums.txt", progress=False)
    every = [place / "one", place / "two"], (place / "words.txt", place / "sums.txt")
    together = thalweg.survey(*every, out=tmp_path / "together", options=OPTIONS)
    assert joined.header.pairs == together.header.pairs
    assert joined.status == "finished"
    assert {(pair.rows_read, pair.prompts_kept) for pair in joined.coverage} == {(3, 3)}
    for table in TABLES:
        assert getattr(joined, table).collect().equals(getattr(together, table).collect()), table


def test_what_was_measured_is_not_measured_again(place, run):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.layers.parquet")}
    thalweg.survey(place / "two", out=run, progress=False)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    thalweg.survey(place / "one", out=run, progress=False)
    assert [model.name for model in open_run(run).header.models] == [str(place / "one"), str(place / "two")]


def test_a_model_with_other_data_and_other_thresholds_are_refused(place, run):
    before = (run / "run.json").read_bytes()
    with pytest.raises(RunError, match=r"A model joins on all of its data: leave --data out\. Data join for all"):
        thalweg.survey(place / "two", place / "sums.txt", out=run, options=OPTIONS)
    with pytest.raises(RunError, match=r"belongs to another run; tau: run has 0\.3, asked for 0\.2"):
        thalweg.survey(place / "two", out=run, tau=0.2, progress=False)
    assert (run / "run.json").read_bytes() == before


def test_a_model_that_cannot_be_measured_does_not_join(place, run, monkeypatch):
    def fail(_):
        raise ModelError("its weights are damaged.")

    with monkeypatch.context() as patched:
        patched.setattr(ModelSurvey, "loaded", fail)
        with pytest.raises(ModelError, match="weights are damaged"):
            thalweg.survey(place / "two", out=run, progress=False)
    assert [model.name for model in open_run(run).header.models] == [str(place / "one")]
    assert open_run(run).profile.collect().height
    assert thalweg.survey(place / "two", out=run, progress=False).status == "finished"
