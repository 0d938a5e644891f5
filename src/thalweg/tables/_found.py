"""Which table of a run a name means: an experiment's by its settings, a survey's, or the latest that has it."""

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import polars as pl

from thalweg.errors import RunError, UsageError
from thalweg.experiments import experiments, reading, settings_words
from thalweg.store import AGGREGATES, Column, Findings, Run, Table, Tables
from thalweg.tables._averaged import averaged, places_of
from thalweg.validated import did_you_mean

SURVEY = "survey"
_log = logging.getLogger("thalweg.tables")


@dataclass(frozen=True)
class RunTable:
    """One table of a run; as a text, and in a notebook, it is Markdown.

    Attributes:
        run: where it is.
        folder: the experiment's.
        name: of the table.
        key: of the settings.
        frame: its rows.
        table: what they are.
        asked: the columns that were named, or "all"; nothing where none were.
    """

    run: Run
    folder: str
    name: str
    key: str
    frame: pl.DataFrame
    table: Table
    asked: tuple[str, ...] = ()

    def __str__(self) -> str:
        from thalweg.tables._written import markdown

        return markdown(self).decode()

    def _repr_markdown_(self) -> str:
        return str(self)

    def with_columns(self, names: Sequence[str]) -> "RunTable":
        """The same of some columns; of a table of metrics of some metrics, all their columns."""
        if not names or list(names) == ["all"]:
            return replace(self, asked=tuple(names))
        across = self.table.across
        metrics = self.frame[across].unique(maintain_order=True).to_list() if across else []
        known = [*self.frame.columns, *metrics]
        for name in names:
            if name not in known:
                raise UsageError(f"--columns: {self.folder}.{self.name} has no {name!r}{did_you_mean(name, known)}")
        rows = [name for name in names if name in metrics]
        frame = self.frame.filter(pl.col(across).is_in(rows)) if rows else self.frame
        columns = [name for name in names if name not in metrics] if len(rows) < len(names) else frame.columns
        if rows and across not in columns:
            raise UsageError(f"--columns names metrics and columns; expected {across} among them, or metrics alone.")
        return replace(self, frame=frame.select(columns), asked=tuple(names))

    @property
    def declared(self) -> dict[str, Column]:
        """What is known of each column."""
        return {column.name: column for column in self.table.columns}


def found(run: Run, name: str, key: str | None = None) -> RunTable:
    """Find a table by its name, that of its experiment, or both.

    Args:
        run: it is in.
        name: as it was given.
        key: of the settings; the latest by default.

    Raises:
        UsageError: there is no such table or key; the message says what there is.
    """
    with reading(run, "what it holds"):
        held = _held(run)
        folder, table = _named(run, name, held)
        findings = _by_key(run, folder, held[folder], key)
        declared = _declared(folder, findings, table)
        if places_of(declared):
            frame, declared = averaged(_rows(run, findings, folder, table), declared)
        else:
            frame = _rows(run, findings, folder, table).collect()
    return RunTable(run, folder, table, findings.header.key, frame, declared)


def _held(run: Run) -> dict[str, list[Findings]]:
    """What the run holds, by experiment, the survey first; of each the latest last."""
    known = [SURVEY, *(folder for experiment in experiments() for folder in experiment.tables)]
    there = sorted(path.name for path in run.path.iterdir() if path.is_dir())
    folders = sorted(there, key=lambda folder: known.index(folder) if folder in known else len(known))
    return {folder: findings for folder in folders if (findings := run.experiments(folder))}


def _tables() -> dict[str, Tables]:
    return {folder: tables for experiment in experiments() for folder, tables in experiment.tables.items()}


def _named(run: Run, name: str, held: Mapping[str, list[Findings]]) -> tuple[str, str]:
    """Folder and table."""
    folder, _, table = name.partition(".")
    if SURVEY in held and name in held[SURVEY][-1].header.tables:
        return SURVEY, name
    if folder in held and not table:
        tables = list(held[folder][-1].header.tables)
        declared = _tables().get(folder, Tables())
        return folder, declared.main or tables[-1]
    if folder in held and table in held[folder][-1].header.tables:
        return folder, table
    having = [each for each in held if name in held[each][-1].header.tables]
    if not having:
        raise _unknown(run, name, held)
    latest = max(having, key=lambda each: str(held[each][-1].header.updated))
    if others := [f"{each}.{name}" for each in having if each != latest]:
        _log.warning("this is %s.%s, the latest of this name; there is also %s.", latest, name, ", ".join(others))
    return latest, name


def _unknown(run: Run, name: str, held: Mapping[str, list[Findings]]) -> RunError:
    names = [name for findings in held.values() for name in findings[-1].header.tables]
    known = list(dict.fromkeys([*held, *names]))
    near = get_close_matches(name.rpartition(".")[2] or name, known, n=3)
    verbs = {folder: experiment.verb for experiment in experiments() for folder in experiment.tables}
    made = {**verbs, **{table: verbs[folder] for folder, tables in _tables().items() for table in _all(tables)}}
    verb = made.get(name) or (name.partition(".")[0] not in held and made.get(name.partition(".")[0]))
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    hint = f" Make it: {shlex.join(['thalweg', verb, str(run.path)])}." if verb else hint
    return RunError(f"{run.path} holds no table {name!r:.60}.{hint} It holds {', '.join(known) or 'none yet'}.")


def _all(tables: Tables) -> tuple[str, ...]:
    return (*tables.parts, *tables.wholes)


def _by_key(run: Run, folder: str, every: Sequence[Findings], key: str | None) -> Findings:
    words = {each.header.key: settings_words(each) or "no settings" for each in every}
    if key is None:
        latest = every[-1]
        if others := [f"{other} ({words[other]})" for other in words if other != latest.header.key]:
            mine = f"{latest.header.key} ({words[latest.header.key]})"
            _log.warning(
                "%s holds %s by several settings; these are the latest, %s. --key chooses another: %s.",
                run.path,
                folder,
                mine,
                "; ".join(others),
            )
        return latest
    chosen = [each for each in every if each.header.key == key]
    if not chosen:
        known = "; ".join(f"{each} ({said})" for each, said in words.items())
        raise UsageError(f"--key {key!r:.60}: {run.path} holds {folder} by {known}. Give one of these ten digits.")
    return chosen[0]


def _declared(folder: str, findings: Findings, name: str) -> Table:
    """What is declared of the columns that are there; of a package that is not installed, their names alone."""
    known = _tables().get(folder)
    there = findings.header.tables[name].types
    try:
        table = known[name] if known is not None else None
    except ValueError:
        table = None
    columns = {} if table is None else {column.name: column for column in table.columns}
    present = tuple(columns.get(each, Column(each, dtype)) for each, dtype in there.items())
    return Table("", present) if table is None else replace(table, columns=present)


def _rows(run: Run, findings: Findings, folder: str, name: str) -> pl.LazyFrame:
    if folder == SURVEY and (name in AGGREGATES or name in findings.header.named("parts")):
        return getattr(run, name)
    if name in findings.missing:
        raise RunError(
            f"{findings.directory} has no {name} yet, or by earlier definitions (status: {findings.header.status}). "
            f"The same command with `{run.as_out}` makes it."
        )
    return findings.table(name)
