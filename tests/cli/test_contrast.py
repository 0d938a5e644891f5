"""``thalweg contrast``: a table, a sentence, JSON; runs and models; mistakes in one line."""

import json

import pytest
from tests.contrasted import DEPENDENT, contrasted_run

from thalweg.experiments import SurveyOptions
from thalweg.experiments._options import ThresholdOptions
from thalweg.store import open_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return contrasted_run(tmp_path_factory.mktemp("runs") / "run").path


def test_it_lists_the_heads_that_change_and_says_so(thalweg, run):
    outcome = thalweg("contrast", run)
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0] == "lab/inert on words: heads whose sink score changes most"
    assert lines[1].split()[:8] == ["block", "head", "top", "bottom", "difference", "low", "high", "q"]
    listed = [tuple(map(int, line.split()[:2])) for line in lines[2:] if line[:1].isspace() and line.split()]
    assert set(listed[:3]) == set(DEPENDENT)
    assert " of 24 heads change their sink score from the top prompts to the bottom ones, head " in lines[-4]
    assert lines[-2] == "60 prompts of 20 tokens compared, 6 a side."
    assert lines[-1] == f"run: {run}    draw it: thalweg figures {run}"


def test_no_head_is_an_answer(thalweg, tmp_path):
    path = contrasted_run(tmp_path / "run", prompts=6).path
    outcome = thalweg("contrast", path, "--top", 1)
    assert outcome.code == 0
    assert outcome.out.splitlines()[0].endswith("heads whose sink score changes most: none")
    assert "none of 24 heads is seen to change its sink score from the top prompt to the bottom one" in outcome.out
    assert "p cannot fall below 0.067 with 6 prompts, 1 a side: no head can be found; " in outcome.out


def test_json_is_json_and_nothing_else(thalweg, run):
    outcome = thalweg("contrast", run, "--top", 10, "--by", "mixing", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    said = json.loads(outcome.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert (said["run"], said["status"]) == (str(run), "finished")
    assert said["settings"]["by"] == "mixing"
    assert said["rankings"][0]["per_side"] == 10
    assert len(said["heads"]) == 2 * 24
    assert len(said["prompts"]) == 20
    assert len(said["answers"]) == 1


def test_a_model_is_surveyed_at_one_length(thalweg, model, data, tmp_path):
    outcome = thalweg("contrast", model, "--data", data, "--limit", 12, "--length", 18, "--out", tmp_path / "run")
    assert outcome.code == 0
    assert "12 prompts of 18 tokens compared, 5 a side" in outcome.out
    assert open_run(tmp_path / "run").header.max_length == 18


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--top", "0"], "--top is a number of prompts a side"),
        (["--top", "31"], "ask for --top 30 at most"),
        (["--length", "21"], "Ask for --length 20"),
        (["--length", "x"], "--length is a number of tokens, 2 or more, or any; got x."),
        (["--by", "sinks"], "--by sinks is no metric of heads"),
        (["--fdr", "1.5"], "--fdr is a share"),
        (["--data", "gsm8k"], "--data: a run is contrasted as it was measured"),
        (["--limit", "5", "--bos", "never"], "--bos, --limit: a run is contrasted"),
    ],
    ids=" ".join,
)
def test_mistakes_are_one_line(thalweg, run, argv, said):
    assert said in thalweg("contrast", run, *argv).complaint


def test_what_is_no_run_is_refused(thalweg, tmp_path):
    assert "is neither: it has no run.json and no config.json" in thalweg("contrast", tmp_path).complaint
    assert "nowhere" in thalweg("contrast", tmp_path / "nowhere").complaint
    for name in ("one", "two"):
        contrasted_run(tmp_path / name, prompts=2)
    said = thalweg("contrast", tmp_path / "tow").complaint  # and the hub is not asked for it
    assert said.endswith(f"there is no directory {tmp_path / 'tow'}. Did you mean {tmp_path / 'two'}?")
    (tmp_path / "run.json").write_text("{")
    assert "is damaged: it is not JSON" in thalweg("contrast", tmp_path).complaint


def test_every_option_arrives_in_its_own_place(thalweg, asked, tmp_path):
    calls = asked("contrast")
    own = {"length": "99", "top": 7, "by": "svi", "fdr": 0.2, "seed": 5, "out": str(tmp_path)}
    argv = ["contrast", "one", "--data", "here", "--tau", 0.2, "--limit", 3]
    for name, value in own.items():
        argv += [f"--{name}", value]
    assert thalweg(*argv).code == 130
    assert calls.pop() == {
        "model_or_run": "one",
        "data": ("here",),
        **own,
        "options": ThresholdOptions(tau=0.2, limit=3),
    }
    assert thalweg("contrast").code == 130
    plain = {"length": None, "top": None, "by": "sink_score", "fdr": 0.05, "seed": 0, "out": None}
    assert calls.pop() == {"model_or_run": "reference", "data": None, **plain, "options": None}


def test_defaults_are_the_librarys(options):
    shown = options("contrast")
    assert "--max-length" not in shown
    for name, default in vars(SurveyOptions()).items():
        if (option := f"--{name.replace('_', '-')}") in shown and option != "--seed":
            assert shown[option].field_info.default == default, name
