"""The run of a training: the numbers of a survey, continued, replaced, refused, and whole wherever a kill falls."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from tests.monitor import small
from transformers import GPT2Config, GPT2LMHeadModel

from saved import llama, save
from thalweg import SurveyOptions, survey
from thalweg.errors import DataError, RunError, UsageError
from thalweg.monitor import Monitor
from thalweg.report import _page, write_report
from thalweg.store import AGGREGATES, _files, open_run

KEYS = ("model", "revision")


@pytest.fixture
def model():
    return small.model()


def shaken(model, seed):
    """Other weights, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=generator))
    return model


def steps_of(path, model, steps):
    watching = small.monitor(path)
    for step in steps:
        watching.step(shaken(model, step), step)
    return watching


def test_numbers_are_those_of_a_survey_of_the_checkpoint_saved_at_that_step(tmp_path, model):
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*small.TEXTS, "not measured"]))
    watching = small.monitor(tmp_path / "training", texts=data, every=2, prompts=3)

    def look(trained, step):
        if watching.step(trained, step):
            save(trained, tmp_path / f"checkpoint-{step}")

    small.train(model, look)
    options = SurveyOptions(limit=3, max_length=32, device="cpu")
    run = open_run(tmp_path / "training")
    for step in (2, 4):
        surveyed = survey(str(tmp_path / f"checkpoint-{step}"), str(data), out=tmp_path / f"run{step}", options=options)
        for table in (
            "layers",
            "heads",
            "massive",
            "prompts",
            "profile",
            "phases",
            "segments",
            "claims",
            "coupling",
        ):
            own = getattr(run, table).filter(revision=f"step{step}").drop(KEYS).collect()
            assert_frame_equal(own, getattr(surveyed, table).drop(KEYS).collect())  # the same batches: to the last bit
            assert own.height or table in ("massive", "segments", "claims")


def test_averages_made_step_by_step_are_those_made_at_once(tmp_path, model):
    watching = steps_of(tmp_path, model, [0, 1, 2, 3])
    watching.measure(shaken(model, 9), 1)
    watching.finish()
    grown = small.tables(tmp_path)
    assert grown["curves"]["revision"].unique(maintain_order=True).to_list() == ["step0", "step1", "step2", "step3"]
    for table in AGGREGATES:
        (open_run(tmp_path).survey.directory / f"{table}.parquet").unlink()
    small.monitor(tmp_path, every=9).begin(model, 4)  # makes what is missing, and measures nothing
    for table, rows in small.tables(tmp_path).items():
        assert_frame_equal(rows, grown[table])


def test_a_step_measured_again_replaces_the_earlier_one_and_it_is_said(tmp_path, model, caplog):
    watching = steps_of(tmp_path, model, [0, 1, 2])
    before = small.tables(tmp_path)
    with caplog.at_level(logging.WARNING, "thalweg.monitor"):
        watching.measure(shaken(model, 3), 1)
    assert "step1" in caplog.text
    assert "gives way" in caplog.text
    after = small.tables(tmp_path)
    for table in ("layers", "heads", "profile"):
        others = pl.col("revision") != "step1"
        assert_frame_equal(before[table].filter(others), after[table].filter(others))
        assert not before[table].equals(after[table])
        assert before[table].height == after[table].height


def test_a_training_taken_up_again_goes_on_in_the_same_run(tmp_path, model):
    whole = steps_of(tmp_path / "whole", small.model(), [0, 1, 2, 3])
    whole.finish()
    steps_of(tmp_path / "parts", model, [0, 1])
    resumed = small.monitor(tmp_path / "parts")  # in the same process: the earlier one lets go
    for step in (2, 3):
        resumed.step(shaken(model, step), step)
    assert open_run(tmp_path / "parts").status == "started"
    resumed.finish()
    for table, rows in small.tables(tmp_path / "whole").items():
        assert_frame_equal(rows, small.tables(tmp_path / "parts")[table])
    assert open_run(tmp_path / "parts").status == "finished"


def test_begin_takes_up_a_training_between_two_measurements_without_measuring(tmp_path, model):
    steps_of(tmp_path, model, [0, 1]).finish()
    watching = small.monitor(tmp_path, every=5)
    assert watching.begin(model, 3) is None
    assert open_run(tmp_path).status == "started"
    assert [one.revision for one in open_run(tmp_path).header.models] == ["step0", "step1"]
    assert watching.step(model, 5)
    assert small.record_steps(tmp_path) == [0, 1, 5]


