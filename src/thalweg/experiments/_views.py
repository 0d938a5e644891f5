"""What views share: a run's models and data sets and their names, curves through depth, what an experiment found.

Spread of a curve is one standard deviation to each side, as in the paper; for ratios, which are averaged as logarithms,
it is one multiplicative standard deviation. A state or block without a value is there with NaN, and drawn as a gap.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from thalweg.averages import ALPHA, holm, mcnemar
from thalweg.shown import (
    GREY,
    PALETTE,
    PHASE,
    Kind,
    Line,
    Panel,
    Span,
    Track,
    from_zero_to_one,
    interval,
    span_of,
    title,
    unit,
)
from thalweg.store import Findings, ModelFacts, Run, RunHeader, readable, slug

THROUGH_DEPTH = {"entropy_normalized": "state", "sink_rate": "block", "sink_norm": "state"}
"""What the paper draws through depth (Figures 2 and 12 to 14), each with what it belongs to."""
KINDS = (PALETTE[2], GREY, PALETTE[3], PALETTE[5])
"""Of blocks that see all tokens before, and of sliding windows, the widest first."""
_COLUMNS = ("series", "model", "revision", "data", "metric", "site", "index", "depth", "mean", "lower", "upper", "n")
_NAN = float("nan")


@dataclass(frozen=True)
class Pair:
    """One model on one data set.

    Attributes:
        model: the model's name.
        revision: its revision.
        data: the data set's name.
        blocks: the model's number of blocks, L.
        kinds: which of them see all tokens before, and which a sliding window; none where all are alike.
    """

    model: str
    revision: str
    data: str
    blocks: int
    kinds: tuple[Kind, ...] = ()

    @property
    def key(self) -> tuple[str, str, str]:
        """Model, revision and data."""
        return self.model, self.revision, self.data

    @property
    def rows(self) -> pl.Expr:
        """The condition that picks this pair's rows out of any table."""
        return (pl.col("model") == self.model) & (pl.col("revision") == self.revision) & (pl.col("data") == self.data)


def pairs(run: Run, data: str | None = None) -> list[Pair]:
    """Give every model on every data set, or on the one named, in the header's order."""
    names = [facts.name for facts in run.header.data if data in (None, facts.name)]
    return [_pair(model, name) for name in names for model in run.header.models]


def _pair(model: ModelFacts, data: str) -> Pair:
    return Pair(model.name, model.revision, data, model.blocks, _kinds(model))


def _kinds(model: ModelFacts) -> tuple[Kind, ...]:
    """Blocks with softmax attention by how far they see: all tokens before first, then the widest window."""
    places = dict[int | None, list[int]]()
    for block, window in enumerate(model.windows or ()):
        if model.softmax_blocks is None or block in model.softmax_blocks:
            places.setdefault(window, []).append(block)
    if len(places) < 2:
        return ()
    widest = sorted(places, key=lambda window: (window is not None, -(window or 0)))
    names = {
        window: "full attention" if window is None else f"sliding window of {window:,} tokens" for window in widest
    }
    colors = (*KINDS, *KINDS[-1:] * len(widest))
    return tuple(
        Kind(names[window], tuple(places[window]), color) for window, color in zip(widest, colors, strict=False)
    )


def pairs_with_own(run: Run, every: Sequence[Findings]) -> list[Pair]:
    """Give the same, then every model on the data sets that findings have of their own."""
    own = dict.fromkeys(facts.name for findings in every for facts in findings.header.data)
    of_own = [_pair(model, name) for name in own for model in run.header.models]
    return list(dict.fromkeys([*pairs(run), *of_own]))


def latest_pairs(run: Run, data: str | None = None) -> list[Pair]:
    """Give the same, of each model's checkpoints the last one of the training alone."""
    orders = dict[tuple[str, str, str], int]()
    for experiment in run.experiments("checkpoints"):
        curves = experiment.table("curves").select("model", "revision", "data", "order").unique().collect()
        orders |= {(model, revision, name): order for model, revision, name, order in curves.iter_rows()}
    # what was never measured comes before all
    in_order = sorted(pairs(run, data), key=lambda pair: orders.get((pair.model, pair.revision, pair.data), -1))
    last = {(pair.model, pair.data): pair for pair in in_order}
    return [last[place] for place in dict.fromkeys((pair.model, pair.data) for pair in pairs(run, data))]


