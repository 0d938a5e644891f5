import hashlib
import os
import pickle
import time
from pathlib import Path

import pytest

from thalweg.errors import DataError, UsageError
from thalweg.prompts import open_labelled, open_source


def test_a_file_is_identified_by_its_bytes_not_its_place(jsonl, tmp_path):
    first = open_source(jsonl({"text": "a"}))
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "data.jsonl"
    moved.write_bytes((tmp_path / "data.jsonl").read_bytes())
    second = open_source(str(moved))
    assert first.hash == hashlib.sha256(moved.read_bytes()).hexdigest()
    assert (first.name, first.kind, first.hash, first.template) == (
        second.name,
        second.kind,
        second.hash,
        second.template,
    )
    assert open_source(jsonl({"text": "b"})).hash != first.hash


@pytest.mark.parametrize("opens", [open_source, open_labelled])
def test_a_read_that_waits_says_so_and_can_be_interrupted(opens, jsonl, monkeypatch, caplog):
    def stuck(*_):
        for _ in range(500):  # until it is said, five seconds at most
            if caplog.messages:
                raise KeyboardInterrupt
            time.sleep(0.01)

    data = jsonl({"text": "a", "label": "b"})
    opens(data)
    assert caplog.messages == []
    monkeypatch.setattr("thalweg.prompts._rows.PATIENCE", 0.02)
    monkeypatch.setattr(hashlib, "file_digest", stuck)
    with pytest.raises(KeyboardInterrupt):
        opens(data)
    assert caplog.messages == ["still reading data.jsonl after 0.02 seconds; Ctrl-C stops it."]


def test_a_missing_file_is_answered_with_the_nearest_name(jsonl, tmp_path):
    jsonl({"text": "a"}, name="prompts.jsonl")
    with pytest.raises(DataError, match=r"got no such file\. Did you mean .*prompts\.jsonl\?"):
        open_source(str(tmp_path / "promts.jsonl"))


@pytest.mark.parametrize("name", ["none.jsonl", "./none", "nowhere/none.txt"])
def test_what_looks_like_a_path_is_never_looked_for_on_the_hub(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"got no such (file|folder)"):
        open_source(name)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="got a folder"):
        open_source(str(tmp_path))


def test_another_format_is_refused(tmp_path):
    (tmp_path / "data.csv").write_text("text\na\n")
    with pytest.raises(DataError, match=r"expected a \.jsonl, \.parquet, \.tsv or \.txt file; got '\.csv'"):
        open_source(str(tmp_path / "data.csv"))


def test_suffixes_are_read_in_either_case(tmp_path):
    (tmp_path / "DATA.TXT").write_text("a\n")
    assert open_source(str(tmp_path / "DATA.TXT")).kind == "txt"


def test_a_file_that_may_not_be_read_is_refused(jsonl, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    path = jsonl({"text": "a"})
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match="expected a readable file; got Permission denied"):
        open_source(path)


@pytest.mark.parametrize("opened", [open_source, open_labelled])
def test_a_name_that_no_file_can_have_is_refused(opened):
    for name in ("a" * 300 + ".jsonl", "/" + "b/" * 3000 + "x.txt", "x" * 5000 + "/y"):
        with pytest.raises(UsageError, match="expect"):
            opened(name)


def test_a_folder_that_may_not_be_listed_is_not(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match="got no such file"):
        open_source(str(tmp_path / "none.jsonl"))


@pytest.mark.parametrize("suffix", ["jsonl", "tsv", "txt", "parquet"])
@pytest.mark.parametrize("opened", [open_source, open_labelled])
def test_a_pipe_is_refused_at_once(opened, suffix, tmp_path):
    os.mkfifo(tmp_path / f"pipe.{suffix}")
    with pytest.raises(DataError, match="got a pipe"):
        opened(str(tmp_path / f"pipe.{suffix}"))
    (tmp_path / f"zeros.{suffix}").symlink_to("/dev/zero")
    with pytest.raises(DataError, match="got a device"):
        opened(str(tmp_path / f"zeros.{suffix}"))


def test_a_place_beyond_all_numbers_is_no_place(jsonl, tmp_path):
    assert [row.reason for row in open_source(jsonl({"text": ["a"]}), text_field=f"text.{'9' * 5000}").rows()] == [
        "field missing"
    ]
    (tmp_path / "data.tsv").write_text("a\tb\n")
    with pytest.raises(DataError, match="no column 9"):
        open_source(str(tmp_path / "data.tsv"), text_field="9" * 5000)


def test_an_unknown_short_name_is_answered_with_the_nearest():
    with pytest.raises(DataError, match="Did you mean gsm8k"):
        open_source("gsk8m")


def test_options_that_mean_nothing_for_a_format_are_refused(jsonl, tmp_path):
    (tmp_path / "a.txt").write_text("a\n")
    with pytest.raises(DataError, match="--whole-file"):
        open_source(jsonl({"text": "a"}), whole_file=True)
    with pytest.raises(DataError, match="--text-field"):
        open_source(str(tmp_path / "a.txt"), text_field="text")


def test_real_files_are_read_as_the_paper_does(test_data):
    gsm8k = open_source(str(test_data / "data" / "gsm8k_train.jsonl"))
    assert (gsm8k.template, gsm8k.count()) == ("{question}\n{answer}", 7473)
    first = next(gsm8k.rows())
    assert first.text is not None
    assert first.text.startswith("Natalia sold clips")
    assert first.text.endswith("\n#### 72")
    sst2 = open_source(str(test_data / "data" / "sst2_dev.tsv"))
    assert (sst2.template, sst2.count()) == ("{column 0}", 872)
    assert next(sst2.rows()).text == "one long string of cliches"
    arc = open_source(str(test_data / "data" / "arc_easy_test.jsonl"), text_field="question.stem")
    assert all(row.text for row in arc.rows(0, 50))
    wikitext = open_source(str(test_data / "data" / "wikitext2_test.txt"))
    assert next(wikitext.rows()).text == " = Robert <unk> = "


def test_a_source_travels_to_another_process(jsonl):
    source = open_source(jsonl({"text": "a"}, {"text": "b"}))
    assert list(pickle.loads(pickle.dumps(source)).rows(1)) == list(source.rows(1))
