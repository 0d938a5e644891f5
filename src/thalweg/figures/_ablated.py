"""Preparation: the model as it is against the model without some MLPs, as tidy tables and in words."""

import math
from collections.abc import Sequence
from typing import Any

import polars as pl

from thalweg.figures._pairs import Pair
from thalweg.store import Findings, Run

ABLATION_COLUMNS = ("condition", "compression", "sinks", "entropy", "sink rate", "norm ratio", "next-token loss")
INTACT = "intact"
COMPRESS = {"entropy": "entropy_normalized", "sink rate": "sinks", "norm ratio": "norm_ratio"}
DEPTH = {**COMPRESS, "sink rate": "sink_rate"}
CONTROLS = {"nothing": "nothing removed", "rescaled": "sink's row rescaled", "emptied": "sink's row emptied"}
KEY = ["model", "revision", "data"]
ARROW = "->"


def ablations_of(run: Run, pair: Pair, experiment: str = "ablation", table: str = "effects") -> list[Findings]:
    """Give what a run holds of one model's ablations on a data set, the latest last.

    Args:
        run: the run.
        pair: the model and the data set.
        experiment: which experiment that compares conditions.
        table: the table of its averages.
    """
    found = run.experiments(experiment)
    return [one for one in found if one.table(table).filter(pair.rows).head(1).collect().height]


def ablation_curves(experiment: Findings, pair: Pair, metrics: Sequence[str]) -> pl.DataFrame:
    """Give metrics through depth under every condition.

    Args:
        experiment: an ablation whose averages are written.
        pair: the model and the data set.
        metrics: of states or blocks.

    Returns:
        One row per condition, metric and state or block, none left out: the columns ``series role condition seed metric
        site index mean lower upper``. ``role`` is "intact", "ablated" (all blocks together), "alone", "negative" or
        "positive"; the spread is one standard deviation to each side. Conditions are in the order they were planned.
    """
    rows = experiment.table("effects").filter(pair.rows).filter(pl.col("metric").is_in(list(metrics))).collect()
    rows = rows.filter(pl.col("site").is_in(["state", "block"]))
    frames = [_condition_curves(rows, one, pair) for one in conditions_of(experiment, pair)]
    return pl.concat(frames) if frames else pl.DataFrame(schema=dict.fromkeys(_CURVES, pl.Float64))


def conditions_of(experiment: Findings, pair: Pair | None = None) -> list[dict[str, Any]]:
    """Give the conditions that are measured, each with what a person calls it and its role.

    Args:
        experiment: an ablation.
        pair: the model and the data set; all of them if not given.
    """
    table = experiment.table("conditions")
    rows = (table if pair is None else table.filter(pair.rows)).collect().to_dicts()
    named = [{**row, "series": _series(row)} for row in rows]
    ablated = [row for row in named if row["control"] is None and row["condition"] != INTACT]
    for row in named:
        row["role"] = row["control"] or ("intact" if row["condition"] == INTACT else "alone")
    for row in ablated:
        own = [one for one in ablated if _same(one, row, KEY)]
        row["role"] = "ablated" if row is own[-1] else "alone"
    measured = experiment.table("effects").select(*KEY, "condition").unique().collect()
    known = set(measured.iter_rows())
    return [row for row in named if (*(row[name] for name in KEY), row["condition"]) in known]


def ablation_table(experiment: Findings) -> list[tuple[str, list[list[Any]]]]:
    """Give the averages as tables for a person, one for each model and data set.

    Args:
        experiment: an ablation whose averages are written.

    Returns:
        Title and rows; columns as in ``ABLATION_COLUMNS``.
    """
    effects = experiment.table("effects").collect()
    verdicts = experiment.table("verdicts").collect()
    every = conditions_of(experiment)
    tables = list[tuple[str, list[list[Any]]]]()
    for own in _models_and_data(effects):
        rows = [_row(row, _own(effects, row), _own(verdicts, row)) for row in every if _same(row, own, KEY)]
        tables.append((f"{own['model']} on {own['data']}: {_where(own)}", rows))
    return tables


