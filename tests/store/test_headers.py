"""Values in headers are believed at no size: one line says what is wrong, and nothing is written elsewhere."""

import json
import os

import pytest
from tests.faults.hostile import nested, write
from tests.synthetic_run import PLANTED, build_run, header, open_survey

from thalweg.advice import advise
from thalweg.errors import RunError
from thalweg.figures import save_figures
from thalweg.report import write_report
from thalweg.store import open_run


@pytest.fixture
def run(tmp_path):
    return build_run(tmp_path / "run", (PLANTED,), ("words",))


def change(file, **values):
    known = json.loads(file.read_text())
    known.pop("checksum")
    write(file, {**known, **values})


def header_file(run):
    (file,) = run.path.glob("survey/*/header.json")
    return file


def refused(attempt, words):
    with pytest.raises(RunError, match=words) as error:
        attempt()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(("name", "value"), [("blocks", 0), ("blocks", 10**12), ("heads", 0), ("heads", 10**9)])
def test_sizes_that_no_model_has_are_refused(run, name, value):
    models = json.loads((run.path / "run.json").read_text())["models"]
    change(run.path / "run.json", models=[models[0] | {name: value}])
    refused(lambda: open_run(run.path), rf"run.json is damaged: models.0.{name}: .* (greater|less) than or equal to")


@pytest.mark.parametrize("blocks", [3, 5000])
def test_a_depth_that_the_tables_do_not_have_is_refused(run, blocks):
    models = json.loads((run.path / "run.json").read_text())["models"]
    change(run.path / "run.json", models=[models[0] | {"blocks": blocks}])
    refused(
        lambda: open_run(run.path).profile, rf"run.json is damaged: lab/planted has {blocks} blocks there, and 8 in"
    )


def test_a_model_under_another_name_is_refused(run):
    models = json.loads((run.path / "run.json").read_text())["models"]
    change(run.path / "run.json", models=[models[0] | {"name": "lab/other"}])
    refused(lambda: open_run(run.path).layers, r"run.json names lab/other .*, and survey/\w+/header.json lab/planted")


@pytest.mark.parametrize("which", ["run.json", "header.json"])
def test_nothing_but_brackets_is_no_header(run, which):
    nested(run.path / which if which == "run.json" else header_file(run))
    refused(lambda: open_run(run.path).layers, rf"{which} is damaged: it is not JSON")


@pytest.mark.parametrize("values", [{"experiment": "../x"}, {"experiment": "clip"}, {"settings": {"gamma": 1}}])
def test_a_header_of_other_findings_is_refused(run, values):
    change(header_file(run), **values)
    refused(lambda: open_run(run.path).layers, r"header.json is damaged: it is that of")
    with open_survey(run.path, header((PLANTED,), ("words",))) as writer:  # and is made again where it is
        assert writer.reading().directory == header_file(run).parent
    assert sorted(path.name for path in run.path.parent.iterdir()) == ["run"]


def test_a_table_is_no_path(run, tmp_path):
    (tmp_path / "mine.parquet").write_text("years of work")
    known = json.loads(header_file(run).read_text())["tables"]
    change(header_file(run), tables={**known, "../../../mine": {"kind": "whole", "columns": {"x": "Int64"}}})
    refused(lambda: open_run(run.path).layers, r"header.json is damaged: tables")
    open_survey(run.path, header((PLANTED,), ("words",))).close()
    assert (tmp_path / "mine.parquet").read_text() == "years of work"


def test_a_part_is_no_path(run, tmp_path):
    (tmp_path / "mine").write_text("years of work")
    record = next(iter(sorted(header_file(run).parent.glob("*/*.json"))))
    change(record, parts={"x/../../../../../mine": {"sha256": "0" * 64, "size": 13}})
    refused(lambda: open_run(run.path).layers, r"json is damaged: parts")
    with open_survey(run.path, header((PLANTED,), ("words",))) as writer:
        writer.forget(PLANTED.name, "main")
    assert (tmp_path / "mine").read_text() == "years of work"


def test_a_column_of_lists_of_lists_without_end_is_refused(run):
    known = json.loads(header_file(run).read_text())["tables"]
    known["heads"]["columns"]["block"] = "List(" * 5000 + "Int64" + ")" * 5000
    change(header_file(run), tables=known)
    refused(lambda: open_run(run.path).layers, r"header.json is damaged: tables.heads.columns: .*expected one of")


def test_columns_that_a_file_does_not_have_are_refused(run):
    known = json.loads(header_file(run).read_text())["tables"]
    del known["heads"]["columns"]["block"]
    change(header_file(run), tables=known)
    refused(lambda: open_run(run.path).heads, r"heads.parquet is damaged: .*columns of header.json")


def test_a_pipe_is_no_header(run, monkeypatch):
    file = header_file(run)
    read = type(file).read_bytes

    def waits(path):
        assert path != file, "waits for the other end of a pipe"
        return read(path)

    file.unlink()
    os.mkfifo(file)
    monkeypatch.setattr(type(file), "read_bytes", waits)
    refused(lambda: open_run(run.path).layers, r"header.json is damaged: it is no file")


@pytest.mark.parametrize("look", [write_report, save_figures, advise])
def test_whatever_else_does_not_fit_together_is_a_line(run, monkeypatch, look):
    def shown(*_):
        raise KeyError("epochs")

    monkeypatch.setattr("thalweg.experiments._survey.view.chapters", shown)
    monkeypatch.setattr("thalweg.advice._advise._about", shown)
    refused(lambda: look(run.path), r"cannot be shown: .* do not fit together \(KeyError: 'epochs'\). Measure it again")
