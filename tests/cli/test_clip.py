"""``thalweg clip``: a table by gamma, a sentence, JSON; mistakes in one line."""

import json

import pytest

from thalweg.experiments._options import PromptOptions


def test_it_says_what_clipping_does(thalweg, data, tmp_path):
    argv = ["clip", "planted", "--data", data, "--limit", 2, "--gamma", "10,2000", "--out", tmp_path / "run"]
    outcome = thalweg(*argv)
    assert outcome.code == 0
    assert all(line.startswith("planted is a test model") for line in outcome.err.splitlines())
    lines = outcome.out.splitlines()
    assert lines[0].startswith("planted on prompts.jsonl: the massive row at states 1-8 clamped to gamma; means")
    assert lines[1].split()[:3] == ["gamma", "compression", "entropy"]
    assert [line.split()[0] for line in lines[2:5]] == ["10", "2000", "not"]
    assert lines[3].split()[1:5] == lines[4].split()[2:6]
    said, settings = [line for line in lines if line.endswith(".")]
    assert settings == "gammas: 10, 2000, states: 1-8, massive only: no."
    assert said.startswith("Clamped to 10, normalized entropy goes 0.")
    assert lines[-1] == f"run: {tmp_path / 'run'}    draw it: thalweg figures {tmp_path / 'run'}"
    again = thalweg(*argv, "--json")
    assert again.err == ""
    told = json.loads(again.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert told["settings"] == {"gammas": [10.0, 2000.0], "states": "1-8", "massive_only": False}
    assert told["sweeps"][0]["dims"] == [17, 42]
    assert {row["gamma"] for row in told["curves"]} == {10.0, 2000.0, None}
    assert "clip_planted" in thalweg("figures", tmp_path / "run").out


def test_without_a_massive_activation_gammas_have_to_be_named(thalweg, model, data, tmp_path):
    argv = ["clip", model, "--data", data, "--limit", 2, "--out", tmp_path / "run"]
    said = thalweg(*argv).complaint
    assert said.endswith("nothing to clip by default; name gammas, as in --gamma 1:1000:13.")
    assert "leave out --massive-only" in thalweg(*argv, "--gamma", "1", "--massive-only").complaint
    outcome = thalweg(*argv, "--gamma", "0.5")
    assert outcome.code == 0
    assert "there is no compress phase." in outcome.out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--gamma", "0"], "--gamma is the largest magnitude left, above 0; got 0"),
        (["--gamma", "-1:10:3"], "above 0; got '-1:10:3'"),
        (["--gamma", "1:10"], "log grids first:last:count such as 1:1000:13"),
        (["--gamma", "1", "--states", "9"], "--states 9 is out of range; this model has states 0 to 8"),
    ],
)
def test_mistakes_are_one_line(thalweg, data, tmp_path, argv, said):
    assert said in thalweg("clip", "planted", "--data", data, *argv, "--out", tmp_path / "run").complaint


def test_every_option_arrives_in_its_own_place(thalweg, asked, tmp_path):
    calls = asked("clip")
    argv = ["clip", "one", "--data", "here", "--gamma", "1:9:3", "--states", "2-6", "--massive-only", "--out", tmp_path]
    assert thalweg(*argv, "--limit", 7).code == 130
    wanted = {"gamma": "1:9:3", "states": "2-6", "massive_only": True, "out": str(tmp_path)}
    assert calls.pop() == {"model": "one", "data": ("here",), **wanted, "options": PromptOptions(limit=7)}
    thalweg("clip")
    wanted = {"gamma": None, "states": None, "massive_only": False, "out": None, "options": None}
    assert calls.pop() == {"model": "reference", "data": None, **wanted}
