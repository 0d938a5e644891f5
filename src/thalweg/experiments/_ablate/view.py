"""The model as it is against the model without the massive row's writers: the paper's Figures 4, 17 and 18."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from thalweg.experiments._views import MeasuredPair, means_over, measured_pairs, settings_words, shaded
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
    Table,
    change,
    from_zero_to_one,
    number,
    title,
    unit,
)
from thalweg.store import Run

COLUMNS = ("condition", "compression", "sinks", "entropy", "sink rate", "norm ratio", "next-token loss")
METRICS = {"entropy_normalized": "state", "sink_rate": "block", "sink_norm": "state"}
INTACT = "intact"
LISTED = {
    "compress": ("entropy_normalized", "sinks", "norm_ratio"),
    "depth": ("entropy_normalized", "sink_rate", "norm_ratio"),
}
CONTROLS = {"nothing": "nothing removed", "rescaled": "sink's row rescaled", "emptied": "sink's row emptied"}
ROLES = ("intact", "ablated", "alone", "negative", "positive")
"""As drawn: thin dashes on top of what is thick and solid, so that both are seen where a control agrees with a line."""
ALONE = ("#E69F00", "#CC79A7", "#999933", "#882255", "#117733", "#661100")
COLORS = {"intact": PALETTE[0], "ablated": PALETTE[1], "negative": INK, "positive": PALETTE[2]}
CONTROL_DASHES: tuple[Dash, ...] = ("--", ":", "-.")
THICK, THIN = 3.4, 1.1
VERBS = {"compression": "is", "sinks": "are"}
Verdicts = Mapping[str, dict[str, Any]]
"""Rows of the table of one condition, by phenomenon."""
NOTE = (
    "Removed: the upper 95% bound of what is left is at most a tenth of what was. Reduced, increased: the 95% interval "
    "of the difference, prompt by prompt, excludes 0 and reaches further than 1% of what was. Unchanged: the rest."
)


@dataclass(frozen=True)
class Condition:
    """What is done to the model: its name in the tables, what a person calls it, and one of ``ROLES``.

    "ablated" is all blocks together. The reason says why it is not run, or has fewer blocks than asked for.
    """

    name: str
    series: str
    role: str
    seed: int | None
    blocks: str
    reason: str | None

    @property
    def strong(self) -> bool:
        """Whether it is part of the comparison that it is all about."""
        return self.role in ("intact", "ablated")

    def of(self, table: pl.DataFrame) -> pl.DataFrame:
        """Its rows of a table."""
        return table.filter(pl.col("seed").eq_missing(pl.lit(self.seed, pl.Int32)), condition=self.name)


def chapters(run: Run) -> Iterator[Chapter]:
    """What every ablation did to every model and data set."""
    sections = [_section(measured) for measured in measured_pairs(run, "ablation", "effects")]
    yield Chapter("Ablation", "ablation", sections, NOTE)


def _section(measured: MeasuredPair) -> Section:
    effects, verdicts = measured.table("effects"), measured.table("verdicts")
    planned = _planned(measured.table("conditions"))
    conditions = [condition for condition in planned if condition.of(effects).height]
    judged = {
        condition: {row["phenomenon"]: row for row in condition.of(verdicts).iter_rows(named=True)}
        for condition in conditions
    }
    ablated = [
        _ablated(condition, rows)
        for condition, rows in judged.items()
        if condition.role in ("ablated", "alone") and rows
    ]
    remarks = [_remark(condition) for condition in planned if condition.reason is not None]
    what = f"{measured.name}: {means_over(*_compress(effects))}"
    rows = [_row(condition, condition.of(effects), verdicts) for condition, verdicts in judged.items()]
    return Section(
        measured.name,
        measured.stem,
        [*ablated, *_control_sentences(judged), *remarks],
        [_panel(metric, conditions, effects, measured) for metric in METRICS],
        [Table(what, COLUMNS, rows, folded="Every condition")],
        settings_words(measured.findings),
        measured.key,
        headline=f"{measured.name}: {ablated[-1] if ablated else 'not judged yet'}",
        size=(3.9, 3.4),
    )


def _planned(table: pl.DataFrame) -> list[Condition]:
    """What was planned; of what is ablated, the last is all blocks together."""
    rows = table.to_dicts()
    ablated = [row for row in rows if row["control"] is None and row["condition"] != INTACT]
    conditions = list[Condition]()
    for row in rows:
        name, blocks = str(row["condition"]), row["blocks"]
        if row in ablated:
            what = "MLP of block" if blocks.isdigit() else "MLPs of blocks"
            series = f"without the {what} {blocks.replace(',', ', ')}"
            role = "ablated" if row is ablated[-1] else "alone"
        else:
            series, role = CONTROLS.get(name, name), row["control"] or INTACT
        conditions.append(Condition(name, series, role, row["seed"], blocks, row["reason"]))
    return conditions


def _panel(metric: str, conditions: Sequence[Condition], effects: pl.DataFrame, measured: MeasuredPair) -> Panel:
    """One metric through depth under every condition."""
    site, log = METRICS[metric], metric == "sink_norm"
    rows, count = effects.filter(site=site), measured.pair.blocks + (site == "state")
    return Panel(
        f"{title(metric)} (others in grey)" if log else title(metric),
        site,
        f"[{unit(metric)}]",
        tuple(_lines(metric, conditions, rows, count)),
        spans=shaded(_compress(effects)),
        log_y=log,
        share=from_zero_to_one(metric),
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
    control = condition.role in ("negative", "positive")
    return Line(
        condition.series,
        pl.DataFrame(),
        COLORS.get(condition.role, ALONE[before % len(ALONE)]),
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


def _compress(effects: pl.DataFrame) -> tuple[int | None, int | None]:
    """First and last state of the compress phase of the model as it is."""
    return effects.select("compress_first", "compress_last").row(0)


def _row(condition: Condition, effects: pl.DataFrame, verdicts: Verdicts) -> list[str]:
    site = "depth" if None in _compress(effects) else "compress"
    seed = "" if condition.seed is None else f", draw {condition.seed}"
    drawn = f" ({condition.blocks})" if condition.name == "other blocks" else ""
    loss = effects.filter(site="prompt", metric="loss").row(0, named=True)
    cost = change(loss["difference"], loss["low"], loss["high"])
    return [
        f"{condition.series}{drawn}{seed}",
        *(verdicts[what]["verdict"] or "-" if what in verdicts else "" for what in VERBS),
        *(_arrow(effects.filter(site=site, metric=metric)) for metric in LISTED[site]),
        number(loss["intact"]) if condition.name == INTACT else cost,
    ]


def _arrow(rows: pl.DataFrame) -> str:
    for row in rows.iter_rows(named=True):
        intact = number(row["intact"])
        return intact if row["condition"] == INTACT else f"{intact} {ARROW} {number(row['ablated'])}"
    return "-"


def _ablated(condition: Condition, verdicts: Verdicts) -> str:
    compression, sinks = verdicts["compression"], verdicts["sinks"]
    what = f"{condition.series[0].upper()}{condition.series[1:]} at the sink token"
    loss = change(compression["loss_change"], compression["loss_low"], compression["loss_high"])
    cost = f"the next-token loss changes by {loss} nats"
    if compression["reason"] is not None and compression["reason"] == sinks["reason"]:
        return f"{what}: no verdict ({compression['reason']}); {cost}"
    stayed = compression["verdict"] not in (None, "removed")
    left = f", and {compression['replacement'] or 'no massive row is left or has taken its place'}" if stayed else ""
    return f"{what}, {_phrase('compression', compression)}{left}; {_phrase('the sinks', sinks)}; {cost}"


def _phrase(what: str, verdict: dict[str, Any]) -> str:
    if verdict["verdict"] is None:
        return f"no verdict on {what} ({verdict['reason']})"
    said = f"{what} {VERBS[verdict['phenomenon']]} {verdict['verdict']}"
    return f"{said} ({number(verdict['intact'])} {ARROW} {number(verdict['ablated'])})"


def _control_sentences(judged: Mapping[Condition, Verdicts]) -> Iterator[str]:
    """How many controls did what they must, and which did not."""
    for role, wanted, does in (("negative", "unchanged", "leave"), ("positive", "removed", "remove")):
        words = {
            condition: {row["verdict"] for row in verdicts.values()}
            for condition, verdicts in judged.items()
            if condition.role == role
        }
        said = [condition for condition, verdicts in words.items() if verdicts and None not in verdicts]
        odd = [_odd(condition, judged[condition], wanted) for condition in said if words[condition] != {wanted}]
        if said:
            share = f"{len(said) - len(odd)} of {len(said)}"
            yield "; ".join([f"{role.capitalize()} controls that {does} both, as they must: {share}", *odd])


def _odd(condition: Condition, verdicts: Verdicts, wanted: str) -> str:
    seed = "" if condition.seed is None else f" (draw {condition.seed})"
    other = {what: row for what, row in verdicts.items() if row["verdict"] != wanted}
    phrases = [_phrase(what, row) for what, row in other.items()]
    if condition.name == "rescaled" and list(other) == ["sinks"]:
        phrases.append("its direction is still there, and norms take lengths away")
    return f"{condition.series}{seed}: {', '.join(phrases)}"


def _remark(condition: Condition) -> str:
    ran = bool(condition.blocks)
    return f"The control {condition.name!r} {'has fewer blocks' if ran else 'is not run'}: {condition.reason}"
