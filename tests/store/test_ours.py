"""Only what is ours is removed or overwritten; what is not stays where it is and is mentioned once."""

import logging
import os

import pytest
from tests.synthetic_run import PLANTED, build_run, header, open_survey, part_tables

from thalweg.errors import RunError
from thalweg.store import Shard, open_run


def opened(path):
    return open_survey(path, header((PLANTED,), ("words",)))


@pytest.fixture
def run(tmp_path):
    return build_run(tmp_path / "run", (PLANTED,), ("words",))


def folders(run):
    (pair,) = run.path.glob("survey/*/*planted*")
    return {"run": run.path, "survey": run.path / "survey", "findings": pair.parent, "pair": pair}


STRANGERS = ("x.parquet", "notes.tmp", "000000000-000000004.layers.parquet.bak", "profile (copy).parquet", "notes.json")


@pytest.mark.parametrize("place", ["run", "survey", "findings", "pair"])
def test_strangers_stay_and_are_mentioned_once(run, caplog, place):
    for name in STRANGERS:
        (folders(run)[place] / name).write_text("years of work")
    before = open_run(run.path).layers.collect()
    with caplog.at_level(logging.WARNING, "thalweg.store"), opened(run.path) as writer:
        writer.forget(PLANTED.name, "main")
        for first in (0, 4):
            shard = Shard(PLANTED.name, "main", "words", first, first + 4)
            writer.write_part(shard, part_tables(PLANTED, "words", range(first, first + 4)))
    assert all((folders(run)[place] / name).read_text() == "years of work" for name in STRANGERS)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert all(name in said[0] for name in STRANGERS[:3])
    assert "left as they are" in said[0]
    assert open_run(run.path).layers.collect().equals(before)


def test_what_a_dead_writer_left_goes_whichever_experiment_opens_the_run(run):
    places = folders(run)
    left = [
        places["run"] / "run.json.tmp",
        places["findings"] / "header.json.tmp",
        places["findings"] / "profile.parquet.tmp",
        places["pair"] / "000000000-000000004.layers.parquet.tmp",
        places["pair"] / "000000000-000000004.json.tmp",
    ]
    for file in left:
        file.write_bytes(b"half")
    from tests.synthetic_run import add_findings

    add_findings(run.path, run.header, "ablation", {"blocks": "auto"}).close()
    assert [file for file in left if file.exists()] == []


@pytest.mark.parametrize("place", ["survey", "findings", "pair"])
def test_a_folder_that_is_a_link_is_not_written_into(run, tmp_path, place):
    linked = folders(run)[place]
    elsewhere = tmp_path / "elsewhere"
    linked.rename(elsewhere)
    linked.symlink_to(elsewhere)
    (elsewhere / "000000000-000000002.layers.parquet").write_text("years of work")
    before = {file: file.stat().st_mtime_ns for file in sorted(elsewhere.rglob("*"))}
    with pytest.raises(RunError, match=rf"{linked.name} is a symbolic link.*in its place|Put the folder itself"):
        opened(run.path)
    assert {file: file.stat().st_mtime_ns for file in sorted(elsewhere.rglob("*"))} == before
    assert not open_run(run.path).layers.collect().is_empty()  # it is read


def test_a_run_that_is_a_link_is_written(run, tmp_path):
    (tmp_path / "link").symlink_to(run.path)
    opened(tmp_path / "link").close()


@pytest.mark.parametrize("name", ["run.json", "header.json", "profile.parquet", "part"])
def test_a_file_that_is_a_link_is_replaced_and_its_target_stays(run, tmp_path, name):
    places = folders(run)
    file = {
        "run.json": places["run"] / name,
        "header.json": places["findings"] / name,
        "profile.parquet": places["findings"] / name,
        "part": places["pair"] / "000000000-000000004.layers.parquet",
    }[name]
    target = tmp_path / "target"
    file.rename(target)
    file.symlink_to(target)
    content = target.read_bytes()
    with opened(run.path) as writer:
        writer.forget(PLANTED.name, "main")
    assert target.read_bytes() == content


def test_report_and_figures_replace_links_and_leave_their_targets(run, tmp_path, monkeypatch):
    from thalweg.figures import save_figures
    from thalweg.report import write_report

    monkeypatch.setattr("thalweg.shown.files_of", lambda *_, **__: {"png": b"drawn"})
    (tmp_path / "target").write_text("years of work")
    (run.path / "report.html").symlink_to(tmp_path / "target")
    write_report(run.path)
    drawn = save_figures(run.path)
    drawn[0].unlink()
    drawn[0].symlink_to(tmp_path / "target")
    save_figures(run.path)
    assert (tmp_path / "target").read_text() == "years of work"
    assert os.fspath(drawn[0].resolve()) == os.fspath(drawn[0])
