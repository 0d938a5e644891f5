"""Every figure that a run's tables allow, as files."""

import warnings
from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure

from thalweg.errors import RunError
from thalweg.figures._ablated import ablations_of
from thalweg.figures._ablation import ablation
from thalweg.figures._attribution import attribution
from thalweg.figures._bounds import bounds
from thalweg.figures._checkpoints import emergence, sizes_profile, training_maps, training_profile
from thalweg.figures._choices import mcq_model, mcqs_of
from thalweg.figures._clip import clip
from thalweg.figures._contrast import contrast
from thalweg.figures._contrasted import contrast_of
from thalweg.figures._contributions import writer
from thalweg.figures._depth import depth_profile, mixing, norms
from thalweg.figures._drawing import styled
from thalweg.figures._lens import lens
from thalweg.figures._lens_read import lenses_of
from thalweg.figures._mcq import mcq
from thalweg.figures._mteb import mteb
from thalweg.figures._pairs import latest_pairs, pairs
from thalweg.figures._probe import probe, probe_models
from thalweg.figures._probed import compared_probes, probes_of
from thalweg.figures._sink_map import sink_map
from thalweg.figures._task_scores import mteb_model, mtebs_of
from thalweg.figures._training import compared_sizes, trainings
from thalweg.store import Findings, Run, slug

# Without dates and versions, so that the same run gives the same files.
_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None},
}


def save_figures(run: Run, path: str | Path | None = None) -> list[Path]:
    """Draw everything the run's tables allow, each as png and pdf.

    Args:
        run: the run, finished or not; what needs the profile is left out where it is not written yet.
        path: the directory for the figures, ``figures`` inside the run if not given.

    Returns:
        The files, in the order they were drawn.

    Raises:
        RunError: the directory cannot be written.
    """
    directory = Path(path) if path is not None else run.path / "figures"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return [file for name, figure in _figures(run) for file in _save(figure, directory / name)]
    except OSError as error:
        raise RunError(
            f"cannot write figures to {directory}: {error.strerror or error}. Choose another place."
        ) from error


def _figures(run: Run) -> Iterator[tuple[str, Figure]]:
    several = len(run.header.data) > 1
    if "profile" not in run.missing:
        for data in (facts.name for facts in run.header.data):
            suffix = f"_{slug(data)}" if several else ""
            for draw in (depth_profile, norms, mixing):
                yield f"{draw.__name__}{suffix}", draw(run, data)
            if compared_sizes(run, data).height:
                yield f"sizes_profile{suffix}", sizes_profile(run, data)
    for axis in trainings(run):
        suffix = f"_{slug(axis.data)}" if several else ""
        for draw in (training_profile, emergence, training_maps):
            yield f"{draw.__name__}_{slug(axis.model)}{suffix}", draw(run, axis)
    for pair in pairs(run):
        if writer(run, pair) is not None:
            suffix = f"_{slug(pair.data)}" if several else ""
            yield f"attribution_{slug(pair.model, pair.revision)}{suffix}", attribution(run, pair)
    for pair in pairs(run):
        if lenses_of(run, pair):
            suffix = f"_{slug(pair.data)}" if several else ""
            yield f"lens_{slug(pair.model, pair.revision)}{suffix}", lens(run, pair)
    yield from _compared(run)
    yield from _probed(run)
    yield from _embedded(run)
    yield from _chosen(run)
    for pair in latest_pairs(run):
        if run.prompts.filter(pair.rows).head(1).collect().height:
            suffix = f"_{slug(pair.data)}" if several else ""
            name = f"{slug(pair.model, pair.revision)}{suffix}"
            yield f"bounds_{name}", bounds(run, pair)
            if run.heads.filter(pair.rows).head(1).collect().height:
                yield f"sink_map_{name}", sink_map(run, pair)
            if contrast_of(run, pair) is not None:
                yield f"contrast_{name}", contrast(run, pair)


def _compared(run: Run) -> Iterator[tuple[str, Figure]]:
    """The model as it is against the same model changed; of several settings the latest has the plain name."""
    several = len(run.header.data) > 1
    for pair in pairs(run):
        name = f"{slug(pair.model, pair.revision)}{f'_{slug(pair.data)}' if several else ''}"
        for draw, experiment, table in ((ablation, "ablation", "effects"), (clip, "clip", "curves")):
            found = ablations_of(run, pair, experiment, table)
            for one in found:
                suffix = "" if one is found[-1] else f"_{one.header.key}"
                yield f"{experiment}_{name}{suffix}", draw(run, pair, one)


def _probed(run: Run) -> Iterator[tuple[str, Figure]]:
    """Probes; of several of one model and data set the latest has the plain name."""
    probes = probes_of(run)
    found = {_probe_name(one): one for one in probes}
    for one in probes:
        name = _probe_name(one)
        yield f"probe_{name}{'' if found[name] is one else f'_{one.header.key}'}", probe(run, one)
    for group in compared_probes(run):
        yield f"probe_models_{group[0].header.key}", probe_models(run, group)


def _probe_name(experiment: Findings) -> str:
    model, revision, data = experiment.table("accuracy").select("model", "revision", "data").head(1).collect().row(0)
    return f"{slug(model, revision)}_{slug(data)}"


def _embedded(run: Run) -> Iterator[tuple[str, Figure]]:
    """Scores on MTEB; of several of one model the latest has the plain name."""
    every = mtebs_of(run)
    latest = {mteb_model(one): one for one in every}
    for one in every:
        own = mteb_model(one)
        yield f"mteb_{slug(*own)}{'' if latest[own] is one else f'_{one.header.key}'}", mteb(run, one)


def _chosen(run: Run) -> Iterator[tuple[str, Figure]]:
    """Multiple choice; of several of one model and lens the latest has the plain name."""
    every = mcqs_of(run)
    latest = {_choice_name(one): one for one in every}
    for one in every:
        name = _choice_name(one)
        yield f"mcq_{name}{'' if latest[name] is one else f'_{one.header.key}'}", mcq(run, one)


def _choice_name(experiment: Findings) -> str:
    tuned = "_tuned" if experiment.header.settings["lens"] == "tuned" else ""
    return f"{slug(*mcq_model(experiment))}{tuned}"


@styled
def _save(figure: Figure, stem: Path) -> list[Path]:
    files = [stem.with_name(f"{stem.name}.{kind}") for kind in _METADATA]
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn with boxes; the figure is still right.
        warnings.filterwarnings("ignore", message="Glyph")
        for file, metadata in zip(files, _METADATA.values(), strict=True):
            figure.savefig(file, metadata=metadata)
            figure.set_layout_engine("none")  # laid out by the first, which the second need not repeat
    return files
