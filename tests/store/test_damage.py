"""What is not what was written is named, measured or made again, and never averaged in."""

import logging

import pytest
from tests.synthetic_run import PLAIN, PLANTED, build_run, header, open_survey, part_tables, write_aggregates

from thalweg.errors import RunError
from thalweg.store import Shard, open_run

ROWS = "000000004-000000008"


def flip(file):
    """Turn one bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def whole(path):
    return build_run(path, (PLANTED, PLAIN), ("words",))


def file_of(run, name):
    (file,) = run.path.glob(f"survey/*/{name}")
    return file


def tables(run):
    names = (
        "layers",
        "heads",
        "massive",
        "row_norms",
        "prompts",
        "profile",
        "phases",
        "segments",
        "claims",
        "coupling",
    )
    return {name: getattr(run, name).collect() for name in names}


def same(one, other):
    return all(one[name].equals(other[name]) for name in one)


@pytest.mark.parametrize("table", ["layers", "heads", "massive", "prompts"])
@pytest.mark.parametrize("harm", ["flip", "unlink"])
def test_a_part_is_named_by_readers_and_measured_again(tmp_path, caplog, table, harm):
    run = whole(tmp_path)
    before, file = tables(run), file_of(run, f"*planted*/{ROWS}.{table}.parquet")
    flip(file) if harm == "flip" else file.unlink()
    with pytest.raises(RunError, match=rf"{file.name} is (damaged|missing).*Run the same command again") as error:
        getattr(run, table)
    assert "\n" not in str(error.value)
    with caplog.at_level(logging.WARNING), open_survey(tmp_path, header((PLANTED, PLAIN), ("words",))) as writer:
        (said,) = [record.getMessage() for record in caplog.records]
        assert f"{file.name} is" in said
        assert "rows 4 to 7 of words are measured again" in said
        assert writer.done(PLANTED.name, "main", "words") == [(0, 4)]
        assert writer.done(PLAIN.name, "main", "words") == [(0, 4), (4, 8)]
        assert not list(tmp_path.glob(f"survey/*/*planted*/{ROWS}*"))
        assert open_run(tmp_path).layers.filter(model=PLANTED.name).collect()["prompt"].max() == 3
        place = Shard(PLANTED.name, "main", "words", 4, 8)
        writer.write_part(place, part_tables(PLANTED, "words", range(4, 8)))
        assert writer.missing == ("profile", "phases", "segments", "claims", "coupling")
        write_aggregates(writer, (PLANTED, PLAIN), ("words",))
    assert same(tables(open_run(tmp_path)), before)


def test_a_record_is_named_by_readers_and_its_rows_are_measured_again(tmp_path, caplog):
    run = whole(tmp_path)
    file = file_of(run, f"*planted*/{ROWS}.json")
    flip(file)
    with pytest.raises(RunError, match=rf"{file.name} is damaged: .*Run the same command again"):
        _ = run.layers
    with open_survey(tmp_path, header((PLANTED, PLAIN), ("words",))) as writer:
        assert writer.done(PLANTED.name, "main", "words") == [(0, 4)]
        assert not list(tmp_path.glob(f"survey/*/*planted*/{ROWS}*"))
    assert f"{file.name} is damaged; its rows are measured again" in caplog.text


def test_a_record_under_another_name_is_damaged(tmp_path):
    run = whole(tmp_path)
    file = file_of(run, f"*planted*/{ROWS}.json")
    file.rename(file.with_name("000000008-000000012.json"))
    with pytest.raises(RunError, match=f"it is the record of {ROWS}.json"):
        _ = run.layers


@pytest.mark.parametrize("table", ["profile", "phases", "segments", "claims", "coupling"])
def test_an_aggregate_is_named_by_readers_and_made_again(tmp_path, caplog, table):
    run = whole(tmp_path)
    before, file = tables(run), file_of(run, f"{table}.parquet")
    flip(file)
    with pytest.raises(RunError, match=rf"{file.name} is damaged: .*Run the same command again: it is made anew"):
        getattr(run, table)
    with open_survey(tmp_path, header((PLANTED, PLAIN), ("words",))) as writer:
        assert writer.missing == (table,)
        write_aggregates(writer, (PLANTED, PLAIN), ("words",))
    assert f"{file.name} is damaged: it does not hold what was written; it is made again." in caplog.text
    assert same(tables(open_run(tmp_path)), before)


def test_the_header_of_findings_is_named_by_readers_and_made_again(tmp_path, caplog):
    run = whole(tmp_path)
    before, file = tables(run), file_of(run, "header.json")
    flip(file)
    with pytest.raises(RunError, match=r"header.json is damaged: .*Run the same command again"):
        _ = run.layers
    with open_survey(tmp_path, header((PLANTED, PLAIN), ("words",))) as writer:
        assert writer.done(PLANTED.name, "main", "words") == [(0, 4), (4, 8)]
        assert writer.missing == ("profile", "phases", "segments", "claims", "coupling")
        write_aggregates(writer, (PLANTED, PLAIN), ("words",))
    assert "header.json is damaged; it is made again from what is measured." in caplog.text
    assert same(tables(open_run(tmp_path)), before)


def test_run_json_says_what_everything_was_measured_of_and_is_refused(tmp_path):
    whole(tmp_path)
    flip(tmp_path / "run.json")
    words = r"run.json is damaged: .*Restore it, or measure again with another --out"
    for attempt in (lambda: open_run(tmp_path), lambda: open_survey(tmp_path, header((PLANTED, PLAIN), ("words",)))):
        with pytest.raises(RunError, match=words):
            attempt()


def test_a_value_that_was_changed_by_hand_is_found(tmp_path):
    whole(tmp_path)
    file = tmp_path / "run.json"
    file.write_text(file.read_text().replace('"tau": 0.3', '"tau": 0.4'))
    with pytest.raises(RunError, match=r"run.json is damaged: it does not hold what was written"):
        open_run(tmp_path)


def test_a_table_that_is_replaced_while_it_is_read_is_not_damaged(tmp_path):
    run = whole(tmp_path)
    earlier = run.survey
    with open_survey(tmp_path, header((PLANTED, PLAIN), ("words",))) as writer:
        profile = run.profile.collect().reverse()
        writer.write_table("profile", profile)
        assert earlier.table("profile").collect().equals(profile)


def test_a_kill_between_a_table_and_its_header_leaves_either_of_two_tables(tmp_path, monkeypatch):
    run = whole(tmp_path)
    before = run.profile.collect()
    writer = open_survey(tmp_path, header((PLANTED, PLAIN), ("words",)))

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("thalweg.store._writer.write_whole", killed)
    with pytest.raises(KeyboardInterrupt):
        writer.write_table("profile", before.reverse())
    writer.close()
    monkeypatch.undo()
    assert open_run(tmp_path).profile.collect().equals(before)
    with open_survey(tmp_path, header((PLANTED, PLAIN), ("words",))) as writer:
        assert writer.missing == ()
        writer.write_table("profile", before.reverse())  # and now a kill after the table
    assert open_run(tmp_path).profile.collect().equals(before.reverse())


def finished(path):
    run = whole(path)
    with open_survey(path, header((PLANTED, PLAIN), ("words",))) as writer:
        writer.update(status="finished")
    return run


def test_findings_without_their_header_are_named(tmp_path):
    run = finished(tmp_path)
    file_of(run, "header.json").unlink()
    with pytest.raises(RunError, match=r"survey/\w+/header.json is missing. Run the same command again"):
        _ = run.layers


def test_a_folder_in_which_nothing_was_measured_yet_is_no_damage(tmp_path):
    finished(tmp_path)
    (tmp_path / "ablation" / "0123456789").mkdir(parents=True)  # killed before its header
    assert open_run(tmp_path).experiments("ablation") == []


@pytest.mark.parametrize("table", ["profile", "coupling"])
def test_a_table_that_is_gone_from_finished_findings_is_named(tmp_path, table):
    run = finished(tmp_path)
    file_of(run, f"{table}.parquet").unlink()
    with pytest.raises(RunError, match=rf"{table}.parquet is missing. Run the same command again"):
        getattr(run, table)
    assert run.missing == ()
    with open_survey(tmp_path, header((PLANTED, PLAIN), ("words",))) as writer:
        assert writer.missing == (table,)


@pytest.mark.parametrize("gone", ["record", "folder"])
def test_rows_that_are_gone_from_finished_findings_are_named(tmp_path, gone):
    run = finished(tmp_path)
    record = file_of(run, f"*planted*/{ROWS}.json")
    record.unlink() if gone == "record" else [file.unlink() for file in record.parent.iterdir()]
    held = 4 if gone == "record" else 0
    with pytest.raises(RunError, match=rf"planted-\w+.words-\w+ holds {held} of 8 prompts: .* Run the same command ag"):
        _ = run.layers
    with open_survey(tmp_path, header((PLANTED, PLAIN), ("words",))) as writer:
        assert len(writer.done(PLANTED.name, "main", "words")) == held // 4
