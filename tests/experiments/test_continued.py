"""A run stands for its model and data; what joins a run is loaded as its model was, and reads what it likes."""

import json

import polars as pl
import pytest
from tests.probed import films

import thalweg
from saved import llama, save
from thalweg.errors import UsageError
from thalweg.experiments._views import pairs


def written(path, count, word):
    path.write_text(
        "".join(json.dumps({"text": f"{row} {word} of water " * (1 + row % 2)}) + "\n" for row in range(count))
    )
    return str(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save(llama(), tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return written(tmp_path_factory.mktemp("first") / "first.jsonl", 9, "bottles")


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    return written(tmp_path_factory.mktemp("second") / "second.jsonl", 5, "cups")


def quiet(**options):
    return thalweg.SurveyOptions(progress=False, **options)


@pytest.fixture(scope="module")
def run(model, first, tmp_path_factory):
    """Nothing of how it was measured is a default."""
    asked = quiet(dtype="float64", bos="always", max_length=20, limit=4, tau=0.25, massive_ratio=5.0, sink_position=1)
    return thalweg.survey(model, first, out=tmp_path_factory.mktemp("runs") / "a run [1]", options=asked)


def prompts(findings, table):
    return sorted(findings.table(table).select("data", "prompt").unique().collect().iter_rows())


def test_a_run_stands_for_its_model_its_data_and_how_they_are_read(run):
    for verb, table in (("lens", "lens"), ("attribute", "states"), ("ablate", "losses"), ("clip", "losses")):
        more = {"ablate": {"blocks": [0], "seeds": 0}, "clip": {"gamma": [1.0]}}.get(verb, {})
        found = getattr(thalweg, verb)(str(run.path), options=quiet(), **more)
        assert found.run == run.path
        assert prompts(found, table) == [("first.jsonl", row) for row in range(4)]
        assert found.header.resolved["dtype"] == "auto"
        assert found.header.resolved["max_length"] == 20
    assert thalweg.open_run(run.path).header == run.header


@pytest.mark.parametrize("given", [None, 0])
def test_a_sink_position_is_taken_over_where_it_was_given(model, first, tmp_path, given):
    run = thalweg.survey(model, first, out=tmp_path / "run", options=quiet(limit=3, sink_position=given))
    found = thalweg.attribute(run.path, options=quiet())
    assert found.header.settings.get("sink_position") == given


def test_a_survey_of_a_run_extends_it(run):
    grown = thalweg.survey(run.path, options=quiet(limit=6))
    assert grown.header.identity == run.header.identity
    assert grown.coverage[0].prompts_kept == 6


def test_other_data_join_any_run_and_stay_apart(run, model, second):
    whole = thalweg.lens(run.path, second, options=quiet())
    assert prompts(whole, "lens") == [("second.jsonl", row) for row in range(5)]
    again = thalweg.lens(model, second, out=run.path, options=quiet(limit=2))
    assert again.header.key == whole.header.key
    assert {pair.data for pair in pairs(thalweg.open_run(run.path))} == {"first.jsonl"}
    alone = thalweg.lens(model, second, out=run.path.parent / "alone", options=quiet(dtype="float64", bos="always"))
    columns = ["prompt", "state", "loss_sum"]
    assert whole.table("lens").select(columns).collect().equals(alone.table("lens").select(columns).collect())
    report = thalweg.write_report(run.path).read_text()
    assert "second.jsonl" in report


def test_a_survey_joins_what_a_lens_has_begun(model, first, second, tmp_path):
    lens = thalweg.lens(model, second, out=tmp_path / "run", options=quiet(limit=2))
    assert thalweg.open_run(tmp_path / "run").header.data == ()
    survey = thalweg.survey(model, first, out=tmp_path / "run", options=quiet(limit=2))
    assert survey.status == "finished"
    assert thalweg.open_run(tmp_path / "run").experiments("lens")[0].header.key == lens.header.key


def test_a_name_stands_for_one_data_set_in_all_of_a_run(run, tmp_path):
    other = written(tmp_path / "first.jsonl", 3, "seas")
    with pytest.raises(UsageError, match=r"hash of first.jsonl"):
        thalweg.lens(run.path, other, options=quiet())


def test_a_probe_is_of_the_model_as_the_run_has_it(run, tmp_path):
    data = films(tmp_path / "films.jsonl", 40, 0)
    found = thalweg.probe(run.path, data, options=thalweg.SurveyOptions(progress=False))
    assert found.run == run.path
    (settings,) = [json.loads(file.read_text()) for file in run.path.glob("features/*/settings.json")]
    asked = {"dtype": "float64", "bos": "always", "max_length": 64}  # the model's context: a probe cuts texts by itself
    assert {name: settings[name] for name in asked} == asked


def test_a_training_of_a_lens_is_known_by_its_data(run, first, second):
    schedule = {"steps": 1, "step_tokens": 8, "options": quiet(limit=2)}
    one, other = (thalweg.train_tuned(run.path, data, **schedule) for data in (first, second))
    assert one.header.key != other.header.key
    assert other.table("training").select(pl.col("data").unique()).collect()["data"].to_list() == ["second.jsonl"]


@pytest.mark.parametrize(
    ("verb", "asked", "said"),
    [
        ("lens", {"options": {"dtype": "float32"}}, r"dtype of .*tiny@local: run has float64, asked for float32"),
        ("lens", {"options": {"bos": "never"}}, r"bos of .*tiny@local: run has always, asked for never"),
        ("lens", {"options": {"revision": "step1"}}, r"--revision step1: .* holds .*tiny at local"),
        ("lens", {"out": "elsewhere"}, r"is a run, which is joined; got --out elsewhere beside it"),
        ("ablate", {"data": "second"}, r"data: run has first.jsonl, asked for second.jsonl"),
        ("attribute", {"options": {"max_length": 8}}, r"max_length: run has 20, asked for 8"),
        ("clip", {"gamma": [1.0], "options": {"tau": 0.5}}, r"tau: run has 0.25, asked for 0.5"),
        (
            "survey",
            {"options": {"dtype": "bfloat16"}},
            r"run has float64, asked for bfloat16.*without --dtype it is",
        ),
    ],
)
def test_what_contradicts_the_run_is_one_line(run, second, verb, asked, said):
    options = quiet(**asked.pop("options", {}))
    data = [second] * ("data" in asked)
    asked = {name: value for name, value in asked.items() if name != "data"}
    with pytest.raises(UsageError, match=said):
        getattr(thalweg, verb)(run.path, *data, options=options, **asked)


def test_a_run_beside_models_is_one_line(run, model):
    with pytest.raises(UsageError, match="stands for its models"):
        thalweg.survey([str(run.path), model], options=quiet())


@pytest.mark.parametrize("verb", ["survey", "checkpoints"])
def test_a_run_of_an_accelerator_goes_on_here_in_its_own_type(verb, tmp_path):
    """Made in bfloat16, which --dtype auto is there and not here."""
    whole, data = save(llama().bfloat16(), tmp_path / "steps" / "step1"), tmp_path / "lines.txt"
    data.write_text("a line of words\nand another one\n")
    asked = {"data": str(data), "out": tmp_path / "run", "progress": False}
    asked |= {"models": whole} if verb == "survey" else {"checkpoint_dir": tmp_path / "steps"}
    getattr(thalweg, verb)(**asked, dtype="bfloat16", limit=1)
    getattr(thalweg, verb)(**asked)
    run = thalweg.open_run(tmp_path / "run")
    assert ([facts.dtype for facts in run.header.models], run.prompts.collect().height) == (["bfloat16"], 2)