def test_other_directories_and_runs_are_refused_before_a_model_is_seen(tmp_path, model):
    steps_of(tmp_path / "run", model, [0]).finish()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("buy milk")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="other files and no run"):
        small.monitor(tmp_path / "notes")
    with pytest.raises(RunError, match="is a file"):
        small.monitor(tmp_path / "file")
    with pytest.raises(RunError, match="belongs to another run; max_length"):
        small.monitor(tmp_path / "run", max_length=16)
    with pytest.raises(RunError, match="belongs to another run; data"):
        small.monitor(tmp_path / "run", texts="bundled")
    with pytest.raises(UsageError, match="tokenizer"):
        Monitor("gpt2", out=tmp_path / "new")


def test_another_training_is_refused_before_it_begins_even_where_failures_are_forgiven(tmp_path, model):
    steps_of(tmp_path, model, [0]).finish()
    for step in (0, 7):
        watching = small.monitor(tmp_path, every=5, strict=False)
        with pytest.raises(RunError, match="another model, with 2 blocks, 4 heads, 32 width"):
            watching.begin(llama(num_hidden_layers=3), step)
    assert small.record_steps(tmp_path) == [0]


def test_a_model_that_cannot_be_measured_is_refused_before_the_training(tmp_path):
    with pytest.raises(UsageError, match="holds none"):
        small.monitor(tmp_path, strict=False).begin(torch.nn.Linear(2, 2))
    few = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=16, n_positions=64))
    with pytest.raises(UsageError, match="16 rows"):
        small.monitor(tmp_path).begin(few)


def test_a_measurement_that_fails_switches_the_monitor_off_and_training_goes_on(tmp_path, model, caplog):
    alone = small.train(small.model())
    watching = small.monitor(tmp_path, strict=False)
    seen = []

    def look(trained, step):
        if step == 3:
            trained.model.layers[0].register_forward_hook(fails_in_evaluation)
        seen.append(watching.step(trained, step))

    with caplog.at_level(logging.WARNING, "thalweg.monitor"):
        small.train(model, look).assert_equals(alone)
    assert [found is not None for found in seen] == [True, True, False, False, False]
    [said] = [line.getMessage() for line in caplog.records]
    assert said == "the monitor is off from step 3 on, the training goes on: no luck today"
    assert open_run(tmp_path).status == "failed"
    assert small.record_steps(tmp_path) == [1, 2]
    assert watching.finish(model, 9) is None
    assert open_run(tmp_path).status == "failed"


def test_strict_ends_the_training_with_the_error(tmp_path, model):
    watching = small.monitor(tmp_path)
    watching.step(model, 0)
    model.model.layers[0].register_forward_hook(fails_in_evaluation)
    with pytest.raises(ValueError, match="no luck"):
        watching.step(model, 1)
    assert open_run(tmp_path).status == "failed"


def fails_in_evaluation(module, *_):
    if not module.training:
        raise ValueError("no luck\ntoday")


@pytest.mark.parametrize(("status", "error"), [("failed", ZeroDivisionError), ("interrupted", KeyboardInterrupt)])
def test_a_with_block_says_how_the_training_ended(tmp_path, model, status, error):
    with small.monitor(tmp_path) as watching:
        watching.step(model, 0)
    assert open_run(tmp_path).status == "finished"
    with pytest.raises(error), small.monitor(tmp_path) as watching:  # noqa: PT012 - that is what a training does
        watching.step(model, 1)
        raise error
    assert open_run(tmp_path).status == status


def test_prompts_that_the_model_cannot_take_are_named(tmp_path, model):
    with pytest.raises(DataError, match="no prompt"):
        small.monitor(tmp_path, texts=[""]).step(model, 0)


class Killed(BaseException):
    """The process ends here."""


