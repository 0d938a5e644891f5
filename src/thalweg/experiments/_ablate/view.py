"""The model as it is against the model without the massive rows' writers: the paper's Figures 4, 17 and 18."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from thalweg.experiments._ablate.words import (
    INTACT,
    Condition,
    Judged,
    ablated_sentence,
    conditions_of,
    control_sentences,
    judged_of,
    remark,
    share,
)
from thalweg.experiments._views import MeasuredPair, kinds_of, measured_pairs, settings_words, shaded_segments
from thalweg.shown import (
    ARROW,
    GREY,
    INK,
    PALETTE,
    Chapter,
    Dash,
    Line,
    Panel,
    Section,
    Span,
    Table,
    change,
    from_zero_to_one,
    number,
    title,
    unit,
)
from thalweg.store import Run

COLUMNS = (
    "condition",
    "segment",
    "compression",
    "C",
    "sinks",
    "at its row",
    "anywhere",
    "entropy",
    "norm ratio",
    "next-token loss",
)
METRICS = {"entropy_normalized": "state", "sink_rate": "block", "sink_norm": "state"}
TABLES = ("effects", "verdicts", "replacements")
ROLES = ("intact", "ablated", "alone", "negative", "positive")
"""As drawn: thin dashes on top of what is thick and solid, so that both are seen where a control agrees with a line."""
COLORS = {
    "intact": PALETTE[:1],
    "ablated": PALETTE[1:2],
    "alone": ("#E69F00", "#CC79A7", "#999933", "#882255", "#117733", "#661100"),
    "negative": (INK, GREY),
    "positive": (PALETTE[2], PALETTE[5]),
}
CONTROL_DASHES: tuple[Dash, ...] = ("--", ":", "-.")
THICK, THIN = 3.4, 1.1
NOTE = (
    "C: how much lower the entropy is than that of the intact model without its massive rows, 0 for a row perfectly "
    "removed. Sinks: the share of heads that sink on the segment's row; anywhere: on any token. Removed: the upper 95% "
    "bound of what is left is at most a tenth of what was, and no state or block keeps more than half. Unchanged: "
    "within 1% of what was, or the 95% interval of the difference, prompt by prompt, holds 0; else reduced or "
    "increased. Nothing to remove: C not above 0.2, or sinks not above 0.1. Judged are the states that a condition can "
    "reach, and the blocks that read them."
)


def chapters(run: Run) -> Iterator[Chapter]:
    """What every ablation did to every model and data set."""
    sections = [_section(measured) for measured in measured_pairs(run, "ablation", "effects")]
    yield Chapter("Ablation", "ablation", sections, NOTE)


def _section(measured: MeasuredPair) -> Section:
    tables = {name: measured.table(name) for name in TABLES}
    planned, effects = conditions_of(measured.table("conditions")), tables["effects"]
    every = [judged_of(condition, tables) for condition in planned if condition.of(effects).height]
    segments = {row["name"]: row for row in measured.table("segments").to_dicts()}
    ablated = [
        ablated_sentence(judged, segments)
        for judged in every
        if judged.condition.role in ("ablated", "alone") and judged.verdicts
    ]
    remarks = [remark(condition) for condition in planned if condition.reason is not None]
    conditions = [judged.condition for judged in every]
    spans = shaded_segments((name, row["first"], row["last"]) for name, row in segments.items())
    what = f"{measured.name}: means over the states and blocks of each segment"
    rows = [row for judged in every for row in _rows(judged, segments, effects)]
    return Section(
        measured.name,
        measured.stem,
        [*ablated, *control_sentences(every), *remarks],
        [_panel(metric, conditions, effects, measured, spans) for metric in METRICS],
        [Table(what, COLUMNS, rows, folded="Every condition")],
        settings_words(measured.findings),
        measured.key,
        headline=f"{measured.name}: {ablated[-1] if ablated else 'not judged yet'}",
        size=(3.9, 3.4),
    )


def _panel(
    metric: str,
    conditions: Sequence[Condition],
    effects: pl.DataFrame,
    measured: MeasuredPair,
    spans: tuple[Span, ...],
) -> Panel:
    """One metric through depth under every condition."""
    site, log = METRICS[metric], metric == "sink_norm"
    rows, count = effects.filter(site=site), measured.pair.blocks + (site == "state")
    return Panel(
        f"{title(metric)} (others in grey)" if log else title(metric),
        site,
        f"[{unit(metric)}]",
        tuple(_lines(metric, conditions, rows, count)),
        spans=spans,
        log_y=log,
        share=from_zero_to_one(metric),
        kinds=kinds_of([measured.pair], site),
    )


def _lines(metric: str, conditions: Sequence[Condition], effects: pl.DataFrame, count: int) -> Iterator[Line]:
    """The controls last; with the sink token's norm the other tokens' mean norm. One of some draws is named."""
    looks, named = _looks(conditions), set[str]()
    for condition in sorted(conditions, key=lambda condition: ROLES.index(condition.role)):
        rows, look = condition.of(effects), looks[condition.series]
        if metric == "sink_norm":
            others = _curve(rows.filter(metric="rest_norm"), count)
            name = f"{look.name}, others"
            yield Line(name, others, GREY, look.dash, THIN, named=False, band=False, group=look.name)
        yield replace(look, rows=_curve(rows.filter(metric=metric), count), named=look.name not in named)
        named.add(look.name)


def _looks(conditions: Sequence[Condition]) -> dict[str, Line]:
    """Every series without its rows: a solid line is no control, and draws of one control look the same."""
    looks, before = dict[str, Line](), Counter[str]()
    for condition in conditions:
        if condition.series not in looks:
            looks[condition.series] = _look(condition, before[condition.role])
            before[condition.role] += 1
    return looks


def _look(condition: Condition, before: int) -> Line:
    """One series, of whose role there are some before it."""
    control, colors = condition.role in ("negative", "positive"), COLORS[condition.role]
    return Line(
        condition.series,
        pl.DataFrame(),
        colors[before // (len(CONTROL_DASHES) if control else 1) % len(colors)],
        CONTROL_DASHES[before % len(CONTROL_DASHES)] if control else "-",
        THICK if condition.strong else THIN,
        band=condition.strong,
    )


def _curve(rows: pl.DataFrame, count: int) -> pl.DataFrame:
    """Every state or block, NaN where nothing is measured; one standard deviation to each side, of ratios a factor."""
    places = pl.DataFrame({"index": range(count)}, schema={"index": rows.schema["index"]})
    mean, std = pl.col("ablated").fill_null(math.nan), pl.col("ablated_std").fill_nan(0.0).fill_null(0.0)
    low, high = (pl.when("geometric").then(mean * (sign * std).exp()).otherwise(mean + sign * std) for sign in (-1, 1))
    joined = places.join(rows, on="index", how="left", maintain_order="left")
    return joined.select(at="index", mean=mean, lower=low, upper=high)


def _rows(judged: Judged, segments: Mapping[str, dict[str, Any]], effects: pl.DataFrame) -> Iterator[list[str]]:
    """One for each segment; over the whole depth where there is none."""
    condition, own = judged.condition, judged.condition.of(effects)
    names = [name for name, row in segments.items() if row["first"] is not None] or [None]
    for name in names if condition.name == INTACT else judged.verdicts or [None]:
        means = {row["metric"]: row for row in own.filter(site=name or "depth").iter_rows(named=True)}
        loss = number(judged.loss["intact"])
        if condition.name != INTACT:
            loss = change(judged.loss["difference"], judged.loss["low"], judged.loss["high"])
        yield [
            condition.drawn,
            name or "",
            *_judged(judged.verdicts.get(name, {}), means),
            *(_arrow(means.get(metric)) for metric in ("entropy_normalized", "norm_ratio")),
            loss,
        ]


def _judged(verdicts: Mapping[str, dict[str, Any]], means: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """Verdict and numbers of both phenomena; the numbers alone of what is not judged."""
    sinks = means.get("sinks", means.get("sink_rate"))
    for phenomenon, unjudged in (("compression", means.get("compression")), ("sinks", sinks)):
        row = verdicts.get(phenomenon)
        yield row["verdict"] if row else ""
        yield _shares(row or unjudged)
    row = verdicts.get("sinks")
    anywhere = row and {side: row[f"anywhere_{side}"] for side in ("intact", "ablated")}
    yield _shares(anywhere or means.get("top_rate"))


def _shares(row: Mapping[str, Any] | None) -> str:
    """Before and after, or the one where nothing is changed."""
    if row is None or math.isnan(row["intact"]):
        return "-"
    sides = share(row["intact"]), share(row["ablated"])
    return sides[0] if row.get("condition") == INTACT else f"{sides[0]} {ARROW} {sides[1]}"


def _arrow(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "-"
    intact = number(row["intact"])
    return intact if row["condition"] == INTACT else f"{intact} {ARROW} {number(row['ablated'])}"
