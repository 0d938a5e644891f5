"""``thalweg survey``: data on stdout, talk on stderr, every option where it belongs, exit codes with a meaning."""

import json
from dataclasses import fields, replace

import polars as pl
import pytest

from thalweg import metrics
from thalweg.experiments import SurveyOptions
from thalweg.store import open_run


def test_a_table_is_printed_for_each_model_on_each_data_set(thalweg, model, data, tmp_path):
    outcome = thalweg("survey", model, "--data", data, "--limit", 5, "--out", tmp_path / "run")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0] == "tiny on prompts.jsonl"
    assert any("normalized entropy" in line and "sink rate" in line for line in lines)
    profile = open_run(tmp_path / "run").profile.filter(pl.col("metric") == "entropy_normalized").collect()
    for state, mean in profile.select("index", "mean").iter_rows():
        [row] = [line.split() for line in lines if line.split()[:1] == [str(state)]]
        assert f"{mean:.3f}" in row
    assert lines[-1] == f"run: {tmp_path / 'run'}    look at it: thalweg report {tmp_path / 'run'}"


def test_json_is_json_and_nothing_else(thalweg, model, data, tmp_path):
    outcome = thalweg("survey", model, "--data", data, "--limit", 3, "--json", "--out", tmp_path / "run")
    assert (outcome.code, outcome.err) == (0, "")
    said = json.loads(outcome.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert (said["run"], said["status"], said["bound_violations"]) == (str(tmp_path / "run"), "finished", 0)
    assert said["coverage"][0]["prompts_kept"] == 3
    assert {row["model"] for row in said["phases"]} == {model}
    assert said["coupling"]


def test_remarks_go_to_stderr(thalweg, model, tmp_path):
    (tmp_path / "short.txt").write_text("ab\na line of more than ten bytes\n")
    outcome = thalweg("survey", model, "--data", tmp_path / "short.txt", "--out", tmp_path / "run")
    assert outcome.code == 0
    assert outcome.err == "1 prompts are too short for a sink rate: a uniform head passes tau.\n"
    assert "too short" not in outcome.out


def test_a_bound_that_is_violated_is_exit_code_4(thalweg, model, data, tmp_path, monkeypatch):
    own = metrics.StatesOfBatch.measured

    def measured(states):
        found = own(states)
        return replace(found, columns={**found.columns, "bound_violated": [True] * len(found.massive)})

    monkeypatch.setattr(metrics.StatesOfBatch, "measured", measured)
    outcome = thalweg("survey", model, "--data", data, "--limit", 2, "--out", tmp_path / "run")
    assert outcome.code == 4
    assert "6 states violate a bound of the theory" in outcome.err
    assert "Traceback" not in outcome.err
    assert open_run(tmp_path / "run").bound_violations == 6
    assert thalweg("survey", model, "--data", data, "--limit", 2, "--json", "--out", tmp_path / "run").code == 4


def test_a_survey_goes_on_where_it_stopped(thalweg, model, data, tmp_path, monkeypatch):
    thalweg("survey", model, "--data", data, "--limit", 5, "--out", tmp_path / "run")
    first = thalweg("survey", model, "--data", data, "--limit", 9, "--out", tmp_path / "run")
    assert first.code == 0
    monkeypatch.setattr("thalweg.experiments._over_prompts.load_model", lambda *_: pytest.fail("loaded again"))
    again = thalweg("survey", model, "--data", data, "--limit", 9, "--out", tmp_path / "run")
    assert again == first
    assert open_run(tmp_path / "run").prompts.collect()["prompt"].to_list() == list(range(9))


def test_without_a_place_the_run_is_named_after_the_model(thalweg, model, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "run: runs/tiny " in thalweg("survey", model, "--data", data, "--limit", 1).out
    monkeypatch.chdir(model)
    assert "run: runs/tiny " in thalweg("survey", ".", "--data", data, "--limit", 1).out


def test_several_models_and_data_sets_share_a_run(thalweg, model, data, tmp_path):
    (tmp_path / "lines.txt").write_text("One short line of plain text.\n")
    outcome = thalweg(
        "survey",
        model,
        "planted",
        "--data",
        data,
        "--data",
        tmp_path / "lines.txt",
        "--limit",
        2,
        "--out",
        tmp_path / "run",
    )
    assert outcome.code == 0
    for one in ("tiny", "planted"):
        for source in ("prompts.jsonl", "lines.txt"):
            assert f"{one} on {source}" in outcome.out
    assert len(open_run(tmp_path / "run").coverage) == 4


OTHER = {
    "text_field": "text",
    "limit": 7,
    "sample": 5,
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
    "engine": "local",
    "batch_tokens": 77,
    "batch_size": 3,
    "seed": 5,
}
SWITCHES = ("whole_file", "chat", "variants", "keep_text", "allow_pickle", "trust_remote_code")
ELSEWHERE = {"shard_rows", "progress", "tokenizer"}  # of the library alone


def test_every_option_arrives_in_its_own_place(thalweg, asked, tmp_path):
    """Each with a value of its own, so that none can read its neighbour's."""
    assert {field.name for field in fields(SurveyOptions)} == {*OTHER, *SWITCHES, "max_memory"} | ELSEWHERE
    calls = asked("survey")
    argv = ["survey", "one", "two", "--data", "here", "--data", "there", "--out", tmp_path]
    for name, value in OTHER.items():
        argv += [f"--{name.replace('_', '-')}", value]
    assert thalweg(*argv, "--max-memory", "cpu=8GiB", "--max-memory", "0=20GiB").code == 130
    expected = SurveyOptions(**OTHER, max_memory={"cpu": "8GiB", 0: "20GiB"})
    wanted = {"models": ["one", "two"], "data": ("here", "there"), "out": str(tmp_path), "options": expected}
    assert calls.pop() == wanted
    for switch in SWITCHES:
        thalweg("survey", f"--{switch.replace('_', '-')}")
        plain = {"models": "reference", "data": None, "out": None}
        assert calls.pop() == {**plain, "options": SurveyOptions(**{switch: True})}


def test_defaults_are_the_librarys(options):
    shown = options("survey")
    for field in fields(SurveyOptions):
        option = f"--{field.name.replace('_', '-')}"
        if field.name in ELSEWHERE:
            assert option not in shown
        else:
            assert shown[option].field_info.default == field.default, field.name