def killing(monkeypatch, at):
    """Let the process end while it writes its ``at``-th file: half of it is there, under its temporary name."""
    write, count = _files.write_whole, [0]

    def write_whole(path, content):
        count[0] += 1
        if count[0] == at:
            path.with_name(path.name + _files.TEMPORARY).write_bytes(content[: len(content) // 2])
            raise Killed
        write(path, content)

    for name, module in list(sys.modules.items()):
        if name.startswith("thalweg.store") and getattr(module, "write_whole", None) is write:
            monkeypatch.setattr(module, "write_whole", write_whole)
    return count


def test_wherever_a_kill_falls_the_run_can_be_read_and_goes_on_to_the_same_tables(tmp_path, monkeypatch, model):
    steps_of(tmp_path / "before", model, [0])
    shaken(model, 1)
    shutil.copytree(tmp_path / "before", tmp_path / "whole")
    with monkeypatch.context() as patched:
        writes = killing(patched, at=0)
        small.monitor(tmp_path / "whole").step(model, 1)
    assert writes[0] >= 9  # four parts, three averages, two tables of the emergence, and headers
    whole = small.tables(tmp_path / "whole")
    for at in range(1, writes[0] + 1):
        path = tmp_path / str(at)
        shutil.copytree(tmp_path / "before", path)
        with monkeypatch.context() as patched:
            killing(patched, at)
            with pytest.raises(Killed):
                small.monitor(path).step(model, 1)
        run = open_run(path)
        assert run.status == "started"
        assert run.layers.collect().height in (9, 18)  # three states of three prompts: the step is there, or it is not
        small.monitor(path).step(model, 1)
        for table, rows in small.tables(path).items():
            assert_frame_equal(rows, whole[table])
        assert not list(path.rglob("*.tmp"))


def test_a_kill_before_there_is_a_run_leaves_a_directory_that_can_be_used(tmp_path, monkeypatch, model):
    with monkeypatch.context() as patched:
        killing(patched, at=1)
        with pytest.raises(Killed):
            small.monitor(tmp_path).step(model, 1)
    assert not (tmp_path / "run.json").exists()
    assert small.monitor(tmp_path).step(model, 1)


CHILD = """
import os, signal, sys
sys.path[:0] = sys.argv[2:]
from tests.monitor import small
from thalweg.store import _writer
write, count = _writer.write_whole, 0

def write_whole(path, content):
    global count
    count += 1
    if count == 20:  # of the third step: averages are gone, parts are being written
        path.with_name(path.name + ".tmp").write_bytes(b"half of it")
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, content)

_writer.write_whole = write_whole
watching, model = small.monitor(sys.argv[1]), small.model()
for step in range(9):
    watching.step(model, step)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_run_whose_process_was_killed_while_it_wrote_can_be_reported_and_continued(tmp_path, model):
    here = Path(__file__).parents[1]
    path = tmp_path / "run"
    command = [sys.executable, "-c", CHILD, str(path), str(here), str(here.parent)]
    ended = subprocess.run(command, check=False, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert list(path.rglob("*.tmp"))
    assert small.record_steps(path) == [0, 1]
    assert write_report(open_run(path)).stat().st_size
    watching = small.monitor(path)
    watching.begin(model, 2)
    watching.finish()
    assert small.record_steps(path) == [0, 1, 2]
    assert not list(path.rglob("*.tmp"))
    assert small.tables(path)["curves"]["revision"].n_unique() == 3


def test_the_report_opens_while_the_training_goes_on(tmp_path, model):
    watching = steps_of(tmp_path, model, [0, 1, 2])
    page = write_report(open_run(tmp_path), tmp_path.parent / "report.html").read_text(encoding="utf-8")
    assert "step2" in page
    assert "3 checkpoints" in page
    assert watching.step(model, 3)
    assert small.record_steps(tmp_path) == [0, 1, 2, 3]


def test_a_measurement_while_the_report_is_being_written_does_not_disturb_it(tmp_path, model, monkeypatch):
    watching = steps_of(tmp_path / "run", model, [0, 1])
    chapters = _page._chapters

    def meanwhile(run):
        watching.step(model, 2)  # the first time: it measures
        return chapters(run)

    monkeypatch.setattr(_page, "_chapters", meanwhile)
    page = write_report(open_run(tmp_path / "run"), tmp_path / "report.html").read_text(encoding="utf-8")
    assert "3 checkpoints" in page
    assert small.record_steps(tmp_path / "run") == [0, 1, 2]