def labels(header: RunHeader) -> dict[tuple[str, str], str]:
    """Give each model the shortest name that still tells it from the others.

    Args:
        header: the run's header.

    Returns:
        By (model, revision): the last part of the name, with as many before it as tell it from another name, and with
        the revision where the run has several; a model whose massive activation was planted is never shown without
        saying so.
    """
    revisions, short = Counter(model.name for model in header.models), short_names(header)
    return {
        (model.name, model.revision): _marked(
            model, f"{short[model.name]}@{model.revision}" if revisions[model.name] > 1 else short[model.name]
        )
        for model in header.models
    }


def short_names(header: RunHeader) -> dict[str, str]:
    """Give every model's name by its last part, or by as many as no other name ends in."""
    parts = {model.name: (model.name.rstrip("/") or model.name).split("/") for model in header.models}
    longest = max(map(len, parts.values()), default=0)
    ends = {name: ["/".join(of[-count:]) for count in range(1, longest + 1)] for name, of in parts.items()}
    shared = Counter((count, end) for of in ends.values() for count, end in enumerate(of))
    return {
        name: next((end for count, end in enumerate(of) if end and shared[count, end] == 1), name)
        for name, of in ends.items()
    }


def label_of(run: Run, pair: Pair) -> str:
    """Give the short name of the pair's model."""
    return labels(run.header)[pair.model, pair.revision]


def heading(run: Run, pair: Pair) -> str:
    """Give what stands above what is shown of a pair: ``gpt2 on gsm8k``."""
    return f"{label_of(run, pair)} on {pair.data}"


def ending(run: Run, data: str) -> str:
    """Give the end of the name of a figure of one data set; nothing where the run has no other."""
    every = [facts.name for facts in run.header.data]
    return f"_{file_names(every)[data]}" if len(every) > 1 else ""


def model_file_name(run: Run, model: str, revision: str) -> str:
    """Give what the names of a model's figures have in common."""
    names = labels(run.header)
    return file_names(names.values())[names[model, revision]]


def file_name(run: Run, pair: Pair) -> str:
    """Give what the names of a pair's figures have in common."""
    return f"{model_file_name(run, pair.model, pair.revision)}{ending(run, pair.data)}"


def file_names(names: Iterable[str]) -> dict[str, str]:
    """Give names as parts of file names: letters, digits, ``-`` and ``_``, with a digest where two would be alike."""
    short = {name: readable(name) for name in names}
    times = Counter(each.lower() for each in short.values())  # some file systems do not tell capitals apart
    return {name: each if each and times[each.lower()] == 1 else slug(name) for name, each in short.items()}


def phases_are_written(run: Run) -> bool:
    """Whether phases, their segments and the claims about them are all there: a run may stop between two."""
    return {"phases", "segments", "claims"}.isdisjoint(run.missing)


def phases_row(run: Run, pair: Pair) -> dict[str, Any] | None:
    """Give the pair's row of ``phases``, None where it or what goes with it has not been written."""
    if not phases_are_written(run):
        return None
    rows = run.phases.filter(pair.rows).collect()
    return rows.row(0, named=True) if rows.height else None


def segments_of(run: Run, pair: Pair) -> list[dict[str, Any]]:
    """Give the pair's rows of ``segments``, in order of depth."""
    return run.segments.filter(pair.rows).collect().to_dicts()


def compress_span(run: Run, pair: Pair) -> tuple[int, int] | None:
    """Give the first and last state of the compress phase, None where there is none or it is not known."""
    row = phases_row(run, pair)
    if row is None or None in (row["compress_first"], row["compress_last"]):
        return None
    return row["compress_first"], row["compress_last"]


def surveyed_span(run: Run, model: str, revision: str) -> tuple[int, int] | None:
    """Give the compress phase of a model whatever it was surveyed on, for what is measured on data of its own.

    Args:
        run: that may hold a survey of the model.
        model: its name.
        revision: its revision.

    Returns:
        First and last state on the first of the run's data sets that has them, None where none has.
    """
    of_model = (pair for pair in pairs(run) if (pair.model, pair.revision) == (model, revision))
    return next((span for pair in of_model if (span := compress_span(run, pair)) is not None), None)


def _marked(model: ModelFacts, name: str) -> str:
    return name if model.planted is None or "planted" in name else f"{name} (planted)"


def curves(run: Run, which: Sequence[Pair], metrics: Sequence[str]) -> pl.DataFrame:
    """Give the profile of some metrics as curves: a row per pair, metric and state or block, none left out.

    ``depth`` is the index over the number of blocks, so that a block stands where the state it reads stands.
    """
    names = labels(run.header)
    profile = run.profile.filter(pl.col("metric").is_in(list(metrics))).collect()
    frames = [_pair_curves(profile, pair, names[pair.model, pair.revision]) for pair in which]
    return pl.concat(frames) if frames else pl.DataFrame(schema=dict.fromkeys(_COLUMNS, pl.Float64))


