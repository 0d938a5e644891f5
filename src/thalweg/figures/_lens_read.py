"""Preparation: what every state predicts, under every lens that a run holds, as tidy tables and in words."""

from collections import Counter
from typing import Any

import polars as pl

from thalweg.figures._ablated import ablations_of, number
from thalweg.figures._pairs import Pair
from thalweg.store import Findings, Run

LENS_TITLES = {
    "perplexity": "Perplexity",
    "loss": "Next-token loss",
    "output_entropy": "Entropy of the output",
    "agreement": "Top-1 agreement with the last state",
    "kl": "KL to the last state",
}
LENS_UNITS = {
    "perplexity": "no unit",
    "loss": "nats",
    "output_entropy": "nats",
    "agreement": "share of tokens",
    "kl": "nats",
}
LENS_COLUMNS = ("state", "perplexity", "loss", "output entropy", "agreement", "KL to last")
KEY = ("model", "revision", "data")
OF_COLUMNS = ("perplexity", "loss", "output_entropy", "agreement", "kl")


def lenses_of(run: Run, pair: Pair) -> list[Findings]:
    """Give the lenses that a run holds of a model on a data set, the latest last."""
    return ablations_of(run, pair, "lens", "curves")


def lens_name(experiment: Findings) -> str:
    """Say which lens it is, and what of: ``logit lens, blocks of 512 tokens``."""
    asked = experiment.header.settings
    name = "tuned lens" if asked["lens"] == "tuned" else "logit lens"
    norm = "" if asked["final_norm"] else " without final norm"
    block = asked["block_length"]
    return f"{name}{norm}, {'row by row' if block is None else f'blocks of {block} tokens'}"


def lens_series(run: Run, pair: Pair) -> pl.DataFrame:
    """Give every lens's averages by state.

    Args:
        run: the run.
        pair: the model and the data set.

    Returns:
        Columns ``series metric state mean lower upper``, the lenses in the order in which they were finished; lower and
        upper are the 95% interval, the mean itself where there is none. Lenses of one name are told apart by their key.
    """
    found = lenses_of(run, pair)
    names = Counter(map(lens_name, found))
    frames = [
        one.table("curves")
        .filter(pair.rows)
        .select(
            pl.lit(lens_name(one) if names[lens_name(one)] == 1 else f"{lens_name(one)} ({one.header.key})").alias(
                "series"
            ),
            "metric",
            "state",
            pl.col("value").alias("mean"),
            pl.col("low").fill_nan(pl.col("value")).alias("lower"),
            pl.col("high").fill_nan(pl.col("value")).alias("upper"),
        )
        .collect()
        for one in found
    ]
    columns = ("series", "metric", "state", "mean", "lower", "upper")
    return pl.concat(frames) if frames else pl.DataFrame(schema=dict.fromkeys(columns, pl.Float64))


def lens_table(experiment: Findings) -> list[tuple[str, list[list[Any]]]]:
    """Give the averages as tables for a person, one for each model and data set.

    Args:
        experiment: a lens whose averages are written.

    Returns:
        Title and rows by state; columns as in ``LENS_COLUMNS``.
    """
    curves = experiment.table("curves").collect()
    tables = list[tuple[str, list[list[Any]]]]()
    for own in _keys(curves):
        rows = curves.filter(**dict(zip(KEY, own, strict=True)))
        columns = rows.select("state", "metric", "value")
        values = {(state, metric): value for state, metric, value in columns.iter_rows()}
        states = sorted({state for state, _ in values})
        scored, read = (max(rows[name].to_list()) for name in ("scored", "n"))
        what = "prompts" if experiment.header.settings["block_length"] is None else "blocks"
        title = f"{own[0]} on {own[2]}: {lens_name(experiment)}; {scored:,} tokens of {read:,} {what}"
        cells = [[state, *(number(values[state, metric]) for metric in OF_COLUMNS)] for state in states]
        tables.append((title, cells))
    return tables


def lens_answers(experiment: Findings) -> list[str]:
    """Say in a sentence what the states predict, one for each model and data set."""
    curves = experiment.table("curves").collect()
    return [lens_answer(curves.filter(**dict(zip(KEY, own, strict=True)))) for own in _keys(curves)]


def lens_answer(rows: pl.DataFrame) -> str:
    """Say what the states of one model on one data set predict: averages over tokens, each token counting once."""
    agreed, losses = (_by_state(rows, metric) for metric in ("agreement", "loss"))
    last = max(losses)
    first, end = (number(_by_state(rows, "perplexity")[state]) for state in (0, last))
    said = f"Perplexity is {first} at state 0 and {end} at state {last}, averaged over tokens"
    half = [state for state, share in agreed.items() if share >= 0.5]
    if half and half[0] < last:
        there = (
            f"from state {half[0]} on" if len(half) == last + 1 - half[0] else f"at state {half[0]} for the first time"
        )
        said += f"; {there} the most probable token is the last state's at least half of the time"
    fall = losses[0] - losses[last]
    if fall > 0:
        near = min(state for state, loss in losses.items() if losses[0] - loss >= 0.9 * fall)
        said += f"; nine tenths of the fall in loss are reached at state {near}"
    return said


def _by_state(rows: pl.DataFrame, metric: str) -> dict[int, float]:
    return dict(rows.filter(metric=metric).sort("state").select("state", "value").iter_rows())


def _keys(curves: pl.DataFrame) -> list[tuple[str, str, str]]:
    return list(curves.select(KEY).unique(maintain_order=True).iter_rows())
