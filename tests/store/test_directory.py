"""What is no run, cannot be read, or cannot be written, gives one clear line."""

import errno
import fcntl
import json
import os

import pytest
from tests.synthetic_run import PLANTED, build_run, header, open_survey, part_tables

from thalweg.errors import RunError
from thalweg.store import Shard, open_run


def one_line(error) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_directory_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match=r"not empty and no thalweg run: it holds thesis.tex. Choose another --out"):
        open_survey(tmp_path, header())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_place_for_a_run(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"is a file. Choose another --out"):
        open_survey(tmp_path / "file", header())
    with pytest.raises(RunError, match=r"cannot write .*Not a directory"):
        open_survey(tmp_path / "file" / "run", header())


def test_a_file_system_without_locks_is_a_line(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(RunError, match=r"keeps no locks, which hold two writers apart. Choose") as error:
        open_survey(tmp_path, header())
    one_line(error)


def test_a_lock_that_a_dead_writer_left_holds_nobody(tmp_path):
    (tmp_path / ".lock").write_text("4711")
    open_survey(tmp_path, header()).close()


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "no space left"), (errno.EACCES, "Permission denied")])
def test_a_disk_that_refuses_keeps_the_finished_parts(tmp_path, monkeypatch, number, words):
    rows = part_tables(PLANTED, "words", range(2))
    with open_survey(tmp_path, header()) as writer:
        writer.write_part(Shard(PLANTED.name, "main", "words", 0, 2), rows)

        def full(_handle):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=words) as error:
            writer.write_part(Shard(PLANTED.name, "main", "words", 2, 4), part_tables(PLANTED, "words", range(2, 4)))
        assert "--out" in one_line(error) or "goes on where it stopped" in one_line(error)
        monkeypatch.undo()
    assert open_run(tmp_path).prompts.collect()["prompt"].to_list() == [0, 1]
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "it has no run.json"),
        ("{", "damaged: it is not JSON"),
        ("[1]", "damaged: expected a JSON object"),
        ('{"format": 7}', "newer thalweg: format 7, this one reads format 2"),
        (
            '{"format": 1, "status": "finished"}',
            r"by a development version of thalweg \(format 1\): measure it again, with",
        ),
        ('{"format": 2}', "damaged: models: Field required"),
    ],
)
def test_a_run_that_cannot_be_read_says_why(tmp_path, content, words):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match=words) as error:
        open_run(tmp_path)
    one_line(error)
    if content is not None:
        with pytest.raises(RunError, match=words):
            open_survey(tmp_path, header())


def test_a_path_that_is_not_there_is_no_run(tmp_path):
    with pytest.raises(RunError, match="there is no such directory"):
        open_run(tmp_path / "nothing")


def test_an_unknown_field_in_the_header_is_an_error(tmp_path):
    run = build_run(tmp_path, (PLANTED,), ("words",))
    values = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(values | {"surprise": 1}))
    with pytest.raises(RunError, match="surprise"):
        open_run(run.path)


def test_the_header_reads_back_as_it_was_written(tmp_path):
    with open_survey(tmp_path, header()) as writer:
        run = open_run(tmp_path)
        assert run.header == writer.run_header
        assert run.survey is not None
        assert run.survey.header == writer.header


def test_reading_needs_no_torch(tmp_path):
    import subprocess
    import sys

    build_run(tmp_path, (PLANTED,), ("words",))
    code = (
        f"import sys, thalweg.store as s; s.open_run({str(tmp_path)!r}).layers.collect(); print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
