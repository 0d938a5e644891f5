"""What do a run's tables look like in a paper, or in somebody else's program?

In reading order: ``_found`` which table a name means · ``_averaged`` rows of single prompts, averaged · ``_printed``
which cells are printed, and how numbers are rounded · ``_written`` Markdown, LaTeX, CSV, JSON and Parquet.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from thalweg.errors import UsageError
from thalweg.paths import path_here
from thalweg.store import Run, open_run, os_errors_as_run_errors, write_whole
from thalweg.tables._found import RunTable, found

__all__ = ["RunTable", "table"]

Format = Literal["md", "csv", "latex", "parquet", "json"]
ENDINGS: dict[str, Format] = {
    ".md": "md",
    ".csv": "csv",
    ".tex": "latex",
    ".parquet": "parquet",
    ".json": "json",
}


def table(
    run: Run | str | Path,
    name: str,
    /,
    *,
    format: Format | None = None,
    columns: str | Sequence[str] | None = None,
    key: str | None = None,
    path: Annotated[str | Path | None, Parameter(name="--out")] = None,
) -> RunTable | str | Path:
    """Give one table of a run, for a paper or for another program.

    Rows of single prompts, such as those of heads, are averaged over prompts. Markdown and LaTeX are for readers: units
    stand in the headings; a mean stands with its standard deviation, mean ± sd, or else with its 95% interval, which is
    written to two significant digits, and the mean to the same place; the mean of a ratio, averaged as a logarithm, is
    times or divided by (×÷) exp(sd); other numbers have four significant digits. What all rows have in common stands in
    the caption, and what is undefined is a dash, with the reason below where the table has one. CSV, JSON and Parquet
    have every column, with every digit; JSON and Parquet also the units and meanings of the columns.

    On the command line:

        thalweg table runs/pythia-410m profile

        thalweg table runs/pythia-410m heads --columns block,head,sink_score --format latex

        thalweg table runs/pythia-410m ablation --out ablation.tex

    Args:
        run: the run or its directory, finished or not.
        name: a table, such as profile, heads, phases or massive; an experiment, such as ablation; or both, such as
            ablation.effects.
        format: how it is written. By default Markdown, with ``path`` what the file's name ends in (.md, .csv, .tex,
            .parquet or .json).
        columns: those that are wanted, or the metrics of a table of metrics, by commas; "all" for all. By default CSV,
            JSON and Parquet have all, and Markdown and LaTeX a few.
        key: which settings of an experiment, where the run holds it by several; the latest by default.
        path: the file to write, in place of what is there.

    Returns:
        The table: ``.frame`` is a polars frame, ``str()`` and what a notebook shows Markdown. A text where there is a
        format, and the file where there is a path.

    Raises:
        UsageError: there is no such run, table, column or key, or the file cannot be written.

    Example:
        >>> table("runs/first", "phases").frame["compress_first"].to_list()  # doctest: +SKIP
        [12]
        >>> print(table("runs/first", "heads", columns="block,head,svi", format="latex"))  # doctest: +SKIP
    """
    from thalweg.tables._written import WRITERS

    file = None if path is None else path_here("--out", path)
    format = format if file is None else format or _format_of(file)
    if format == "parquet" and file is None:
        raise UsageError("--format parquet is no text; say where it goes: --out FILE.")
    wanted = [columns] if isinstance(columns, str) else list(columns or ())
    chosen = found(run if isinstance(run, Run) else open_run(run), name, key)
    chosen = chosen.with_columns([column.strip() for each in wanted for column in each.split(",") if column.strip()])
    if format is None:
        return chosen
    content = WRITERS[format](chosen)
    if file is None:
        return content.decode()
    with os_errors_as_run_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, content)
    return file


def _format_of(file: Path) -> Format:
    if file.suffix.lower() not in ENDINGS:
        expected = ", ".join(ENDINGS)
        raise UsageError(f"--out {file}: expected a name that ends in {expected}. Rename it, or say --format.")
    return ENDINGS[file.suffix.lower()]
