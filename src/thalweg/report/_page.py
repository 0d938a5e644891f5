"""One self-contained page: text and tables in HTML, charts drawn in the browser by the plotly embedded in it."""

import base64
import hashlib
import shlex
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from thalweg.catalogue import METRICS
from thalweg.experiments import Experiment, experiments, labels
from thalweg.shown import INK, Chapter, Chart, Key, Section, amount, chart_of, counted, keys, listing, plotly_script
from thalweg.store import Coverage, DataFacts, ModelFacts, Run, open_run, os_errors_as_run_errors, write_whole

TRIES, PAUSE = 4, 0.5
_HERE = Path(__file__).parent


def write_page(run: Run, file: Path) -> None:
    """Write the run's page; RunError where the file cannot be written."""
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
    every = ((experiment, chapter) for experiment in experiments() for chapter in experiment.chapters(run))
    on_page = (
        (chapter, [_resting(experiment, section) for section in chapter.sections if section.only != "terminal"])
        for experiment, chapter in every
    )
    return [replace(chapter, sections=sections) for chapter, sections in on_page if sections]


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


def _cell(value: Any) -> str:
    if value is None or isinstance(value, float):
        return amount(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _policy(*scripts: str) -> str:
    # The browser runs these two scripts and nothing else, and asks no network for anything.
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    hashes = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:"


def run_facts(run: Run) -> dict[str, dict[str, str]]:
    """Everything the header says, in groups; checkpoints of one model together."""
    header, session = run.header, run.session
    models, covered = dict[str, list[ModelFacts]](), dict[str, list[Coverage]]()
    for model in header.models:
        models.setdefault(f"Model {model.name}", []).append(model)
    for pair in run.coverage:
        covered.setdefault(f"{pair.model} on {pair.data}", []).append(pair)
    return {
        "Run": _run(run),
        **{title: _models(checkpoints) for title, checkpoints in models.items()},
        **{f"Data {data.name}": _data(data) for data in header.data},
        **{title: _coverage(pairs) for title, pairs in covered.items()},
        "Packages": dict(sorted(session.versions.items())),
        "Hardware": {name: str(value) for name, value in sorted(session.hardware.items())},
    }


def how_to_finish(run: Run) -> str | None:
    """The command that goes on with the run; None where a monitor writes it as long as its training goes on."""
    if "every" in run.session.resolved:
        return None
    command = shlex.join(run.session.command) or "thalweg survey ..."
    out = shlex.join(["--out", str(run.path)])
    return command if "--out" in command else f"{command} {out}"


def how_to_survey(run: Run) -> str:
    """The command that adds a survey to a run that experiments have made, but for its options."""
    names = dict.fromkeys(model.name for model in run.header.models)
    return shlex.join(["thalweg", "survey", *names, "--out", str(run.path)])


def _run(run: Run) -> dict[str, str]:
    header, session = run.header, run.session
    options = ", ".join(f"{name} {value}" for name, value in session.resolved.items() if value not in (None, False))
    return {
        "status": run.status,
        "command": shlex.join(session.command) or "from Python",
        "options": options or "none",
        "longest prompt": counted(header.max_length, "token"),
        "tau": str(header.thresholds.tau),
        "massive ratio": str(header.thresholds.massive_ratio),
        "sink position": str(header.thresholds.sink_position),
        "seed": str(header.seed),
        "started": _moment(session.started),
        "last written": _moment(session.updated),
        "seconds": amount(session.seconds),
        "format": str(header.format),
    }


def _models(checkpoints: Sequence[ModelFacts]) -> dict[str, str]:
    """What they have in common is told once."""
    common = _model(checkpoints[0])
    if len(checkpoints) == 1:
        return common
    named = {counted(len(checkpoints), "checkpoint"): ", ".join(model.revision for model in checkpoints)}
    return named | {name: value for name, value in common.items() if name not in ("revision", "weights")}


def _model(model: ModelFacts) -> dict[str, str]:
    blocks = "all blocks" if model.softmax_blocks is None else f"blocks {listing(model.softmax_blocks)}"
    facts = {
        "revision": model.revision + (f" ({model.commit})" if model.commit else ""),
        "weights": model.weights,
        "size": f"{model.blocks} blocks, {model.heads} heads" + (f", width {model.width}" if model.width else ""),
        "parameters": None if model.parameters is None else f"{model.parameters:,}",
        "dtype": model.dtype,
        "quantization": model.quantization,
        "adapter": model.adapter,
        "attention read through": model.attention or "not known yet",
        "softmax attention in": blocks,
        "positions": model.positions or "not known yet",
        "BOS": f"{model.bos}: {model.bos_token or 'none added'}",
        "planted": model.planted or None,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _data(data: DataFacts) -> dict[str, str]:
    given = "in memory, as an object" if data.given is None else data.given
    return {"given": given, "hash": data.hash, "template": data.template, "rows": data.sample or "in their order"}


def _coverage(pairs: Sequence[Coverage]) -> dict[str, str]:
    """Counts of all checkpoints of a model on a data set, added up."""
    skipped = sum((Counter(pair.skipped) for pair in pairs), Counter[str]())
    return {
        "rows read": f"{sum(pair.rows_read for pair in pairs):,}",
        "prompts kept": f"{sum(pair.prompts_kept for pair in pairs):,}",
        "skipped": "; ".join(f"{reason}: {number:,}" for reason, number in sorted(skipped.items())) or "none",
        "too short for a sink rate": f"{sum(pair.short_prompts for pair in pairs):,}",
        "begin with the BOS token twice": f"{sum(pair.bos_twice for pair in pairs):,}",
        "states with NaN or infinity": f"{sum(pair.nonfinite_states for pair in pairs):,}",
        "states that break a bound": f"{sum(pair.bound_violations for pair in pairs):,}",
    }


def _moment(moment: object) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S %Z}" if moment else "not yet"
