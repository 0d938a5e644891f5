"""What checkpoints show over training and over sizes (the paper's Figures 2, 12 and 14), and maps of depth."""

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from shlex import quote
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from thalweg import averages
from thalweg.experiments._checkpoints.axis import (
    TRAINING_METRICS,
    TRAINING_TITLES,
    TrainingAxis,
    checkpoint_table,
    compared_sizes,
    emergence_sentence,
    shades,
    size_table,
    size_ticks,
    trainings,
)
from thalweg.experiments._declared import PARTLY, Experiment, Outcome, sections_of, sentences, state_remarks
from thalweg.experiments._survey.view import BOUND_VIOLATED
from thalweg.experiments._views import (
    THROUGH_DEPTH,
    along,
    compress_span,
    curves,
    ending,
    file_names,
    kinds_of,
    label_of,
    metric_panel,
    pairs,
    shaded,
    short_names,
    tracks,
)
from thalweg.shown import (
    GREY,
    INK,
    MARK,
    PALETTE,
    Chapter,
    Heat,
    Line,
    Panel,
    Rule,
    Scale,
    Section,
    title,
    unit,
)
from thalweg.store import Findings, Run

if TYPE_CHECKING:
    from thalweg.experiments._checkpoints import Checkpoints

"""The exit code where a checkpoint is missing."""
_MAPS = {"entropy_normalized": "state", "sink_rate": "block", "norm_ratio": "state"}
_NOTE = (
    "Dashed: the threshold of the definition. Dotted: the checkpoint from which it holds to the last one. Extremes are "
    "over states 1 to the last and over all blocks. The tables hold means over prompts. What "
    "follows shows the last checkpoint."
)


def chapters(run: Run) -> Iterator[Chapter]:
    """Give what the checkpoints and the sizes of a run show; nothing of tables older than what was measured."""
    findings = run.experiments("checkpoints")
    if not findings or "profile" in run.missing:
        return
    values = findings[-1].table("curves").collect()
    training = [*_stale(run, findings[-1], values), *_over_training(run, findings[-1], values)]
    yield Chapter("Over training", "training", training, _NOTE)
    yield Chapter("Over sizes", "sizes", list(_over_sizes(run, findings[-1], values)))


def _stale(run: Run, findings: Findings, values: pl.DataFrame) -> Iterator[Section]:
    """Where the run was extended after its checkpoints were summed up."""
    if values.height and not (now := averages.checkpoint_curves(run.profile.collect())).equals(
        values.select(column.cast(now.schema[column.name]) for column in values.select(now.columns))
    ):
        again = shlex.join(findings.header.command) or "the `thalweg checkpoints` command that made it"
        said = f"Stale: the run holds other prompts by now than its checkpoints were summed up over. Run: {again}"
        yield Section("", sentences=[said], key=findings.header.key)


def _over_training(run: Run, findings: Findings, values: pl.DataFrame) -> Iterator[Section]:
    for axis in trainings(values):
        yield _emergence(run, findings, values, axis)
        yield _maps(run, axis)
        yield _training_profile(run, axis)
    yield from _single(findings, values, short_names(run.header))


def _single(findings: Findings, values: pl.DataFrame, names: dict[str, str]) -> Iterator[Section]:
    """A checkpoint that is the only one of its model, and compared with none, has a row of the table alone."""
    for (model, data), rows in values.group_by("model", "data", maintain_order=True):
        model, data = str(model), str(data)
        if rows["revision"].n_unique() == 1 and compared_sizes(values, data).filter(model=model).is_empty():
            table = checkpoint_table(values, model, data)
            yield Section(f"{names[model]} on {data}", tables=[table], key=findings.header.key)


def _emergence(run: Run, findings: Findings, values: pl.DataFrame, axis: TrainingAxis) -> Section:
    """How far each phenomenon has come at each checkpoint, and where it emerges."""
    emerged = findings.table("emergence").filter(model=axis.model, data=axis.data).collect()
    of_axis = values.filter(model=axis.model, data=axis.data)
    return Section(
        _heading(run, axis),
        name=f"emergence_{_file_name(run, axis)}",
        sentences=[emergence_sentence(row) for row in emerged.to_dicts()],
        panels=[
            _over_steps(of_axis, emerged, axis, metric, PALETTE[number])
            for number, metric in enumerate(TRAINING_METRICS)
        ],
        tables=[checkpoint_table(values, axis.model, axis.data)],
        key=findings.header.key,
        headline=f"{_heading(run, axis)}, over training",
        legend="each",
    )


