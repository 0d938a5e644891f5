"""What is written for LaTeX compiles, whatever stands in it."""

import contextlib
import os
import re
import shutil
import subprocess

import pytest
from tests.gallery import EVIL, NAMES
from tests.synthetic_run import Plant, build_run
from tests.whole_run import whole_run

import thalweg
from thalweg.errors import RunError
from thalweg.tables._printed import Cell, Printed
from thalweg.tables._written import _in_latex, latex

COMPILER = shutil.which("pdflatex")
compiled = pytest.mark.skipif(COMPILER is None, reason="no pdflatex: tables for LaTeX are not compiled")
HOSTILE = (
    "100% & a_b #1 $x^2$ ~ \\ \\end{table} {x}} {{",
    "[CLS] first",
    "*star",
    "a -- b --- c `` ?` << >> |",
    "ÀÉîõü ß æ øł žĠ ␣word “quoted” … \N{MULTIPLICATION SIGN} ÷ ± € ²",
    "模型 \N{GRINNING FACE} \N{HEBREW LETTER ALEF}\N{ARABIC LETTER BEH} ‮hidden",
    "Ωμέγα ∑ ▁the Ċ «þ»",
    "\x00\x1b[31m\n\n\\par",
    EVIL,
    *NAMES,
)


def document(tables, tmp_path):
    """Compile all of them in one document; give what the compiler said, and whether it came to its end."""
    head = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
    body = "\n".join(f"{table}\\clearpage" for table in tables)
    (tmp_path / "tables.tex").write_text(f"{head}{body}\n\\listoftables\n\\end{{document}}\n")
    for _ in range(2):  # the second reads the list of tables
        done = subprocess.run(
            [COMPILER, "-interaction=nonstopmode", "-halt-on-error", "-draftmode", "tables.tex"],
            cwd=tmp_path,
            env={**os.environ, "TEXMFVAR": str(tmp_path / "texmf")},
            capture_output=True,
            check=False,
            timeout=120,
        )
    said = (tmp_path / "tables.log").read_text(errors="replace")
    return said, done.returncode == 0


@pytest.fixture(scope="module")
def some(tmp_path_factory):
    return thalweg.table(build_run(tmp_path_factory.mktemp("latex") / "run"), "phases")


@compiled
def test_every_table_of_every_experiment_compiles(tmp_path):
    run = whole_run(tmp_path / "run")
    folders = [path.name for path in run.path.iterdir() if path.is_dir() and run.experiments(path.name)]
    names = [f"{folder}.{name}" for folder in folders for name in run.experiments(folder)[-1].header.tables]
    tables = []
    for name, columns in ((name, columns) for name in names for columns in (None, "all")):
        with contextlib.suppress(RunError):  # some experiments here have one of their tables alone
            tables.append(thalweg.table(run, name, format="latex", columns=columns))
    assert len(tables) > 60
    said, whole = document(tables, tmp_path)
    assert whole, said[-3000:]
    assert "Missing character" not in said


@compiled
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_text_from_anywhere_compiles_everywhere_in_a_table(text, some, tmp_path, monkeypatch):
    table = Printed(text, [text, text], [[Cell(text), Cell("1.0", is_number=True)], [Cell(text), Cell(text)]], [text])
    monkeypatch.setattr("thalweg.tables._written.printed", lambda _: table)
    said, whole = document([latex(some).decode()], tmp_path)
    assert whole, said[-3000:]
    assert "Missing character" not in said


def test_letters_that_pdflatex_does_not_know_are_told_by_their_code_points():
    assert _in_latex("a模型b") == r"a\thalwegletters{模型}{[U+6A21 U+578B]}b"
    assert _in_latex("Ġword é ␣ ²") == "Ġword é ␣ ²"
    assert _in_latex("a--b-c") == "a-{}-b-c"


def test_the_command_for_them_stands_before_the_table_that_needs_it(tmp_path):
    run = build_run(tmp_path / "run", (Plant("模型", 2, 1, 1, 1, (3,), 900.0),), ("words",))
    assert thalweg.table(run, "phases", format="latex").startswith(r"\providecommand{\thalwegletters}[2]")
    assert "thalwegletters" not in thalweg.table(run, "phases", format="latex", columns="compress_first")


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_that_latex_obeys_is_left(text):
    """A plain second opinion, where no LaTeX is: braces are in pairs, and only our own commands are there."""
    written = _in_latex(text)
    commands = set(re.findall(r"\\[A-Za-z]+", written))
    ours = {"backslash", "asciitilde", "asciicircum", "less", "greater", "bar", "asciigrave"}
    assert commands <= {rf"\text{name}" for name in ours} | {r"\thalwegletters"}
    bare = re.sub(r"\\[A-Za-z]+|\\[&%$#_{}]", "", written)
    assert not set(bare) & set("&%$#_~^\\")
    depth = [bare[:place].count("{") - bare[:place].count("}") for place in range(len(bare) + 1)]
    assert min(depth) == depth[-1] == 0
