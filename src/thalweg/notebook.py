"""How do a run and what an experiment found show themselves in a notebook? In words and tables, which draw nothing."""

from collections.abc import Callable
from functools import wraps
from html import escape
from typing import Any

from thalweg.errors import ThalwegError
from thalweg.experiments import experiments, sections_of, settings_words
from thalweg.shown import Card, Section, Table, section_html
from thalweg.store import Findings, Run, open_run

__all__ = ["findings_html", "run_html"]

_ROWS = 12
_PROMPTS = ("model", "revision", "data", "prompts", "rows read")
_FOUND = ("experiment", "settings", "status")


def _or_what_is_wrong(shown: Callable[[Any], str]) -> Callable[[Any], str]:
    """A damaged run says so; a notebook that shows it goes on."""

    @wraps(shown)
    def html(what: Any) -> str:
        try:
            return shown(what)
        except ThalwegError as error:
            return f"<pre>{escape(str(error))}</pre>"

    return html


@_or_what_is_wrong
def run_html(run: Run) -> str:
    """Give what a run was measured of and on, and what it holds, from its headers alone."""
    covered = [[*pair.pair, pair.prompts_kept, pair.rows_read] for pair in run.coverage]
    held = [findings for known in experiments() for folder in known.tables for findings in run.experiments(folder)]
    found = [[each.header.experiment, settings_words(each), each.header.status] for each in held]
    missing = f"; {', '.join(run.missing)} not written yet" if run.survey and run.missing else ""
    said = f"{run.path}: {run.status}{missing}"
    tables = [_shortened("prompts", _PROMPTS, covered), _shortened("found", _FOUND, found)]
    return section_html(Section(said, tables=tables))


@_or_what_is_wrong
def findings_html(findings: Findings) -> str:
    """Give what an experiment found by one of its settings, in sentences and tables."""
    header, run = findings.header, open_run(findings.run)
    known = next((known for known in experiments() if header.experiment in known.tables), None)
    cards = known.cards(run) if known else ()
    whole = Section(f"{header.experiment} of {run.path}: {header.status}", tables=[_answers(card) for card in cards])
    sections = [whole, *(sections_of(known, run, header.key) if known else ())]
    return "".join(section_html(section, drawn=False) for section in sections)


def _answers(card: Card) -> Table:
    rows = [(answer.question, answer.text) for answer in card.answers]
    return Table(f"{card.title} {card.about}", ("question", "answer"), rows)


def _shortened(title: str, columns: tuple[str, ...], rows: list[list[Any]]) -> Table:
    return Table(title, columns, rows[:_ROWS], f"and {len(rows) - _ROWS} more" if len(rows) > _ROWS else "")