def ablation_answers(experiment: Findings) -> list[list[str]]:
    """Say in sentences what the ablation did, for each model and data set: every ablation, then the controls.

    Args:
        experiment: an ablation whose verdicts are written.

    Returns:
        Sentences without a full stop, in the order of `ablation_table`.
    """
    verdicts = experiment.table("verdicts").collect()
    plans = experiment.table("conditions").collect().to_dicts()
    every = conditions_of(experiment)
    said = list[list[str]]()
    for own in _models_and_data(experiment.table("effects").collect()):
        rows = [(row, _own(verdicts, row)) for row in every if _same(row, own, KEY)]
        skipped = [row for row in plans if _same(row, own, KEY) and row["reason"] is not None]
        said.append([*_ablated_sentences(rows), *_control_sentences(rows), *map(_remark, skipped)])
    return said


def change_of_loss(change: float, low: float, high: float) -> str:
    """Write a change of the next-token loss with its interval: ``+0.140 [+0.120, +0.160]``."""
    if math.isnan(change):
        return "-"
    shown, *ends = (f"{round(value, 3) + 0.0:+.3f}" for value in (change, low, high))  # no minus before zero
    return shown if math.isnan(low) else f"{shown} [{', '.join(ends)}]"


def number(value: float | None) -> str:
    """Write a number to three digits after the point, a large or small one to three in all."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.3f}" if 1e-3 <= abs(value) < 100 or value == 0 else f"{value:.3g}"


def span_of(first: int, last: int) -> str:
    """Write which states: ``state 4`` or ``states 2-6``."""
    return f"state {first}" if first == last else f"states {first}-{last}"


def _condition_curves(rows: pl.DataFrame, condition: dict[str, Any], pair: Pair) -> pl.DataFrame:
    own = rows.filter(pl.col("condition") == condition["condition"], pl.col("seed").eq_missing(condition["seed"]))
    places = own.select("metric", "site").unique(maintain_order=True)
    count = pl.when(pl.col("site") == "state").then(pair.blocks + 1).otherwise(pair.blocks)
    grid = places.with_columns(pl.int_ranges(0, count, dtype=pl.Int32).alias("index")).explode("index")
    own = own.join(grid, on=["metric", "site", "index"], how="right").sort("metric", "index")
    mean = pl.col("ablated").fill_null(math.nan)
    std = pl.col("ablated_std").fill_nan(0.0).fill_null(0.0)
    low = pl.when("geometric").then(mean * (-std).exp()).otherwise(mean - std)
    high = pl.when("geometric").then(mean * std.exp()).otherwise(mean + std)
    named = [pl.lit(condition[name], dtype).alias(name) for name, dtype in _NAMED.items()]
    return own.select(*named, "metric", "site", "index", mean.alias("mean"), low.alias("lower"), high.alias("upper"))


def _series(row: dict[str, Any]) -> str:
    """What a person calls a condition."""
    if row["condition"] in CONTROLS:
        return CONTROLS[row["condition"]]
    if row["control"] is None and row["condition"] != INTACT:
        return f"without the {_mlps(row['blocks'])}"
    return row["condition"]


def _mlps(blocks: str) -> str:
    return f"MLP of block {blocks}" if blocks.isdigit() else f"MLPs of blocks {blocks.replace(',', ', ')}"


def _row(row: dict[str, Any], effects: pl.DataFrame, verdicts: pl.DataFrame) -> list[Any]:
    judged = {one["phenomenon"]: one["verdict"] or "-" for one in verdicts.iter_rows(named=True)}
    site, named = ("compress", COMPRESS) if effects["compress_first"][0] is not None else ("depth", DEPTH)
    found = {name: _arrow(effects, site, metric) for name, metric in named.items()}
    loss = effects.filter(site="prompt", metric="loss").row(0, named=True)
    seed = "" if row["seed"] is None else f", draw {row['seed']}"
    drawn = f" ({row['blocks']})" if row["condition"] == "other blocks" else ""
    changed = "" if row["condition"] == INTACT else change_of_loss(loss["difference"], loss["low"], loss["high"])
    return [
        f"{row['series']}{drawn}{seed}",
        judged.get("compression", ""),
        judged.get("sinks", ""),
        *found.values(),
        changed or number(loss["intact"]),
    ]


def _arrow(effects: pl.DataFrame, site: str, metric: str) -> str:
    own = effects.filter(site=site, metric=metric)
    if not own.height:
        return "-"
    row = own.row(0, named=True)
    if row["condition"] == INTACT:
        return number(row["intact"])
    return f"{number(row['intact'])} {ARROW} {number(row['ablated'])}"


def _ablated_sentences(rows: Sequence[tuple[dict[str, Any], pl.DataFrame]]) -> list[str]:
    return [_ablated(row, verdicts) for row, verdicts in rows if row["role"] in ("ablated", "alone")]


def _ablated(row: dict[str, Any], verdicts: pl.DataFrame) -> str:
    judged = {one["phenomenon"]: one for one in verdicts.iter_rows(named=True)}
    compression, sinks = judged["compression"], judged["sinks"]
    what = f"{row['series'][0].upper()}{row['series'][1:]} at the sink token"
    loss = change_of_loss(compression["loss_change"], compression["loss_low"], compression["loss_high"])
    cost = f"the next-token loss changes by {loss} nats"
    if compression["reason"] is not None and compression["reason"] == sinks["reason"]:
        return f"{what}: no verdict ({compression['reason']}); {cost}"
    stayed = compression["verdict"] not in (None, "removed")
    left = f", and {compression['replacement'] or 'no massive row is left or has taken its place'}" if stayed else ""
    said = f"{_phrase('compression is', compression)}{left}; {_phrase('the sinks are', sinks)}"
    return f"{what}, {said}; {cost}"


def _phrase(what: str, one: dict[str, Any]) -> str:
    if one["verdict"] is None:
        return f"no verdict on {what.removesuffix(' is').removesuffix(' are')} ({one['reason']})"
    return f"{what} {one['verdict']} ({number(one['intact'])} {ARROW} {number(one['ablated'])})"


def _control_sentences(rows: Sequence[tuple[dict[str, Any], pl.DataFrame]]) -> list[str]:
    """How many controls did what they must, and which did not."""
    said = list[str]()
    for role, wanted, does in (("negative", "unchanged", "leave"), ("positive", "removed", "remove")):
        own = [(row, verdicts) for row, verdicts in rows if row["role"] == role]
        judged = [one for one in own if one[1]["verdict"].is_not_null().all() and one[1].height]
        odd = [one for one in judged if set(one[1]["verdict"]) != {wanted}]
        if judged:
            share = f"{len(judged) - len(odd)} of {len(judged)}"
            count = f"{role.capitalize()} controls that {does} both, as they must: {share}"
            said.append("; ".join([count, *(_odd(row, verdicts, wanted) for row, verdicts in odd)]))
    return said


def _odd(row: dict[str, Any], verdicts: pl.DataFrame, wanted: str) -> str:
    seed = "" if row["seed"] is None else f" (draw {row['seed']})"
    what = [one for one in verdicts.iter_rows(named=True) if one["verdict"] != wanted]
    phrases = [_phrase("compression is" if one["phenomenon"] == "compression" else "sinks are", one) for one in what]
    if row["condition"] == "rescaled" and [one["phenomenon"] for one in what] == ["sinks"]:
        phrases.append("its direction is still there, and norms take lengths away")
    return f"{row['series']}{seed}: {', '.join(phrases)}"


def _remark(row: dict[str, Any]) -> str:
    ran = bool(row["blocks"])
    return f"The control {row['condition']!r} {'has fewer blocks' if ran else 'is not run'}: {row['reason']}"


def _models_and_data(effects: pl.DataFrame) -> list[dict[str, Any]]:
    return effects.select(*KEY, "compress_first", "compress_last").unique(KEY, maintain_order=True).to_dicts()


def _where(own: dict[str, Any]) -> str:
    if own["compress_first"] is None:
        return "means over all blocks and the states after them (no compress phase)"
    return f"means over the compress phase, {span_of(own['compress_first'], own['compress_last'])}"


def _own(table: pl.DataFrame, row: dict[str, Any]) -> pl.DataFrame:
    return table.filter(*[pl.col(name).eq_missing(pl.lit(row[name])) for name in (*KEY, "condition", "seed")])


def _same(one: dict[str, Any], other: dict[str, Any], names: Sequence[str]) -> bool:
    return all(one[name] == other[name] for name in names)


_NAMED: dict[str, Any] = {
    "series": pl.String,
    "role": pl.String,
    "condition": pl.String,
    "seed": pl.Int32,
}
_CURVES = (*_NAMED, "metric", "site", "index", "mean", "lower", "upper")
