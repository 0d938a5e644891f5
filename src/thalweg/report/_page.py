"""One self-contained page: text and tables in HTML, charts drawn in the browser by the plotly embedded in it."""

import base64
import gzip
import hashlib
import json
import re
import time
from contextlib import suppress
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from thalweg.catalogue import METRICS
from thalweg.comparison import compared_in
from thalweg.experiments import Experiment, experiments, head_numbers, labels
from thalweg.report._facts import Made, compared_by, how_to_finish, how_to_survey, made_of, run_facts
from thalweg.shown import INK, Chapter, Chart, Key, Section, cell, chart_of, keys, listing, plotly_script
from thalweg.store import Findings, Run, open_run, os_errors_as_run_errors, write_whole

TRIES, PAUSE = 4, 0.5
PACKED_FROM = 2**14
"""Letters from which the map of a head is compressed."""
COMPARED = "Curves are means over prompts; the band is one standard deviation, that of a difference its 95% interval."
_HERE = Path(__file__).parent


def write_page(run: Run, file: Path, against: Run | None = None) -> None:
    """Write the run's page, compared with another run where there is one; RunError where it cannot be written."""
    page = _settled(run, against)
    with os_errors_as_run_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, page.encode())


def _settled(run: Run, against: Run | None) -> str:
    """The page; made anew where a training that goes on has written in the meantime."""
    for _ in range(TRIES):
        if run.status != "started":
            break
        with suppress(Exception):  # what is read fits together a moment later, or the last try says what is wrong
            return _render(run, against)
        time.sleep(PAUSE)
        run = open_run(run.path)
    return _render(run, against)


def _render(run: Run, against: Run | None) -> str:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "cell": cell,
        "charts": _charts,
        "keys": _keys,
        "steps": _steps,
        "term": _term,
        "packed": _packed,
    }
    own = ("charts.js", "page.js", "text.js")
    scripts = [plotly_script(), *((_HERE / name).read_text(encoding="utf-8") for name in own)]
    compared = _compared(run, against)
    chapters = [*compared, *_chapters(run)] if against else [*_chapters(run), *compared]
    panels = [panel for chapter, _ in chapters for section in chapter.sections for panel in section.panels]
    heads = list(dict.fromkeys(panel.heads for panel in panels if panel.heads and panel.head is None))
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
        chapters=chapters,
        heads=heads,
        head_numbers=_packed(_json([asdict(head_numbers(run, key)) for key in heads])),
        packed_from=PACKED_FROM,
        facts=run_facts(run),
        metrics=METRICS,
        ink=INK,
        policy=_policy(*scripts),
        css=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        scripts=list(map(Markup, scripts)),
    )


def _json(content: Any) -> str:
    return json.dumps(content, allow_nan=False, separators=(",", ":"))


def _packed(text: str) -> str:
    """Compressed, in letters that are safe everywhere: thousands of heads have many numbers, and maps of heads too."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _titles(run: Run) -> list[str]:
    """What the run is about: its models, those with several checkpoints by name and number."""
    names, by_name = labels(run.header), dict[str, list[str]]()
    for model in run.header.models:
        by_name.setdefault(model.name, []).append(names[model.name, model.revision])
    return [shown[0] if len(shown) == 1 else f"{name}, {len(shown)} checkpoints" for name, shown in by_name.items()]


def _chapters(run: Run) -> list[tuple[Chapter, list[Made]]]:
    """What every experiment shows, without what is for the terminal alone, each with how it was made."""
    every = ((experiment, chapter) for experiment in experiments() for chapter in experiment.chapters(run))
    on_page = (
        (experiment, chapter, [section for section in chapter.sections if section.only != "terminal"])
        for experiment, chapter in every
    )
    return [_made(run, experiment, chapter, sections) for experiment, chapter, sections in on_page if sections]


def _compared(run: Run, against: Run | None) -> list[tuple[Chapter, list[Made]]]:
    """What moved from another run, or from the first of its own models or data sets; nothing of one alone."""
    found = compared_in(run, against)
    chapter = Chapter("Compared", "compare", found.sections, COMPARED)
    return [(chapter, list(map(compared_by, found.compared)))] if found.compared else []


def _made(run: Run, experiment: Experiment, chapter: Chapter, sections: list[Section]) -> tuple[Chapter, list[Made]]:
    """The chapter and how the findings were made that its sections are drawn from, or else the experiment's latest."""
    findings = [each for folder in experiment.tables for each in run.experiments(folder)]
    drawn = {section.key for section in sections}
    which: list[Findings] = [each for each in findings if each.header.key in drawn] or findings[-1:]
    resting = [_resting(experiment, section) for section in sections]
    return replace(chapter, sections=resting), list(dict.fromkeys(map(made_of, which)))


def _resting(experiment: Experiment, section: Section) -> Section:
    """The section, with the tables that its sentences rest on."""
    if section.rests or not section.sentences or not experiment.answers:
        return section
    folder = f"{experiment.name}/{section.key}" if section.key else experiment.name
    return replace(section, rests=f"{listing(experiment.answers)} in {folder}")


def _charts(section: Section) -> list[Chart]:
    return [chart_of(panel, legend=section.legend == "each") for panel in section.panels]


def _keys(section: Section) -> list[Key]:
    """What stands above the charts of a section that have one legend; a single line alone needs none."""
    named = keys(section.panels) if section.legend == "shared" else []
    return named if len(named) > 1 or any(not key.switch for key in named) else []


def _steps(section: Section) -> list[str]:
    """The lines that a section's slider chooses from: those that a scale of colours stands for."""
    scaled = (panel.lines for panel in section.panels if panel.scale is not None)
    return [line.name for line in next(scaled, ()) if not line.named]


_TERMS = {metric.title.lower(): metric.name for metric in METRICS}
_LONGEST_FIRST = re.compile("|".join(rf"\b{re.escape(title)}\b" for title in sorted(_TERMS, key=len, reverse=True)))
_NAMES = {metric.name.replace("_", " "): metric.name for metric in METRICS if len(metric.name) > len("alpha")}


def _term(text: str) -> str:
    """The metric that a title or a heading names, empty for none.

    By its name, its title, the beginning of its title, of two words or more, or by its title somewhere in it.
    """
    said = text.lower().split(" (")[0]
    begun = next((name for title, name in _TERMS.items() if title.startswith(f"{said} ") and " " in said), "")
    found = _LONGEST_FIRST.search(said)
    return _NAMES.get(said) or _TERMS.get(said) or begun or (_TERMS[found[0]] if found else "")


def _policy(*scripts: str) -> str:
    # The browser runs these scripts and nothing else, and asks no network for anything.
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    hashes = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:"
