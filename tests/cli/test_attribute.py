"""``thalweg attribute``: a table, a sentence, JSON; options where they belong; mistakes in one line."""

import json

import pytest

from thalweg.experiments import SurveyOptions
from thalweg.experiments._options import PromptOptions
from thalweg.store import open_run

SAID = (
    "compress (states 2-6), at position 0: block 1's MLP writes over 99.9% of the massive row, into dimensions 17, 42; "
    "the MLP of block 6 takes over 99.9% of it away again"
)


def test_it_says_which_block_writes_into_which_dimensions(thalweg, data, tmp_path):
    outcome = thalweg("attribute", "planted", "--data", data, "--limit", 4, "--out", tmp_path / "run")
    assert outcome.code == 0
    assert outcome.err.startswith("planted is a test model: its massive activation")
    lines = outcome.out.splitlines()
    assert lines[0].startswith("planted on prompts.jsonl: ")
    assert lines[1].split() == ["block", "part", "norm", "along", "share", "dimensions"]
    assert [line.split()[:2] for line in lines[2:5]] == [["-", "embedding"], ["0", "attention"], ["0", "mlp"]]
    (writing,) = [line.split() for line in lines if " writes " in line and " mlp " in line]
    assert writing[:2] == ["1", "mlp"]
    assert float(writing[4]) > 0.99
    assert lines[-4:-1] == [f"{SAID}.", "", "threshold: 0.9, dimensions: 4."]
    assert lines[-1] == f"run: {tmp_path / 'run'}    draw it: thalweg figures {tmp_path / 'run'}"
    drawn = thalweg("figures", tmp_path / "run").out
    assert "attribution_planted" in drawn


def test_json_is_json_and_nothing_else(thalweg, data, tmp_path):
    outcome = thalweg("attribute", "planted", "--data", data, "--limit", 2, "--json", "--out", tmp_path / "run")
    assert (outcome.code, outcome.err) == (0, "")
    said = json.loads(outcome.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert (said["run"], said["status"]) == (str(tmp_path / "run"), "finished")
    assert said["writers"][0]["writing_blocks"] == [1]
    assert said["answers"] == [SAID]
    assert said["coverage"][0]["prompts_kept"] == 2
    assert len(said["attribution"]) == 4 * 17


def test_nothing_written_is_said(thalweg, model, data, tmp_path):
    outcome = thalweg("attribute", model, "--data", data, "--limit", 3, "--out", tmp_path / "run")
    assert outcome.code == 0
    assert outcome.out.splitlines()[-4] == "no massive activation: nothing is written."


def test_it_goes_on_where_it_stopped(thalweg, model, data, tmp_path, monkeypatch):
    thalweg("attribute", model, "--data", data, "--limit", 3, "--out", tmp_path / "run")
    first = thalweg("attribute", model, "--data", data, "--limit", 7, "--out", tmp_path / "run")
    assert first.code == 0
    monkeypatch.setattr("thalweg.experiments._over_prompts.load_model", lambda *_: pytest.fail("loaded again"))
    assert thalweg("attribute", model, "--data", data, "--limit", 7, "--out", tmp_path / "run") == first
    (found,) = open_run(tmp_path / "run").experiments("attribution")
    assert found.table("contributions").collect()["prompt"].unique().to_list() == list(range(7))


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--limit", "0"], "--limit must be at least 1"),
        (["--sink-position", "-2"], "--sink-position counts from 0"),
        (
            ["--segment", "20"],
            "--segment 20 is no segment on bundled: expected one of compress (states 2-5), or a state",
        ),
        (["nowhere/at-all"], "nowhere/at-all"),
        (["--data", "missing.jsonl"], "missing.jsonl"),
    ],
)
def test_mistakes_are_one_line(thalweg, tmp_path, argv, said):
    assert said in thalweg("attribute", *argv, "--out", tmp_path / "run").complaint


def test_another_run_is_refused(thalweg, model, data, tmp_path):
    thalweg("attribute", model, "--data", data, "--limit", 2, "--out", tmp_path / "run")
    again = thalweg("attribute", model, "--data", data, "--limit", 2, "--tau", 0.5, "--out", tmp_path / "run")
    assert "tau: run has 0.3, asked for 0.5" in again.complaint


OTHER = {
    "text_field": "text",
    "limit": 7,
    "max_length": 33,
    "bos": "never",
    "tau": 0.25,
    "sink_position": 2,
    "massive_ratio": 12.5,
    "revision": "step7",
    "dtype": "float64",
    "device": "cpu",
    "device_map": "auto",
    "offload_folder": "folder",
    "batch_tokens": 77,
    "batch_size": 3,
}
SWITCHES = ("whole_file", "allow_pickle", "trust_remote_code")


def test_every_option_arrives_in_its_own_place(thalweg, asked, tmp_path):
    calls = asked("attribute")
    argv = ["attribute", "one", "--data", "here", "--data", "there", "--out", tmp_path]
    for name, value in OTHER.items():
        argv += [f"--{name.replace('_', '-')}", value]
    assert thalweg(*argv, "--max-memory", "cpu=8GiB").code == 130
    wanted = {"model": "one", "data": ("here", "there"), "segment": None, "out": str(tmp_path)}
    assert calls.pop() == {**wanted, "options": PromptOptions(**OTHER, max_memory={"cpu": "8GiB"})}
    assert thalweg("attribute", "--segment", "wave 2").code == 130
    assert calls.pop()["segment"] == "wave 2"
    for switch in SWITCHES:
        thalweg("attribute", f"--{switch.replace('_', '-')}")
        plain = {"model": "reference", "data": None, "segment": None, "out": None}
        assert calls.pop() == {**plain, "options": PromptOptions(**{switch: True})}


def test_defaults_are_the_librarys(options):
    for name, default in vars(SurveyOptions()).items():
        if (option := f"--{name.replace('_', '-')}") in options("attribute"):
            assert options("attribute")[option].field_info.default == default, name
