"""The pages of docs/ say what the code says."""

import importlib.util
from pathlib import Path

import pytest

from thalweg.experiments import experiments

DOCS = Path(__file__).parents[2] / "docs"
FROM_RUNS = {DOCS / "evidence.md", DOCS / "reproduce.md"}  # make evidence, make reproduced
PAGES = sorted({*DOCS.glob("*.md")} - FROM_RUNS)
TABLES = ("layers", "heads", "massive", "row_norms", "prompts", "profile", "phases", "segments", "claims", "coupling")


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def blocks(generate):
    return generate.blocks()


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_the_page_is_current(page, generate, blocks):
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!--")
    assert "make docs" in text.splitlines()[0]
    assert generate.filled(text, blocks) == text, f"docs/{page.name} is out of date: run make docs"


def test_the_keywords_for_type_checkers_are_those_of_the_options(generate):
    assert generate.KEYWORDS.read_text(encoding="utf-8") == generate.keywords(), (
        "_keywords.py is out of date: run make docs"
    )


def test_every_block_stands_on_one_page(generate, blocks):
    standing = [found["name"] for page in PAGES for found in generate.BLOCK.finditer(page.read_text(encoding="utf-8"))]
    assert sorted(standing) == sorted(blocks)


def test_a_stale_block_is_noticed_and_an_unknown_one_refused(generate):
    page = "before\n<!-- begin one -->\nold\n<!-- end one -->\nafter\n"
    assert generate.filled(page, {"one": "new"}) == "before\n<!-- begin one -->\n\nnew\n\n<!-- end one -->\nafter\n"
    with pytest.raises(KeyError, match="one"):
        generate.filled(page, {})


def test_every_column_is_described():
    for experiment in experiments():
        for tables in experiment.tables.values():
            for table in (*tables.parts.values(), *tables.wholes.values()):
                assert table.row
                assert all(column.meaning for column in table.columns), table.columns
                names = [column.name for column in table.columns]
                assert len(set(names)) == len(names)


def test_every_table_is_on_the_page(blocks):
    folders = {name: tables for experiment in experiments() for name, tables in experiment.tables.items()}
    survey = folders.pop("survey")
    told = {name.removeprefix("columns of ") for name in blocks if name.startswith("columns of ")}
    assert told == set(TABLES) == set(survey.parts) | set(survey.wholes)
    assert {name.removeprefix("tables of ") for name in blocks if name.startswith("tables of ")} == set(folders)
    for name, tables in folders.items():
        shown = [line for line in blocks[f"tables of {name}"].splitlines() if line.startswith("### ")]
        assert sorted(shown) == sorted(f"### {name}/{title}" for title in {**tables.parts, **tables.wholes})


def test_help_is_the_same_in_every_terminal(generate, monkeypatch):
    expected = generate.help_text("list")
    for name, value in {"COLUMNS": "40", "FORCE_COLOR": "1", "TERM": "dumb", "GITHUB_ACTIONS": "true"}.items():
        monkeypatch.setenv(name, value)
    assert generate.help_text("list") == expected
    assert expected.startswith("Usage: thalweg list ")
    assert max(map(len, expected.splitlines())) <= 100
    assert "\x1b" not in expected


def test_the_map_shows_every_room(blocks):
    source = DOCS.parent / "src" / "thalweg"
    rooms = {path.parent.name for path in source.glob("*/__init__.py")}
    rooms |= {path.stem for path in source.glob("*.py") if not path.stem.startswith("__")}
    assert {line.removeprefix("## ") for line in blocks["rooms"].splitlines() if line.startswith("## ")} == rooms


def test_text_stays_inside_its_cell(generate):
    table = generate.table(("a", "b"), [("|x| < 1", "2 * 3 * 4")])
    assert table.splitlines()[-1] == r"| \|x\| &lt; 1 | 2 \* 3 \* 4 |"


def test_fields_are_read_out_of_docstrings(generate):
    said = generate.attributes("What it is.\n\nAttributes:\n    one: a\n        b.\n    two: ``c``.\n\nAnd more: d")
    assert said == {"one": "a b", "two": "`c`"}
