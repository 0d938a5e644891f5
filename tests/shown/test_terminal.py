"""On a terminal: tables, sentences with full stops, what was asked; and nothing that a terminal would obey."""

import json

import pytest
from tests.gallery import only_sections, sections

from thalweg.shown import Section, Table, print_json, print_sections, print_table, printable


def lines(capsys):
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_a_section_is_its_tables_its_sentences_and_what_was_asked(capsys):
    table = Table("gpt2 on words", ("state", "entropy"), [[0, 0.5], [10, None]])
    print_sections([Section("title", sentences=["It falls", "It rises"], tables=[table], facts="gamma: 1")])
    assert lines(capsys) == [
        "gpt2 on words",
        "state  entropy",
        "    0    0.500",
        "   10        -",
        "",
        "It falls.",
        "It rises.",
        "",
        "gamma: 1.",
    ]


def test_what_was_asked_is_said_once(capsys):
    print_sections([Section("one", facts="gamma: 1"), Section("two", facts="gamma: 1"), Section("three", facts="two")])
    assert lines(capsys) == ["gamma: 1.", "two."]


def test_a_table_without_rows_says_so_and_a_note_stands_below(capsys):
    empty = Table("heads that change", ("head",), [])
    noted = Table("heads", ("head",), [[1]], note="2 more.")
    print_sections([Section("", tables=[empty, noted])])
    assert lines(capsys) == ["heads that change: none", "", "heads", "head", "   1", "2 more.", ""]


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        (None, "-"),
        (float("nan"), "-"),
        (0.0, "0.000"),
        (1234.5, "1234.500"),
        (1e-5, "1e-05"),
        (12345.0, "1.23e+04"),
        (12345, "12345"),
        (True, "yes"),
        (False, "no"),
        ("[red]as it is[/red]", "[red]as it is[/red]"),
    ],
)
def test_cells_are_written_as_people_read_them(capsys, cell, shown):
    print_table(["value"], [[cell]])
    assert lines(capsys)[-1].strip() == shown


def test_nothing_is_an_order_to_the_terminal(capsys):
    evil = "\x1b[2J\x07\u202e"
    print_sections([Section("", sentences=[evil], tables=[Table(evil, (evil,), [[evil]], evil)], facts=evil)])
    out = capsys.readouterr().out
    assert all(letter.isprintable() or letter == "\n" for letter in out)
    assert out.count("\\x1b[2J") == 6
    assert printable("模型 ok") == "模型 ok"


def test_what_is_for_the_page_alone_is_not_printed(capsys):
    print_sections(only_sections())
    assert lines(capsys) == ["said on the terminal alone.", "", "table of the terminal", "n", "1", ""]


def test_everything_there_is_can_be_printed(capsys):
    print_sections(sections())
    assert "Entropy falls to 0.2 at state 4." in lines(capsys)


def test_json_has_no_nan(capsys):
    print_json({"a": [float("nan"), (float("inf"), 1.5)], "b": {"c": "模型"}})
    assert json.loads(capsys.readouterr().out) == {"a": [None, [None, 1.5]], "b": {"c": "模型"}}