def along(rows: pl.DataFrame, at: str) -> pl.DataFrame:
    """Give curves as the rows of a line, along ``index``, ``depth`` or what else the axis shows."""
    return rows.select(pl.col(at).alias("at"), "mean", "lower", "upper")


def metric_panel(metric: str, x: str, lines: Iterable[Line], **more: Any) -> Panel:
    """Give a panel of one metric with the catalogue's title, unit and range; norms are on a logarithmic axis."""
    is_norm = metric in ("sink_norm", "norm_ratio")
    panel = Panel(title(metric), x, f"[{unit(metric)}]", tuple(lines), log_y=is_norm, share=from_zero_to_one(metric))
    return replace(panel, **more)


def kinds_of(which: Sequence[Pair], site: str = "block") -> tuple[Kind, ...]:
    """Give what blocks are, for an axis of blocks: what all models have in common."""
    common = {pair.kinds for pair in which}
    return common.pop() if site == "block" and len(common) == 1 else ()


def share_of_depth(which: Sequence[Pair]) -> bool:
    """Say whether models differ in depth, so that they can be compared by share of it only."""
    return len({pair.blocks for pair in which}) > 1


def _pair_curves(profile: pl.DataFrame, pair: Pair, series: str) -> pl.DataFrame:
    rows = profile.filter(pair.rows)
    rows = rows.join(_grid(rows, pair), on=["metric", "site", "index"], how="right")
    mean, std = pl.col("mean").fill_null(_NAN), pl.col("std").fill_nan(0.0).fill_null(0.0)
    return rows.with_columns(
        series=pl.lit(series),
        model=pl.lit(pair.model),
        revision=pl.lit(pair.revision),
        data=pl.lit(pair.data),
        depth=pl.col("index") / max(pair.blocks, 1),
        mean=mean,
        lower=pl.when("geometric").then(mean * (-std).exp()).otherwise(mean - std).fill_null(_NAN),
        upper=pl.when("geometric").then(mean * std.exp()).otherwise(mean + std).fill_null(_NAN),
        n=pl.col("n").fill_null(0),
    ).select(_COLUMNS)


def _grid(rows: pl.DataFrame, pair: Pair) -> pl.DataFrame:
    places = rows.select("metric", "site").unique(maintain_order=True)
    count = pl.when(pl.col("site") == "state").then(pair.blocks + 1).otherwise(pair.blocks)
    return places.with_columns(pl.int_ranges(0, count, dtype=pl.Int32).alias("index")).explode("index")


@dataclass(frozen=True)
class MeasuredPair:
    """What an experiment found by one of its settings, of one model on one data set.

    ``stem`` is that of its figure's file: the latest settings, after which none found anything, have the plain one.
    """

    pair: Pair
    findings: Findings
    name: str
    stem: str
    latest: bool

    @property
    def key(self) -> str:
        """Of the settings."""
        return self.findings.header.key

    def table(self, name: str) -> pl.DataFrame:
        """The rows of one table on this model and data set."""
        return self.findings.table(name).filter(self.pair.rows).collect()


def held(every: Sequence[Findings], table: str, *rows: pl.Expr) -> list[Findings]:
    """Give the findings that have rows of a table under all conditions."""
    return [findings for findings in every if findings.table(table).filter(*rows).head(1).collect().height]


def measured_pairs(run: Run, experiment: str, table: str, *given: pl.Expr) -> Iterator[MeasuredPair]:
    """Give what a run holds of an experiment: models and data sets in the header's order, the latest settings first.

    Findings are left out whose ``table`` has no rows under the conditions ``given``.
    """
    every = run.experiments(experiment)
    for pair in pairs(run):
        some = held(every, table, pair.rows, *given)
        for findings in reversed(some):
            latest = findings is some[-1]
            stem = f"{experiment}_{file_name(run, pair)}{'' if latest else f'_{findings.header.key}'}"
            yield MeasuredPair(pair, findings, heading(run, pair), stem, latest)


def settings_words(findings: Findings) -> str:
    """Write what was asked: ``blocks: auto, seeds: 3``."""
    return ", ".join(f"{name.replace('_', ' ')}: {_words(value)}" for name, value in findings.header.settings.items())


