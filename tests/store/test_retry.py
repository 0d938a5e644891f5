"""Rows that were not done are named with the reason, left out of what is done, and measured later."""

from tests.synthetic_run import PLANTED, build_run, header, open_survey, part_tables

from thalweg.prompts import Window, windows
from thalweg.store import PartCounts, Shard, open_run

MODEL = (PLANTED.name, "main", "words")
TABLES = ("layers", "heads", "massive", "prompts")


def opened(path):
    return open_survey(path, header((PLANTED,), ("words",)))


def write(writer, first, stop, again=(), **counts):
    rows = [row for row in range(first, stop) if row not in again]
    retry = dict.fromkeys(again, "out of memory")
    writer.write_part(
        Shard(*MODEL, first, stop), part_tables(PLANTED, "words", rows), counts=PartCounts(**counts), retry=retry
    )


def test_they_are_not_done_and_are_counted_with_the_reason(tmp_path):
    with opened(tmp_path) as writer:
        write(writer, 0, 6, (0, 2, 3), skipped={"no text": 1})
        assert writer.done(*MODEL) == [(1, 2), (4, 6)]
        writer.update()
        (covered,) = writer.header.coverage
        assert (covered.rows_read, covered.prompts_kept) == (6, 3)
        assert covered.skipped == {"no text": 1, "out of memory": 3}
    with opened(tmp_path) as writer:
        assert writer.done(*MODEL) == [(1, 2), (4, 6)]


def test_the_shards_that_follow_are_windows_of_them_and_the_tables_come_out_as_if_nothing_had_been(tmp_path):
    with opened(tmp_path / "cut") as writer:
        write(writer, 0, 4, (1, 2))
        write(writer, 4, 8)
    with opened(tmp_path / "cut") as writer:
        left = list(windows(8, size=4, done=[Window(*rows) for rows in writer.done(*MODEL)]))
        assert left == [Window(1, 3)]
        write(writer, 1, 3, (2,))  # one of them once more
        assert writer.done(*MODEL) == [(0, 1), (1, 2), (3, 4), (4, 8)]
        write(writer, 2, 3, (2,))
        write(writer, 2, 3)
        writer.update()
        (covered,) = writer.header.coverage
        assert (covered.rows_read, covered.prompts_kept, covered.skipped) == (8, 8, {})
    whole, cut = build_run(tmp_path / "whole", (PLANTED,), ("words",)), open_run(tmp_path / "cut")
    assert all(getattr(cut, table).collect().equals(getattr(whole, table).collect()) for table in TABLES)


def test_a_shard_of_nothing_but_such_rows_is_written_and_done_later(tmp_path):
    with opened(tmp_path) as writer:
        write(writer, 0, 2, (0, 1))
        assert writer.done(*MODEL) == []
        write(writer, 0, 2)
        assert writer.done(*MODEL) == [(0, 2)]
        writer.update()
        assert (writer.header.coverage[0].rows_read, writer.header.coverage[0].skipped) == (2, {})
    assert open_run(tmp_path).prompts.collect()["prompt"].to_list() == [0, 1]