def _over_steps(values: pl.DataFrame, emerged: pl.DataFrame, axis: TrainingAxis, metric: str, color: str) -> Panel:
    source = TRAINING_METRICS[metric]
    phenomenon = emerged.filter(metric="entropy_ratio" if source == "entropy_normalized" else metric).to_dicts()
    lines, rules = [Line("measured", _reached(values, axis, metric), color, band=False)], list[Rule]()
    for row in phenomenon:
        if row["metric"] == "entropy_ratio":
            half = _reached(values, axis, "earlier_entropy_normalized", row["threshold"])
            lines.append(Line("half of the largest before", half, GREY, "--", band=False))
        else:
            rules.append(Rule(f"threshold {row['threshold']:g}", row["threshold"]))
        rules += _mark(axis, row)
    name, ticks = TRAINING_TITLES[metric], axis.ticks(6)
    return metric_panel(source, axis.title, lines, title=name, rules=tuple(rules), ticks=ticks)


def _mark(axis: TrainingAxis, row: dict[str, Any]) -> list[Rule]:
    """The checkpoint from which a phenomenon is there, none if it never is."""
    if row["order"] is None:
        return []
    here = axis.rows.filter(order=row["order"]).row(0, named=True)
    name = f"from {'' if here['step'] is None else 'step '}{here['label']} on"
    return [Rule(name, here["at"], INK, ":", upright=True)]


def _reached(values: pl.DataFrame, axis: TrainingAxis, metric: str, factor: float = 1.0) -> pl.DataFrame:
    reached = values.filter(metric=metric).select("revision", mean=pl.col("value") * factor)
    return axis.rows.join(reached, on="revision", how="left", maintain_order="left").select("at", "mean")


def _maps(run: Run, axis: TrainingAxis) -> Section:
    """Depth against checkpoints, a column a checkpoint."""
    rows = curves(run, axis.pairs(run), list(_MAPS))
    ticks = axis.columns(4)  # more would be turned, and run into the title
    heats = [_heat(training_grid(run, axis, rows, metric), metric) for metric in _MAPS]
    spans = [compress_span(run, pair) for pair in axis.pairs(run)]
    panels = [
        Panel(title(metric), axis.column_title, site, tuple(_edges(spans, len(heat.grid))), heat=heat, ticks=ticks)
        for (metric, site), heat in zip(_MAPS.items(), heats, strict=True)
    ]
    name, headline = f"training_maps_{_file_name(run, axis)}", f"{_heading(run, axis)}, by checkpoint"
    return Section("", name=name, panels=panels, headline=headline, size=(3.9, 3.2))


def _edges(spans: Sequence[tuple[int, int] | None], places: int) -> Iterator[Line]:
    """Where each checkpoint's compress phase begins and ends, on a map of so many states, or blocks that read them."""
    if not any(spans):
        return
    for end, named in ((0, True), (1, False)):
        heights = [math.nan if span is None else min(span[end], places - 1) + end - 0.5 for span in spans]
        at = [column + side for column in range(len(spans)) for side in (-0.5, 0.5)]
        rows = pl.DataFrame({"at": at, "mean": [height for height in heights for _ in range(2)]})
        yield Line("compress phase", rows, MARK, width=2.0, named=named, step=True)


def training_grid(run: Run, axis: TrainingAxis, rows: pl.DataFrame, metric: str) -> np.ndarray:
    """Give a metric's means as a grid, depth up and checkpoints across; what has no value is NaN."""
    groups = rows.filter(metric=metric).group_by("revision", maintain_order=True)
    means = {revision: of_revision["mean"].to_numpy() for (revision,), of_revision in groups}
    which = axis.pairs(run)
    gap = np.full(which[0].blocks + (_MAPS[metric] == "state"), np.nan)  # of one model: all have its shape
    return np.stack([means.get(pair.revision, gap) for pair in which], axis=1)


def _heat(grid: np.ndarray, metric: str) -> Heat:
    if metric != "norm_ratio":
        return Heat(grid, unit(metric), 0.0, 1.0)
    shown = grid[np.isfinite(grid) & (grid > 0)]
    return Heat(grid, unit(metric), min(1.0, *shown, 1.0), max(10.0, *shown, 10.0), log=True)


def _training_profile(run: Run, axis: TrainingAxis) -> Section:
    """Three panels through depth, a line a checkpoint: the later, the darker."""
    which = axis.pairs(run)
    rows = curves(run, which, [*THROUGH_DEPTH, "rest_norm"])
    scale = Scale(axis.title, *axis.span, axis.ticks(12), shades(np.linspace(0, 1, 64)))
    of_last = [replace(span, name=f"{span.name}, last checkpoint") for span in shaded(compress_span(run, which[-1]))]
    more = {"scale": scale, "spans": tuple(of_last)}
    return Section(
        "",
        name=f"training_profile_{_file_name(run, axis)}",
        panels=[
            metric_panel(metric, site, _through_depth(rows, axis, metric), **more, kinds=kinds_of(which, site))
            for metric, site in THROUGH_DEPTH.items()
        ],
        headline=f"{_heading(run, axis)}, by checkpoint",
        legend="each",
    )


