"""``thalweg checkpoints``: tables, sentences, JSON; what is missing is named and the exit code is 3."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.cli.test_hub import go
from tests.trained import VALUES, damage, diverged, planted, save_training

from hub_stub import commit_of, hub
from saved import save
from thalweg.store import Run, open_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return save_training(tmp_path_factory.mktemp("training") / "trained", (0, 20, 40))


@pytest.fixture
def run_of(thalweg, data, tmp_path):
    """Run the verb on the first prompts, into a run of this test."""

    def run(*argv):
        return thalweg("checkpoints", *argv, "--data", data, "--limit", 2, "--out", tmp_path / "run")

    return run


def test_it_says_what_each_checkpoint_reaches_and_what_emerges(run_of, thalweg, trained, tmp_path):
    outcome = run_of("--checkpoint-dir", trained)
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0] == "trained on prompts.jsonl"
    assert lines[1].startswith("step  max norm ratio  at state  max sink rate  at block  min normalized entropy")
    assert [line.split()[0] for line in lines[2:5]] == ["0", "20", "40"]
    assert float(lines[4].split()[1]) > 100
    assert lines[-5:-1] == [
        "massive activations from step 20 on (max norm ratio >= 10).",
        "sinks from step 20 on (max sink rate >= 0.3).",
        "valley from step 20 on (min normalized entropy <= half of the largest at an earlier state).",
        "",
    ]
    assert lines[-1] == f"run: {tmp_path / 'run'}    look at it: thalweg report {tmp_path / 'run'}"
    assert thalweg("report", tmp_path / "run").code == 0
    assert "Over training" in (tmp_path / "run" / "report.html").read_text()


def test_json_is_json_and_nothing_else(run_of, trained, tmp_path):
    directory = shutil.copytree(trained, tmp_path / "trained")
    diverged(directory / "checkpoint-50")
    (directory / "checkpoint-60").mkdir()
    outcome = run_of("--checkpoint-dir", directory, "--json")
    assert outcome.code == 3
    said = json.loads(outcome.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert (said["run"], said["status"]) == (str(tmp_path / "run"), "finished")
    assert said["missing"] == {"checkpoint-60": "it has no config.json"}
    assert [row["phenomenon"] for row in said["emergence"]] == ["massive activations", "sinks", "valley"]
    assert {row["step"] for row in said["curves"]} == {0, 20, 40, 50}
    assert len(said["answers"]) == 3
    assert [pair["prompts_kept"] for pair in said["coverage"]] == [2] * 4
    first, second = outcome.err.splitlines()
    assert first == "checkpoint-60 is not measured: it has no config.json"
    assert second.endswith("states hold NaN or Inf; their rows carry NaN.")


def test_a_damaged_checkpoint_is_named_and_the_exit_code_says_so(run_of, trained, tmp_path):
    directory = shutil.copytree(trained, tmp_path / "trained")
    damage(directory / "checkpoint-20")
    outcome = run_of("--checkpoint-dir", directory)
    assert outcome.code == 3
    [line] = outcome.err.splitlines()
    assert line.startswith("step20 is not measured: the weights of trained are damaged")
    assert [row.split()[0] for row in outcome.out.splitlines()[2:4]] == ["0", "40"]


def test_checkpoints_with_fewer_prompts_than_others_are_told(run_of, thalweg, trained, data, tmp_path):
    one = shutil.copytree(trained / "checkpoint-0", tmp_path / "trained" / "checkpoint-0").parent
    assert run_of("--checkpoint-dir", one).code == 0
    shutil.copytree(trained / "checkpoint-40", one / "checkpoint-40")
    rest = ("--checkpoint-dir", one, "--data", data, "--out", tmp_path / "run")
    outcome = thalweg("checkpoints", *rest, "--limit", 1)
    assert outcome.code == 0
    assert outcome.err.splitlines() == [
        "on prompts.jsonl some hold 1 prompts and some 2: the same --limit for all makes them comparable."
    ]
    assert thalweg("checkpoints", *rest, "--limit", 2).err == ""


def test_models_of_several_sizes_are_a_table(run_of, thalweg, tmp_path):
    names = [save(planted(2000.0, width=width), tmp_path / name) for name, width in (("wide", 64), ("thin", 32))]
    outcome = run_of(*names)
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0] == "models on prompts.jsonl"
    assert lines[1].split()[:2] == ["model", "parameters"]
    assert [line.split()[0] for line in lines[2:4]] == names[::-1]  # the smaller one first
    assert lines[-2] == ""  # nothing emerges over sizes
    assert thalweg("report", tmp_path / "run").code == 0
    assert "Over sizes" in (tmp_path / "run" / "report.html").read_text()


def test_a_step_that_a_name_shows_to_the_terminal_gives_it_no_orders(run_of, trained, tmp_path):
    directory = shutil.copytree(trained, tmp_path / "trained")
    (directory / "checkpoint-40").rename(directory / "\x1b[31mbest")
    outcome = run_of("--checkpoint-dir", directory)
    assert outcome.code == 3
    assert outcome.err == "\\x1b[31mbest is not measured: its name has no step number\n"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "checkpoints compares checkpoints of one MODEL"),
        (["planted"], "got planted alone."),
        (["planted", "--revisions", "step1"], "planted is a directory, which has no revisions"),
        (["org/one", "--revisions", "step1,,step2"], "--revisions must name at least one"),
        (["org/one", "--revisions", "step1", "--checkpoint-dir", "."], "pass one of them."),
        (["--checkpoint-dir", "nowhere"], "--checkpoint-dir nowhere is no directory."),
        (["--checkpoint-dir", "."], ". holds no checkpoint: expected directories such as checkpoint-100"),
        (["--checkpoint-dir", ".", "--revision", "step1"], "--revision goes with models of several sizes"),
        (["--checkpoint-dir", ".", "--limit", "0"], "--limit must be at least 1"),
    ],
)
def test_a_mistake_is_one_line(thalweg, tmp_path, monkeypatch, argv, said):
    monkeypatch.chdir(tmp_path)
    assert said in thalweg("checkpoints", *argv).complaint
    assert list(tmp_path.iterdir()) == []


# revisions on the hub


@dataclass(frozen=True)
class Seen:
    """What the commands said, what the hub was asked, and where the runs are."""

    said: dict[str, tuple[int, str, str]]
    asked: list[str]
    runs: Path

    @property
    def run(self) -> Run:
        return open_run(self.runs / "whole")


@pytest.fixture(scope="module")
def online(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    save(planted(VALUES[20]), folder / "sharded", max_shard_size="40KB")
    served = {
        "org/pythia@step20": folder / "sharded",
        "org/pythia@step0": trained / "checkpoint-0",
        "org/pythia": trained / "checkpoint-40",
    }
    commands = {
        "whole": ["org/pythia", "--revisions", "main,step20", "--revisions", "step30,step0"],
        "none": ["org/pythia", "--revisions", "step1,step2"],
    }
    with hub(served) as running:
        said = go(commands, folder, running.endpoint, verb="checkpoints")
    return Seen(said, running.asked, folder / "runs")


def test_a_missing_revision_is_named_and_the_rest_is_measured(online):
    code, out, err = online.said["whole"]
    assert code == 3
    assert err.splitlines() == [
        "step30 is not measured: org/pythia has no revision 'step30'. See its branches and tags on the hub."
    ]
    assert [line.split()[0] for line in out.splitlines()[2:5]] == ["0", "20", "main"]
    assert [model.revision for model in online.run.header.models] == ["step0", "step20", "main"]
    assert [pair.prompts_kept for pair in online.run.coverage] == [2, 2, 2]
    assert online.run.status == "finished"


def test_every_revision_is_known_by_its_own_commit_and_weights(online):
    commits = [commit_of("org/pythia", revision) for revision in ("step0", "step20", "main")]
    assert [model.commit for model in online.run.header.models] == commits
    kinds = [model.files.partition(":")[0] for model in online.run.header.models]
    assert kinds == ["blob", "blobs", "blob"]
    assert len({model.weights for model in online.run.header.models}) == 3


def test_each_weight_file_is_downloaded_once_and_never_two_at_a_time(online):
    downloads = [line.split("/resolve/")[1] for line in online.asked if line.startswith("GET /org")]
    weights = [one.split("/") for one in downloads if one.endswith(".safetensors")]
    commits = [commit_of("org/pythia", revision) for revision in ("step0", "step20", "main")]
    assert list(dict.fromkeys(commit for commit, _ in weights)) == commits  # in the order of training
    assert len(weights) == len({tuple(one) for one in weights}) > 3


def test_where_no_revision_is_there_the_first_reason_is_the_error(online):
    code, out, err = online.said["none"]
    assert (code, out) == (2, "")
    [line] = err.splitlines()
    assert line.startswith("thalweg: none of 2 checkpoints can be measured; step1: org/pythia has no revision 'step1'")
    assert not (online.runs / "none").exists()