def means_over(first: int | None, last: int | None) -> str:
    """Say what the averages are over: the compress phase, or all of the depth where there is none."""
    if first is None or last is None:
        return "means over all blocks and the states after them (no compress phase)"
    return f"means over the compress phase, {span_of(first, last)}"


def head_grid(rows: pl.DataFrame, value: str, blocks: int) -> np.ndarray:
    """Give a value of every head as a map, heads up and blocks along; what has none is NaN."""
    heads = max(rows["head"].to_list(), default=0) + 1
    grid = np.full((heads, max(blocks, 1)), np.nan)
    grid[rows["head"].to_numpy(), rows["block"].to_numpy()] = rows[value].to_numpy()
    return grid


def answers_of(findings: Findings, **which: Any) -> np.ndarray:
    """Give the scores of each question at every state, questions x states; a state without one has none at all."""
    rows = findings.table("answers").filter(**which).collect() if "answers" in findings.header.tables else None
    if rows is None or rows.is_empty():
        return np.empty((0, 0))
    return np.array(rows["right"].to_list(), dtype=np.float64)


def told_from(right: np.ndarray, state: int, other: int, known: Sequence[int], *, chosen: bool) -> str:
    """Say whether questions tell one state from another, in brackets; ``chosen``: it was the best on these questions.

    Who is the best of many on the same questions is a little lucky: its p is then adjusted for all that it could be.
    """
    if state == other or not right.size:
        return ""
    every = [each for each in known if each != other] if chosen else [state]
    p = holm([mcnemar(right[:, each], right[:, other]) for each in every])[every.index(state)]
    said = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    return f" ({'' if p < ALPHA else 'not '}told apart answer by answer: {said})"


def model_of(findings: Findings) -> tuple[str, str]:
    """Give name and revision of the one model that the settings name."""
    settings = findings.header.settings
    return str(settings["model"]), str(settings["revision"])


def stems(names: Mapping[str, str]) -> dict[str, str]:
    """Name figures' files by the key of their findings, the latest last: of one name, the latest has it as it is."""
    latest = {name: key for key, name in names.items()}
    return {key: name if latest[name] == key else f"{name}_{key}" for key, name in names.items()}


def shaded(span: tuple[int | None, int | None] | None) -> tuple[Span, ...]:
    """Give the compress phase as a panel shades it: first and last state, nothing where there is none."""
    return () if span is None else shaded_segments([("compress", *span)])


def shaded_segments(segments: Iterable[tuple[str, int | None, int | None]]) -> tuple[Span, ...]:
    """Give segments as a panel shades them: name, first and last state; nothing for what has no states."""
    return tuple(
        Span("compress phase" if name == "compress" else name, first, last)
        for name, first, last in segments
        if first is not None and last is not None
    )


def tracks(run: Run, lines: Iterable[tuple[Pair, str]], site: str, *, share: bool = False) -> tuple[Track, ...]:
    """Give the compress phases of models as bars under an axis of states or blocks, each in its line's colour.

    Args:
        run: that may hold a survey of them.
        lines: models on data sets, each with the colour of its line.
        site: what the axis counts, ``state`` or ``block``; the last state is read by no block.
        share: the axis counts the share of depth.
    """
    return tuple(
        Track("compress phase", first / whole, last / whole, color, label_of(run, pair))
        for pair, color in lines
        if (span := compress_span(run, pair)) is not None
        for whole in (max(pair.blocks, 1) if share else 1,)
        for first, last in ((span[0] - 0.5, min(span[1], pair.blocks - (site == "block")) + 0.5),)
    )


def map_tracks(run: Run, pair: Pair) -> tuple[Track, ...]:
    """Give the compress phase of a model as a bar under a map of its blocks."""
    return tracks(run, [(pair, PHASE)], "block")


def phase_of(state: int, span: tuple[int, int]) -> str:
    """Say where a state lies: ``inside the compress phase (states 2 to 6)``."""
    where = "before" if state < span[0] else "after" if state > span[1] else "inside"
    return f"{where} the compress phase (states {span[0]} to {span[1]})"


def depth(state: int, last: int) -> str:
    """Write how deep a state lies, as a share of the last one: ``38%``."""
    return f"{state / max(last, 1):.0%}"


def measured(value: float, low: float | None, high: float | None) -> str:
    """Write a value, with its interval where it has one: ``0.500 [0.461, 0.539]``."""
    return f"{value:.3f} {interval(low, high)}".rstrip()


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(f"{item:.4g}" if isinstance(item, float) else str(item) for item in value)
    return str(value)
