"""A table as a file: Markdown and LaTeX as it is printed, CSV, JSON and Parquet as it is.

Text comes from anywhere: what Markdown or LaTeX would take for its own is shown as it is. LaTeX is for the package
booktabs alone. In pdfLaTeX the code points of letters that it does not know, such as [U+6A21], stand for them; XeLaTeX
and LuaLaTeX show them as they are.
"""

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from thalweg.shown import printable
from thalweg.tables._found import RunTable
from thalweg.tables._printed import DASH, INFINITE, PLUS_MINUS, TIMES_OVER, Cell, Printed, printed

BETWEEN = "; "
"""Between what is a list in a cell of CSV."""
_OF_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|~$&#!])")
_OF_LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    DASH: "--",
}
_PDFLATEX = " -~¡-ª¬®-º¼-ÏÑ-Ýß-ïñ-ýÿ-ăĆ-ďĒ-ėĚ-ĥĨ-ĭİ-ķĹ-ľŁ-ňŌ-ťŨ-űŴ-žȘ-ț\u2014\u2018\u2019“”†-•…€™←-↓␣"
"""Letters that pdfLaTeX knows without further packages, as ranges of a regular expression."""
_NOT_AS_IT_IS = re.compile(rf"-(?=-)|[{re.escape(''.join(_OF_LATEX))}]|[^{_PDFLATEX}]+")
_LETTERS = r"\providecommand{\thalwegletters}[2]{\ifdefined\Umathchar#1\else#2\fi}"
"""Some letters, and what stands for them in pdfLaTeX."""
_IN_MATHS = {PLUS_MINUS: r"\pm", TIMES_OVER: r"\times\!/\!\div", INFINITE: r"\infty"}


def markdown(chosen: RunTable) -> bytes:
    """A table as GitHub and notebooks show it: the caption above, notes below."""
    table = printed(chosen)
    numeric = _numeric(table)
    lines = [
        [_in_markdown(heading) for heading in table.headings],
        ["---:" if is_number else "---" for is_number in numeric],
        *([_in_markdown(cell.text) + _marked(cell, " ({})") for cell in row] for row in table.rows),
    ]
    grid = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = _in_markdown(". ".join(table.notes))
    return "\n\n".join(filter(None, [_in_markdown(table.caption), grid, notes and f"{notes}."])).encode() + b"\n"


def latex(chosen: RunTable) -> bytes:
    """A table for the package booktabs, with its caption; notes stand below."""
    table = printed(chosen)
    marks = "".join("r" if is_number else "l" for is_number in _numeric(table))
    notes = ". ".join(map(_in_latex, table.notes))
    rows = [list(map(_in_latex, table.headings)), *(list(map(_latex_cell, row)) for row in table.rows)]
    # the line before would take a bracket or a star for its own
    head, *body = ("{}" * row[0].startswith(("[", "*")) + " & ".join(row) + r" \\" for row in rows)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_in_latex(table.caption)}}}",
        rf"\begin{{tabular}}{{{marks}}}",
        r"\toprule",
        head,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        *([rf"\par\smallskip\footnotesize {notes}."] if notes else []),
        r"\end{table}",
    ]
    text = "\n".join(lines)
    return f"{_LETTERS}\n{text}\n".encode() if r"\thalwegletters" in text else f"{text}\n".encode()


def csv(chosen: RunTable) -> bytes:
    """Every column by its name; lists joined, bytes in base64, what is undefined NaN, what is absent empty."""
    lists = [name for name, dtype in chosen.frame.schema.items() if isinstance(dtype, pl.List)]
    joined = _in_letters(chosen.frame).with_columns(
        pl.col(name).cast(pl.List(pl.String)).list.join(BETWEEN) for name in lists
    )
    return joined.write_csv().encode()


def _in_letters(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col(pl.Binary).bin.encode("base64"))


def as_json(chosen: RunTable) -> bytes:
    """The columns with their units and meanings, and the rows; what is undefined or infinite is null, bytes base64."""
    floats = [name for name, dtype in chosen.frame.schema.items() if dtype.is_float()]
    plain = _in_letters(chosen.frame).with_columns(
        pl.when(pl.col(name).is_finite()).then(name).alias(name) for name in floats
    )
    told = {
        "run": str(chosen.run.path),
        "table": f"{chosen.folder}.{chosen.name}",
        "key": chosen.key,
        "columns": [{"name": name, **_told(chosen, name)} for name in chosen.frame.columns],
        "rows": plain.to_dicts(),
    }
    return json.dumps(told, ensure_ascii=False, indent=2, allow_nan=False, default=str).encode() + b"\n"


def parquet(chosen: RunTable) -> bytes:
    """The frame, with unit and meaning of every column as the metadata of its field."""
    from pyarrow import parquet as files

    arrow = chosen.frame.to_arrow()
    for place, field in enumerate(arrow.schema):
        arrow = arrow.cast(arrow.schema.set(place, field.with_metadata(_told(chosen, field.name))))
    content = io.BytesIO()
    files.write_table(arrow, content)
    return content.getvalue()


WRITERS: Mapping[str, Callable[[RunTable], bytes]] = {
    "md": markdown,
    "latex": latex,
    "csv": csv,
    "json": as_json,
    "parquet": parquet,
}


def _told(chosen: RunTable, name: str) -> dict[str, Any]:
    column = chosen.declared.get(name)
    return {"unit": column.unit if column else "", "meaning": column.meaning if column else ""}


def _numeric(table: Printed) -> Sequence[bool]:
    """Which columns hold numbers alone, and stand to the right."""
    return [all(row[place].is_number for row in table.rows) for place in range(len(table.headings))]


def _marked(cell: Cell, mark: str) -> str:
    return mark.format(cell.reason) if cell.reason else ""


def _in_markdown(text: str) -> str:
    return _OF_MARKDOWN.sub(r"\\\1", printable(text))


def _in_latex(text: str) -> str:
    return _NOT_AS_IT_IS.sub(_said_in_latex, printable(text))


def _said_in_latex(found: re.Match[str]) -> str:
    letters = found[0]
    if letters == "-":
        return "-{}"  # two of them would be a dash
    codes = " ".join(f"U+{ord(letter):04X}" for letter in letters)
    return _OF_LATEX.get(letters) or rf"\thalwegletters{{{letters}}}{{[{codes}]}}"


def _latex_cell(cell: Cell) -> str:
    marked = _marked(cell, r"\textsuperscript{{{}}}")
    if not cell.is_number or cell.text == DASH:
        return _in_latex(cell.text) + marked
    text = re.sub(r"(?<=\d),(?=\d)", "{,}", cell.text)
    for sign, word in _IN_MATHS.items():
        text = text.replace(sign, word)
    text = re.sub(r"e([+-]\d+)", lambda power: rf" \times 10^{{{int(power[1])}}}", text)
    return f"${text}${marked}"
