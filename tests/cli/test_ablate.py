"""``thalweg ablate``: a table, the verdict in words, JSON; mistakes in one line."""

import json

import pytest

from thalweg.experiments import SurveyOptions
from thalweg.experiments._options import PromptOptions
from thalweg.store import open_run

SMALL = ("--limit", 3, "--seeds", 1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tmp_path_factory.mktemp("runs") / "run"


def test_it_says_what_went_with_the_writer(thalweg, data, run):
    outcome = thalweg("ablate", "planted", "--data", data, *SMALL, "--out", run)
    assert outcome.code == 0
    assert all(line.startswith("planted is a test model") for line in outcome.err.splitlines())
    lines = outcome.out.splitlines()
    assert lines[0] == "planted on prompts.jsonl: means over the states and blocks of each segment"
    assert lines[1].split()[:3] == ["condition", "segment", "compression"]
    (ablated,) = [line for line in lines if line.startswith("without the MLP of block 1 ")]
    assert ablated.split()[6:8] == ["compress", "removed"]
    assert ablated.count("->") == 5
    said = [line for line in lines if line.endswith(".")]
    assert said[0].startswith("Without the MLP of block 1, compress (states 2-6): compression removed (C 1.00 -> .00)")
    assert ", sinks removed (.75 -> .00; anywhere .75 -> .00: gone); no other row becomes massive; the next" in said[0]
    assert said[1] == "Negative controls that leave what they must: 3 of 3."
    assert said[2] == "Positive controls that remove what they must: 2 of 2."
    assert lines[-1] == f"run: {run}    draw it: thalweg figures {run}"


def test_json_is_json_and_nothing_is_measured_again(thalweg, data, run, monkeypatch):
    thalweg("ablate", "planted", "--data", data, *SMALL, "--out", run)
    monkeypatch.setattr("thalweg.experiments._over_prompts.load_model", lambda *_: pytest.fail("loaded again"))
    outcome = thalweg("ablate", "planted", "--data", data, *SMALL, "--json", "--out", run)
    assert (outcome.code, outcome.err) == (0, "")
    said = json.loads(outcome.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert (said["run"], said["status"]) == (str(run), "finished")
    assert said["settings"] == {"blocks": "auto", "seeds": 1}
    assert said["coverage"][0]["prompts_kept"] == 3
    assert {row["verdict"] for row in said["verdicts"] if row["condition"] == "blocks 1"} == {"removed"}
    assert len(said["conditions"]) == 7
    assert said["answers"][0].startswith("Without the MLP of block 1")
    assert "ablation_planted" in thalweg("figures", run).out
    (found,) = open_run(run).experiments("ablation")
    assert found.header.status == "finished"


def test_without_a_massive_activation_there_is_nothing_to_ablate(thalweg, model, data, tmp_path):
    outcome = thalweg("ablate", model, "--data", data, *SMALL, "--out", tmp_path / "run")
    assert outcome.complaint.startswith("no massive activation: nothing to ablate on prompts.jsonl.")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--blocks", "9"], "--blocks 9 is out of range; this model has blocks 0 to 7"),
        (["--blocks", "7-5"], "--blocks 7-5 runs backwards"),
        (["--blocks", "first"], "got 'first'"),
        (["--segment", "wave"], "--segment wave is no segment on prompts.jsonl: expected one of compress (states 2-6)"),
        (["--seeds", "-1"], "--seeds is how often"),
        (["--limit", "0"], "--limit must be at least 1"),
        (["--sink-position", "-2"], "--sink-position counts from 0"),
    ],
)
def test_mistakes_are_one_line(thalweg, data, tmp_path, argv, said):
    assert said in thalweg("ablate", "planted", "--data", data, *argv, "--out", tmp_path / "run").complaint


def test_every_option_arrives_in_its_own_place(thalweg, asked, tmp_path):
    calls = asked("ablate")
    argv = ["ablate", "one", "--data", "here", "--data", "there", "--blocks", "0,5-7", "--seeds", 5, "--out", tmp_path]
    assert thalweg(*argv, "--limit", 7, "--tau", 0.25).code == 130
    wanted = {"model": "one", "data": ("here", "there"), "blocks": "0,5-7", "seeds": 5, "out": str(tmp_path)}
    wanted["segment"] = None
    assert calls.pop() == {**wanted, "options": PromptOptions(limit=7, tau=0.25)}
    thalweg("ablate")
    plain = {"model": "reference", "data": None, "blocks": "auto", "seeds": 3, "out": None, "options": None}
    assert calls.pop() == {**plain, "segment": None}
    thalweg("ablate", "--segment", "wave 2")
    assert calls.pop()["segment"] == "wave 2"


@pytest.mark.parametrize("verb", ["ablate", "clip"])
def test_defaults_are_the_librarys(options, verb):
    library, shown = vars(SurveyOptions()), options(verb)
    assert {"--limit", "--tau", "--sink-position", "--dtype"} <= shown.keys()
    for name in library:
        if (option := f"--{name.replace('_', '-')}") in shown:
            assert shown[option].field_info.default == library[name], name
