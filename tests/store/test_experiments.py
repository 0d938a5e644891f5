"""An experiment joins a run, resumes like one, and never touches what is there."""

import multiprocessing
import os
import signal

import polars as pl
import pytest
from tests.synthetic_run import PLANTED, build_run, header

from thalweg.errors import RunError
from thalweg.experiments import tables_of
from thalweg.store import Column, PartCounts, Shard, Table, Tables, Thresholds, open_findings, open_run

DATA_KEY = (Column("model", pl.String()), Column("revision", pl.String()), Column("data", pl.String()))
KEY = (*DATA_KEY, Column("prompt", pl.Int64()))
TRIAL = Tables(
    parts={
        "rows": Table("a prompt", (*KEY, Column("value", pl.Float64())), ("prompt",)),
        "losses": Table("a prompt", (*KEY, Column("loss", pl.Float64())), ("prompt",)),
    },
    wholes={"means": Table("a model on a data set", (*DATA_KEY, Column("value", pl.Float64())))},
)
SETTINGS = {"blocks": [0, 5], "seeds": 3}


def open_trial(path, asked, settings=SETTINGS, tables=TRIAL):
    return open_findings(path, asked, "trial", settings, tables)


def asked(**options):
    return header((PLANTED,), ("words",), **options)


def shard(first, stop):
    return Shard(PLANTED.name, "main", "words", first, stop)


def tables(first, stop, skipped=()):
    key = {"model": PLANTED.name, "revision": "main", "data": "words"}
    prompts = [row for row in range(first, stop) if row not in skipped]
    rows = [{**key, "prompt": row, "value": None if row == 1 else row / 2} for row in reversed(prompts)]
    losses = [{**key, "prompt": row, "loss": row + 0.5} for row in prompts]
    return {"rows": pl.DataFrame(rows), "losses": pl.DataFrame(losses)}


def snapshot(run):
    return {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file() and path.name != ".lock"}


def test_it_joins_a_run_of_more_models_and_leaves_its_files_alone(tmp_path):
    run = build_run(tmp_path / "run").path
    before = snapshot(run)
    with open_trial(run, asked(seed=7, variants=True), SETTINGS) as writer:
        writer.write_part(shard(0, 3), tables(0, 3))
        writer.update(status="finished")
    after = snapshot(run)
    assert {path: after[path] for path in before} == before
    (trial,) = open_run(run).experiments("trial")
    assert trial.header.status == "finished"
    assert trial.header.settings == SETTINGS
    rows = trial.table("rows").collect()
    assert rows["prompt"].to_list() == [0, 1, 2]
    assert rows["value"].is_nan().to_list() == [False, True, False]


def test_without_a_run_it_makes_one_that_a_survey_can_go_on_with(tmp_path):
    with open_trial(tmp_path / "run", asked(), SETTINGS) as writer:
        writer.write_part(shard(0, 2), tables(0, 2))
    run = open_run(tmp_path / "run")
    assert run.survey is None
    build = build_run(tmp_path / "run", models=(PLANTED,), data=("words",))
    assert build.layers.collect().height > 0
    assert len(build.experiments("trial")) == 1


def test_finished_parts_are_known_by_their_settings(tmp_path):
    with open_trial(tmp_path / "run", asked(), SETTINGS) as writer:
        writer.write_part(shard(0, 2), tables(0, 2))
        writer.write_part(shard(4, 6), tables(4, 6, skipped=(5,)), counts=PartCounts(skipped={"no text": 1}))
    with open_trial(tmp_path / "run", asked(), dict(reversed(SETTINGS.items()))) as writer:
        assert writer.done(PLANTED.name, "main", "words") == [(0, 2), (4, 6)]
        (covered,) = writer.header.coverage
        assert (covered.rows_read, covered.prompts_kept, covered.skipped) == (4, 3, {"no text": 1})
    with open_trial(tmp_path / "run", asked(), {**SETTINGS, "seeds": 4}) as writer:
        assert writer.done(PLANTED.name, "main", "words") == []
    trials = open_run(tmp_path / "run").experiments("trial")
    assert [each.header.settings["seeds"] for each in trials] == [3, 4]
    assert [each.table("rows").collect().height for each in trials] == [3, 0]


def test_a_new_part_makes_the_tables_of_the_old_ones_out_of_date(tmp_path):
    key = {"model": PLANTED.name, "revision": "main", "data": "words"}
    with open_trial(tmp_path / "run", asked(), SETTINGS) as writer:
        writer.write_part(shard(0, 2), tables(0, 2))
        writer.write_table("means", pl.DataFrame([{**key, "value": 0.25}]))
        assert writer.reading().table("means").collect()["value"].to_list() == [0.25]
        writer.write_part(shard(2, 3), tables(2, 3))
        assert writer.reading().table("means").collect().height == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"thresholds": Thresholds(tau=0.5)}, "tau: run has 0.3, asked for 0.5"),
        ({"max_length": 7}, "max_length: run has"),
    ],
)
def test_another_run_is_refused_and_keeps_everything(tmp_path, change, said):
    run = build_run(tmp_path / "run").path
    before = snapshot(run)
    with pytest.raises(RunError, match=said):
        open_trial(run, asked().model_copy(update=change), SETTINGS)
    assert snapshot(run) == before


