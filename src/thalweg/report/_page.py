"""One self-contained page: text and tables in HTML, charts drawn in the browser by the plotly embedded in it."""

import base64
import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from thalweg.catalogue import METRICS
from thalweg.errors import RunError
from thalweg.figures import Pair, labels, latest_pairs
from thalweg.report._charts import Chart, bound_charts, depth_charts, norm_charts, series_colors, sink_chart
from thalweg.report._contrast import contrast_pages
from thalweg.report._facts import how_to_finish, how_to_survey, run_facts
from thalweg.report._interventions import ablation_pages, clip_pages
from thalweg.report._lens import lens_pages
from thalweg.report._massive import Answer, massive_answer, where_answer
from thalweg.report._mcq import mcq_pages
from thalweg.report._mteb import mteb_pages
from thalweg.report._probe import probe_pages
from thalweg.report._sinks import SinkingHeads, shortest_prompt, sink_answer, sinking_heads
from thalweg.report._tables import Table, coupling_rows, massive_rows, phase_rows
from thalweg.report._theory import TheoremVerdict, theorem_verdict
from thalweg.report._training import sizes_pages, training_pages
from thalweg.report._words import counted
from thalweg.store import Run, open_run

TRIES, PAUSE = 4, 0.5
_HERE = Path(__file__).parent
_PROFILE = ("entropy_normalized", "sink_rate", "sink_norm")
_MIXING = ("colsum_rate", "mixing", "mixing_normalized")


@dataclass(frozen=True)
class PairPage:
    """What the page says about one model on one data set."""

    label: str
    data: str
    prompts: str
    planted: str | None
    answers: tuple[tuple[str, Answer], ...]
    heads: SinkingHeads
    sink_chart: Chart | None
    bounds: list[Chart]
    theorem: TheoremVerdict
    massive: Table


@dataclass(frozen=True)
class DataPage:
    """Charts that show all models on one data set."""

    name: str
    profile: list[Chart]
    mixing: list[Chart]
    norms: list[Chart]


def write_report(run: Run, path: str | Path | None = None) -> Path:
    """Write the run's report as one HTML file that opens without a network.

    Args:
        run: the run, finished or not.
        path: the file to write, ``report.html`` inside the run if not given.

    Returns:
        The file.

    Raises:
        RunError: the file cannot be written.
    """
    file = Path(path) if path is not None else run.path / "report.html"
    page = _settled(run)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot write {file}: {error.strerror or error}. Choose another place.") from error
    return file


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
    scripts = {"plotly": get_plotlyjs(), "page": (_HERE / "page.js").read_text(encoding="utf-8")}
    return environment.get_template("page.html.j2").render(
        version=version("thalweg"),
        header=run.header,
        status=run.status,
        updated=run.session.updated,
        models=_titles(run),
        series=series_colors(run),
        missing=run.missing,
        surveyed=run.status != "finished" or "profile" not in run.missing,
        survey=how_to_survey(run),
        finish=how_to_finish(run),
        pairs=[_pair_page(run, pair) for pair in latest_pairs(run)],
        trainings=training_pages(run),
        sizes=sizes_pages(run),
        ablations=ablation_pages(run),
        clips=clip_pages(run),
        contrasts=contrast_pages(run),
        lenses=lens_pages(run),
        probes=probe_pages(run),
        choices=mcq_pages(run),
        embeddings=mteb_pages(run),
        data=[_data_page(run, data.name) for data in run.header.data] if "profile" not in run.missing else [],
        phases=phase_rows(run) if "phases" not in run.missing else None,
        coupling=coupling_rows(run) if "coupling" not in run.missing else None,
        shortest=shortest_prompt(run.header.thresholds.tau),
        facts=run_facts(run),
        metrics=METRICS,
        policy=_policy(*scripts.values()),
        css=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        scripts={name: Markup(script) for name, script in scripts.items()},
    )


def _titles(run: Run) -> list[str]:
    """What the run is about: its models, those with several checkpoints by name and number."""
    names, found = labels(run.header), dict[str, list[str]]()
    for model in run.header.models:
        found.setdefault(model.name, []).append(names[model.name, model.revision])
    return [own[0] if len(own) == 1 else f"{name}, {len(own)} checkpoints" for name, own in found.items()]


def _pair_page(run: Run, pair: Pair) -> PairPage:
    prompts = run.prompts.filter(pair.rows).collect().height
    answers = (
        ("Massive activations?", massive_answer(run, pair)),
        ("Where do they begin and end?", where_answer(run, pair)),
        ("Which heads sink?", sink_answer(run, pair)),
    )
    return PairPage(
        label=labels(run.header)[pair.model, pair.revision],
        data=pair.data,
        prompts=counted(prompts, "prompt"),
        planted={(one.name, one.revision): one.planted for one in run.header.models}[pair.model, pair.revision],
        answers=answers,
        heads=sinking_heads(run, pair),
        sink_chart=sink_chart(run, pair),
        bounds=bound_charts(run, pair),
        theorem=theorem_verdict(run, pair),
        massive=massive_rows(run, pair),
    )


def _data_page(run: Run, data: str) -> DataPage:
    which = latest_pairs(run, data)
    return DataPage(
        data, depth_charts(run, which, _PROFILE), depth_charts(run, which, _MIXING), norm_charts(run, which)
    )


def _policy(*scripts: str) -> str:
    # The browser runs these two scripts and nothing else, and asks no network for anything.
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:"


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
