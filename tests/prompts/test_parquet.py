import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thalweg.errors import DataError
from thalweg.prompts import open_source


@pytest.fixture
def parquet(tmp_path):
    def write(columns, **options):
        path = tmp_path / "data.parquet"
        pq.write_table(pa.table(columns), path, **options)
        return str(path)

    return write


def test_rows_are_numbered_across_row_groups_from_any_start(parquet):
    source = open_source(parquet({"n": list(range(300)), "text": [str(n) for n in range(300)]}, row_group_size=70))
    assert source.count() == 300
    assert all(
        [(row.number, row.text) for row in source.rows(start, stop)] == [(n, str(n)) for n in range(300)[start:stop]]
        for start in (0, 1, 69, 70, 139, 299, 300, 400)
        for stop in (None, 0, 1, 70, 71, 299, 500)
        if stop is None or stop >= start
    )


def test_null_and_numbers_are_skipped_with_their_reason(parquet):
    assert [row.reason for row in open_source(parquet({"text": ["a", None]})).rows()] == [None, "field missing"]
    assert [row.reason for row in open_source(parquet({"text": [1, 2]})).rows()] == ["field is not text"] * 2


def test_nested_columns_are_reached_with_a_dot(parquet):
    source = open_source(parquet({"question": [{"stem": "Why?", "n": 1}]}), text_field="question.stem")
    assert next(source.rows()).text == "Why?"


def test_only_the_wanted_columns_are_read(parquet, monkeypatch):
    asked = []
    real = pq.ParquetFile.iter_batches

    def spy(self, *args, columns=None, **options):
        asked.append(columns)
        return real(self, *args, columns=columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    assert len(list(open_source(parquet({"text": ["a"], "huge": [b"0" * 100]})).rows())) == 1
    assert asked == [["text"]]


def test_a_file_without_rows_is_refused(parquet):
    with pytest.raises(DataError, match="expected at least one row"):
        open_source(parquet({"text": pa.array([], pa.string())}))


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PAR1" + b"\0" * 50 + b"PAR1"])
def test_a_file_that_is_no_parquet_is_refused(tmp_path, content):
    (tmp_path / "bad.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.parquet: expected a whole Parquet file") as caught:
        open_source(str(tmp_path / "bad.parquet"))
    assert len(str(caught.value).splitlines()) == 1


def not_utf8():
    """Strings of which some are none: Arrow takes their word for it."""
    begin, end = b"".join(number.to_bytes(4, "little") for number in (0, 2, 4, 6)), b"ab\xff\xfecd"
    return pa.Array.from_buffers(pa.string(), 3, [None, pa.py_buffer(begin), pa.py_buffer(end)])


NO_TEXT = {
    "not UTF-8": lambda: (not_utf8(), 1),
    "not UTF-8 in a dictionary": lambda: (not_utf8().dictionary_encode(), 1),
    "not UTF-8 in a list": lambda: (pa.ListArray.from_arrays([0, 1, 2, 3], not_utf8()), 1),
    "a time that no calendar has": lambda: (pa.array([1, None, 2**62], pa.timestamp("us")), 2),
    "a time before all": lambda: (pa.array([-(2**62)], pa.timestamp("ms")), 0),
    "a place without a clock": lambda: (pa.array([1], pa.timestamp("us", "Nowhere/Zone")), 0),
    "a time longer than all": lambda: (pa.array([0, 2**62], pa.duration("s")), 1),
}


def test_a_value_that_cannot_be_read_is_named_by_its_row(parquet):
    for made in NO_TEXT.values():
        values, row = made()
        path = parquet({"text": values})
        with pytest.raises(DataError) as caught:
            list(open_source(path).rows())
        [line] = str(caught.value).splitlines()
        assert line.startswith(f"{path}, row {row}: expected ")
        assert list(open_source(path).rows(stop=row)) is not None


def test_rows_are_counted_over_all_that_came_before(parquet):
    values = pa.chunked_array([pa.array(["a"] * 200), not_utf8()])
    with pytest.raises(DataError, match="row 201: expected UTF-8"):
        list(open_source(parquet({"text": values}, row_group_size=70)).rows(150))