def test_a_model_that_the_run_does_not_hold_is_refused(tmp_path):
    run = build_run(tmp_path / "run", models=(PLANTED,)).path
    strange = asked().models[0].model_copy(update={"name": "lab/other"})
    with pytest.raises(RunError, match=r"run has lab/planted@main, asked for lab/other@main"):
        open_trial(run, asked().model_copy(update={"models": (strange,)}), SETTINGS)


def test_rows_that_belong_elsewhere_are_refused(tmp_path):
    with (
        open_trial(tmp_path / "run", asked(), SETTINGS) as writer,
        pytest.raises(ValueError, match="belong elsewhere"),
    ):
        writer.write_part(shard(0, 2), tables(0, 3))


def test_two_writers_do_not_meet(tmp_path):
    with (
        open_trial(tmp_path / "run", asked(), SETTINGS),
        pytest.raises(RunError, match="another process is writing"),
    ):
        open_trial(tmp_path / "run", asked(), SETTINGS)


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), "interrupted"), (ValueError("x"), "failed")])
def test_how_it_ended_is_written_down(tmp_path, error, status):
    def fail():
        with open_trial(tmp_path / "run", asked(), SETTINGS) as writer:
            writer.write_part(shard(0, 2), tables(0, 2))
            raise error

    with pytest.raises(type(error)):
        fail()
    (trial,) = open_run(tmp_path / "run").experiments("trial")
    assert trial.header.status == status
    assert trial.table("losses").collect().height == 2


def write_and_die(path):
    with open_trial(path, asked(), SETTINGS) as writer:
        writer.write_part(shard(0, 2), tables(0, 2))
        whole = next(writer.reading().directory.rglob("*.rows.parquet"))
        whole.with_name(whole.name.replace("000000000-000000002", "000000002-000000004")).write_bytes(b"one of two")
        whole.with_name(whole.name.replace("000000000", "000000004") + ".tmp").write_bytes(b"half")
        whole.with_name("notes.txt").write_text("not ours")
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_writer_loses_only_the_part_in_hand(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=write_and_die, args=(tmp_path / "run",))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with open_trial(tmp_path / "run", asked(), SETTINGS) as writer:
        assert writer.done(PLANTED.name, "main", "words") == [(0, 2)]
        writer.write_part(shard(2, 4), tables(2, 4))
        assert writer.reading().table("rows").collect()["prompt"].to_list() == [0, 1, 2, 3]
    assert not list((tmp_path / "run" / "trial").rglob("*.tmp"))
    assert (next((tmp_path / "run" / "trial").rglob("notes.txt"))).read_text() == "not ours"


def test_a_damaged_file_is_named(tmp_path):
    with open_trial(tmp_path / "run", asked(), SETTINGS) as writer:
        writer.update()
    (file,) = (tmp_path / "run" / "trial").rglob("header.json")
    file.write_text("{")
    with pytest.raises(RunError, match=f"{file.name} is damaged: it is not JSON.* Run the same command again"):
        open_run(tmp_path / "run").experiments("trial")


def test_findings_are_read_without_their_experiment(tmp_path):
    with open_trial(tmp_path / "run", asked()) as writer:
        writer.write_part(shard(0, 2), tables(0, 2))
    (trial,) = open_run(tmp_path / "run").experiments("trial")
    assert trial.run == tmp_path / "run"
    for name in ("rows", "losses", "means"):
        assert trial.table(name).collect_schema() == TRIAL[name].schema
    with pytest.raises(RunError, match="names no table 'scores'; expected one of rows, losses, means"):
        trial.table("scores")


def test_tables_of_another_version_are_refused(tmp_path):
    open_trial(tmp_path / "run", asked()).close()
    other = Tables(parts={"rows": TRIAL["rows"]})
    with pytest.raises(RunError, match=r"by another version of thalweg: .*\. Measure it again, with another"):
        open_trial(tmp_path / "run", asked(), tables=other)


def test_a_run_without_a_survey_says_so_when_it_is_asked_for_its_tables(tmp_path):
    with open_trial(tmp_path, asked()) as writer:
        writer.write_part(shard(0, 2), tables(0, 2))
    run = open_run(tmp_path)
    assert (run.survey, run.status, run.coverage) == (None, "finished", ())
    for name in tables_of("survey").parts:
        with pytest.raises(RunError, match=f"holds no survey, and so no {name}. Make one: `thalweg survey {tmp_path}`"):
            getattr(run, name)
    with pytest.raises(RunError, match=r"has no profile.parquet yet"):
        _ = run.profile