def _through_depth(rows: pl.DataFrame, axis: TrainingAxis, metric: str) -> Iterator[Line]:
    revisions = axis.rows["revision"]
    for revision, color in zip(revisions, axis.colors(), strict=True):
        line = along(rows.filter(revision=revision, metric=metric), "index")
        yield Line(revision, line, color, named=False, band=False)
    if metric == "sink_norm":
        rest = along(rows.filter(revision=revisions[-1], metric="rest_norm"), "index")
        yield Line("other tokens, last checkpoint", rest, GREY, "--", band=False)


def _over_sizes(run: Run, findings: Findings, values: pl.DataFrame) -> Iterator[Section]:
    for data in (facts.name for facts in run.header.data):
        compared = compared_sizes(values, data)
        if compared.height:
            yield Section(
                data,
                name=f"sizes_profile{ending(run, data)}",
                panels=[*_by_size(run, compared, data), *_over_parameters(compared)],
                tables=[size_table(compared, data)],
                key=findings.header.key,
                headline=f"models of several sizes on {data}",
            )


def _by_size(run: Run, compared: pl.DataFrame, data: str) -> Iterator[Panel]:
    """Through depth, the larger the model the darker the line."""
    names = compared["model"].unique(maintain_order=True).to_list()
    by_model = {pair.model: pair for pair in pairs(run, data)}
    which = [by_model[name] for name in names]
    rows, colors = curves(run, which, list(THROUGH_DEPTH)), shades(np.linspace(0, 1, len(names)))
    for metric, site in THROUGH_DEPTH.items():
        lines = [
            Line(label_of(run, pair), along(rows.filter(pair.rows, metric=metric), "depth"), color, band=False)
            for pair, color in zip(which, colors, strict=True)
        ]
        bars = tracks(run, zip(which, colors, strict=True), site, share=True)
        yield metric_panel(metric, f"share of depth [{site} / blocks]", lines, tracks=bars)


def _over_parameters(compared: pl.DataFrame) -> Iterator[Panel]:
    """What the models reach over their number of parameters."""
    for metric, color in zip(reversed(TRAINING_METRICS), PALETTE, strict=False):
        rows = compared.filter(metric=metric).select(at="parameters", mean="value")
        line, name = Line("measured", rows, color, named=False, band=False), TRAINING_TITLES[metric]
        source, ticks = TRAINING_METRICS[metric], size_ticks(compared)
        yield metric_panel(source, "parameters [count]", [line], title=name, log_x=True, ticks=ticks)


def _heading(run: Run, axis: TrainingAxis) -> str:
    return f"{short_names(run.header)[axis.model]} on {axis.data}"


def _file_name(run: Run, axis: TrainingAxis) -> str:
    names = short_names(run.header)
    return f"{file_names(names.values())[names[axis.model]]}{ending(run, axis.data)}"


def outcome(experiment: Experiment, measured: "Checkpoints", asked: Mapping[str, Any]) -> Outcome:  # noqa: ARG001 - a survey's needs what was asked
    """Tell a run by what emerges in it."""
    run, violated = measured.run, measured.run.bound_violations
    findings = run.experiments(experiment.name)[-1]
    sections = sections_of(experiment, run, findings.header.key)
    return Outcome(
        {
            "run": str(run.path),
            "status": run.status,
            "missing": dict(measured.missing),
            "bound_violations": violated,
            "coverage": [pair.model_dump() for pair in run.coverage],
            "answers": sentences(sections),
            **{name: findings.table(name).collect().to_dicts() for name in experiment.answers},
        },
        run,
        sections,
        lines=[f"run: {run.path}    look at it: thalweg report {quote(str(run.path))}"],
        remarks=[*_missing(measured.missing), *_uneven(run), *state_remarks(run)],
        exit_code=BOUND_VIOLATED if violated else PARTLY if measured.missing else 0,
    )


def _missing(missing: Mapping[str, str]) -> list[str]:
    return [f"{name} is not measured: {' '.join(reason.split())}" for name, reason in missing.items()]


def _uneven(run: Run) -> list[str]:
    """What to know before curves are compared."""
    names = [facts.name for facts in run.header.data]
    kept = {name: [pair.prompts_kept for pair in run.coverage if pair.data == name] for name in names}
    same = "the same --limit for all makes them comparable."
    return [
        f"on {data} some hold {min(prompts)} prompts and some {max(prompts)}: {same}"
        for data, prompts in kept.items()
        if min(prompts) < max(prompts)
    ]
