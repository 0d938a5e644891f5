"""One self-contained page: text and tables in HTML, charts drawn in the browser by the plotly embedded in it."""

import base64
import hashlib
import time
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from thalweg.catalogue import METRICS
from thalweg.experiments import experiments, labels
from thalweg.report._facts import how_to_finish, how_to_survey, run_facts
from thalweg.shown import INK, Chapter, Chart, Key, Section, amount, chart_of, keys, plotly_script
from thalweg.store import Run, open_run, os_errors_as_run_errors, write_whole

TRIES, PAUSE = 4, 0.5
_HERE = Path(__file__).parent


def write_page(run: Run, file: Path) -> None:
    """Write the run's page.

    Raises:
        RunError: the file cannot be written.
    """
    page = _settled(run)
    with os_errors_as_run_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, page.encode())


def _settled(run: Run) -> str:
    """The page; made anew where a training that goes on has written in the meantime."""
    for _ in range(TRIES):
        if run.status != "started":
            break
        with suppress(Exception):  # what is read fits together a moment later, or the last try says what is wrong
            return _render(run)
        time.sleep(PAUSE)
        run = open_run(run.path)
    return _render(run)


def _render(run: Run) -> str:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"cell": _cell, "charts": _charts, "keys": _keys}
    scripts = {"plotly": plotly_script(), "page": (_HERE / "page.js").read_text(encoding="utf-8")}
    return environment.get_template("page.html.j2").render(
        version=version("thalweg"),
        header=run.header,
        status=run.status,
        updated=run.session.updated,
        models=_titles(run),
        missing=run.missing,
        surveyed=run.status != "finished" or "profile" not in run.missing,
        survey=how_to_survey(run),
        finish=how_to_finish(run),
        cards=[card for experiment in experiments() for card in experiment.cards(run)],
        chapters=_chapters(run),
        facts=run_facts(run),
        metrics=METRICS,
        ink=INK,
        policy=_policy(*scripts.values()),
        css=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        scripts={name: Markup(script) for name, script in scripts.items()},
    )


def _titles(run: Run) -> list[str]:
    """What the run is about: its models, those with several checkpoints by name and number."""
    names, by_name = labels(run.header), dict[str, list[str]]()
    for model in run.header.models:
        by_name.setdefault(model.name, []).append(names[model.name, model.revision])
    return [shown[0] if len(shown) == 1 else f"{name}, {len(shown)} checkpoints" for name, shown in by_name.items()]


def _chapters(run: Run) -> list[Chapter]:
    """What every experiment shows, without what is for the terminal alone."""
    every = (chapter for experiment in experiments() for chapter in experiment.chapters(run))
    on_page = (
        replace(chapter, sections=[section for section in chapter.sections if section.only != "terminal"])
        for chapter in every
    )
    return [chapter for chapter in on_page if chapter.sections]


def _charts(section: Section) -> list[Chart]:
    return [chart_of(panel, legend=section.legend == "each") for panel in section.panels]


def _keys(section: Section) -> list[Key]:
    """What stands above the charts of a section that have one legend; a single line alone needs none."""
    named = keys(section.panels) if section.legend == "shared" else []
    return named if len(named) > 1 or any(not key.switch for key in named) else []


def _cell(value: Any) -> str:
    if value is None or isinstance(value, float):
        return amount(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _policy(*scripts: str) -> str:
    # The browser runs these two scripts and nothing else, and asks no network for anything.
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:"


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
