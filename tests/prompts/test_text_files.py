import pytest

from thalweg.errors import DataError
from thalweg.prompts import open_source


def texts(source, *window):
    return [(row.number, row.text or row.reason) for row in source.rows(*window)]


def test_jsonl_rows_are_numbered_as_read_and_blank_lines_are_no_rows(jsonl):
    source = open_source(jsonl({"text": "a"}, "", {"text": ""}, "   ", {"no": 1}, {"text": "b"}))
    assert texts(source) == [(0, "a"), (1, "empty text"), (2, "field missing"), (3, "b")]
    assert source.count() == 4


def test_any_window_of_rows_is_that_part_of_all_rows(jsonl):
    source = open_source(jsonl(*({"text": str(row)} for row in range(9))))
    everything = texts(source)
    assert all(texts(source, a, b) == everything[a:b] for a in range(10) for b in [*range(a, 12), None])


def test_the_first_row_decides_the_template(jsonl):
    source = open_source(jsonl({"content": "c"}, {"text": "t"}))
    assert source.template == "{content}"
    assert texts(source) == [(0, "c"), (1, "field missing")]


@pytest.mark.parametrize("line", ['{"text": "a"', '["a"]', "3", '"text"', "nonsense", "[" * 100_000])
def test_a_broken_line_is_named_with_what_came(jsonl, line):
    source = open_source(jsonl({"text": "a"}, "", line, {"text": "b"}))
    rows = source.rows()
    assert next(rows).text == "a"
    with pytest.raises(DataError, match=r"data\.jsonl, line 3: expected one JSON object a line; got '") as caught:
        next(rows)
    assert len(str(caught.value).splitlines()) == 1


def test_a_broken_line_after_the_limit_is_never_met(jsonl):
    assert texts(open_source(jsonl({"text": "a"}, "nonsense")), 0, 1) == [(0, "a")]


def test_a_broken_line_before_the_first_row_wanted_is_passed_over(jsonl):
    assert texts(open_source(jsonl({"text": "a"}, "nonsense", {"text": "b"})), 2) == [(2, "b")]


def test_unicode_line_ends_do_not_end_a_line(tmp_path):
    path = tmp_path / "odd.txt"
    path.write_bytes("\ufeffone\u2028still one\x0c\x85\r\ntwo\rstill two\n\n \nthree".encode())
    assert texts(open_source(str(path))) == [(0, "one\u2028still one\x0c\x85"), (1, "two\rstill two"), (2, "three")]


def test_a_text_file_gives_one_prompt_a_line_or_one_for_all(tmp_path):
    path = tmp_path / "two.txt"
    path.write_bytes(b"one\r\n\r\ntwo\n")
    lines, whole = open_source(str(path)), open_source(str(path), whole_file=True)
    assert (lines.template, lines.count(), texts(lines)) == ("{line}", 2, [(0, "one"), (1, "two")])
    assert (whole.template, whole.count(), texts(whole)) == ("{file}", 1, [(0, "one\r\n\r\ntwo\n")])
    assert lines.hash == whole.hash


@pytest.mark.parametrize("name", ["empty.jsonl", "empty.tsv", "empty.txt"])
@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
def test_an_empty_file_is_refused(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="expected at least one row with fields; got none"):
        open_source(str(tmp_path / name))


def test_an_empty_whole_file_is_refused(tmp_path):
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(DataError, match="expected at least one row"):
        open_source(str(tmp_path / "empty.txt"), whole_file=True)


@pytest.mark.parametrize("name", ["binary.jsonl", "binary.tsv", "binary.txt"])
@pytest.mark.parametrize(("content", "found"), [(b"PK\x03\x04\0\0", "NUL"), (b"\xff\xfe\xfd", "byte 0xff in line 1")])
def test_a_binary_file_is_refused(tmp_path, name, content, found):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"expected UTF-8 text; got {found}"):
        open_source(str(tmp_path / name))


def test_a_binary_file_is_refused_before_its_first_line_is_used(tmp_path):
    (tmp_path / "half.txt").write_bytes(b"a line\n" + b"\0" * 100)
    with pytest.raises(DataError, match="got NUL bytes"):
        open_source(str(tmp_path / "half.txt"))


def test_bytes_that_are_not_text_are_named_by_their_line(tmp_path):
    (tmp_path / "late.txt").write_bytes(b"one\n\ntwo \xe9t\xe9\n")
    rows = open_source(str(tmp_path / "late.txt")).rows()
    assert next(rows).text == "one"
    with pytest.raises(DataError, match="byte 0xe9 in line 3"):
        next(rows)


def test_a_tsv_without_header_takes_its_first_column_and_says_so(tmp_path):
    (tmp_path / "plain.tsv").write_text("a \"quoted' one\t0\n\t1\ntwo\n")
    source = open_source(str(tmp_path / "plain.tsv"))
    assert source.template == "{column 0}"
    assert texts(source) == [(0, "a \"quoted' one"), (1, "empty text"), (2, "two")]


def test_a_tsv_column_is_asked_for_by_number(tmp_path):
    (tmp_path / "plain.tsv").write_text("0\tone\n1\ttwo\n2\n")
    source = open_source(str(tmp_path / "plain.tsv"), text_field="1")
    assert source.template == "{column 1}"
    assert texts(source) == [(0, "one"), (1, "two"), (2, "field missing")]
    assert open_source(str(tmp_path / "plain.tsv"), text_field="1+0").template == "{column 1}\n{column 0}"


@pytest.mark.parametrize(("text_field", "template"), [(None, "{text}"), ("1", "{text}"), ("id", "{id}"), ("0", "{id}")])
def test_a_tsv_header_is_recognised_and_is_no_row(tmp_path, text_field, template):
    (tmp_path / "header.tsv").write_text("id\ttext\na\tb\n")
    source = open_source(str(tmp_path / "header.tsv"), text_field=text_field)
    assert (source.template, source.count(), len(texts(source))) == (template, 1, 1)


def test_a_tsv_header_is_recognised_by_the_field_asked_for(tmp_path):
    (tmp_path / "header.tsv").write_text("sentence\tlabel\na\tb\n")
    assert texts(open_source(str(tmp_path / "header.tsv"), text_field="sentence")) == [(0, "a")]


@pytest.mark.parametrize("text_field", ["2", "sentence"])
def test_a_tsv_column_that_is_not_there_is_answered_with_those_that_are(tmp_path, text_field):
    (tmp_path / "plain.tsv").write_text("one\t0\n")
    with pytest.raises(DataError, match=r"columns?, 0 to 1|column 0, column 1"):
        open_source(str(tmp_path / "plain.tsv"), text_field=text_field)
