"""``thalweg table``: one table of a run, printed or as a file."""

import json

import pytest
from tests.synthetic_run import PLANTED, build_run

import thalweg


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return build_run(tmp_path_factory.mktemp("tables") / "run", models=(PLANTED,), data=("words",)).path


def test_a_table_is_markdown_unless_something_else_is_asked_for(thalweg, run):
    outcome = thalweg("table", run, "coupling")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines()[2].startswith(r"| Coupling entropy \[correlation\] |")
    assert thalweg("table", run, "coupling", "--format", "latex").out.startswith("\\begin{table}\n")
    told = json.loads(thalweg("table", run, "heads", "--format", "json", "--columns", "block,svi").out)
    assert [column["name"] for column in told["columns"]] == ["block", "svi"]


def test_what_is_printed_is_what_python_gives(run, thalweg):
    assert thalweg("table", run, "heads", "--format", "csv").out == thalweg_table(run, "heads", format="csv")


def test_a_file_is_named(thalweg, run, tmp_path):
    outcome = thalweg("table", run, "heads", "--out", tmp_path / "heads.csv")
    assert (outcome.code, outcome.out, outcome.err) == (0, f"{tmp_path / 'heads.csv'}\n", "")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["head"], "holds no table 'head'. Did you mean heads"),
        (["heads", "--columns", "sinks"], "has no 'sinks'"),
        (["heads", "--key", "1234567890"], "--key '1234567890'"),
        (["heads", "--format", "xls"], "'xls' is not one of 'md', 'csv', 'latex', 'parquet', 'json'"),
        (["heads", "--format", "parquet"], "say where it goes: --out FILE"),
        (["heads", "--out", "table.docx"], "expected a name that ends in .md"),
        ([], "Missing argument 'NAME'"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_given_is_one_line(thalweg, run, argv, words):
    assert words in thalweg("table", run, *argv).complaint


thalweg_table = thalweg.table
