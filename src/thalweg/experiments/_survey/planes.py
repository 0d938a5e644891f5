"""All heads as points: sink score against ColSum concentration, and SVI against B + D (the paper's Figures 24 and 25).

A head's numbers are means over the prompts with which a uniform head scores below tau. C_min, the least concentration
that a sink score c leaves (`colsum_floor`), depends on the number of tokens T: the curve is that of the median prompt.
Where a head has a sink logit, c is the sink's share of the attention that is paid to tokens, `sink_score` / `attended`.
"""

from typing import Any

import numpy as np
import polars as pl

from thalweg.experiments._survey.answers import long_prompts, shortest_prompt
from thalweg.experiments._views import Pair, file_name, heading
from thalweg.shown import INK, Line, Panel, Points, Scale, Section, Ticks, counted, percent, title
from thalweg.store import Run

DEPTHS = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
"""From the first block to the last."""
_NAMED = 5
_HALF = 0.5


def planes_section(run: Run, pair: Pair) -> Section | None:
    """Give both planes, None for a model without attention rows."""
    heads, tokens = head_means(run, pair), long_prompts(run, pair).select(pl.col("tokens").median()).collect().item()
    if not heads.height or tokens is None:
        return None
    return Section(
        "",
        name=f"heads_{file_name(run, pair)}",
        sentences=[_elsewhere(run, heads), _turned(heads)],
        panels=[_against_concentration(pair, heads, round(tokens)), _against_itself(pair, heads)],
        headline=heading(run, pair),
        legend="each",
        columns=2,
        size=(4.4, 3.4),
        rests=f"heads: prompts of {shortest_prompt(run.header.thresholds.tau)} tokens or more",
    )


def head_means(run: Run, pair: Pair) -> pl.DataFrame:
    """Give what both planes show of every head, a row each.

    ``score`` is the sink's share of what is paid, ``both`` B + D, ``sinking`` the share of prompts with a sink score of
    tau or more, ``place`` the most frequent `top_position` and ``placed`` its share of prompts.
    """
    measured = run.heads.filter(pair.rows).join(long_prompts(run, pair), on="prompt", how="semi")
    numbers = ("sink_score", "colsum_concentration", "svi", "top_score")
    score, place = pl.col("sink_score").cast(pl.Float64).fill_nan(None), pl.col("top_position")
    means = measured.group_by("block", "head").agg(
        pl.col(numbers).cast(pl.Float64).fill_nan(None).mean(),
        (score / pl.col("attended")).fill_nan(None).mean().alias("score"),
        (score + pl.col("diagonal")).fill_nan(None).mean().alias("both"),
        (score >= run.header.thresholds.tau).mean().alias("sinking"),
        place.mode().min().alias("place"),
        (place == place.mode().min()).mean().alias("placed"),
        pl.len().alias("prompts"),
    )
    return means.drop_nulls("score").sort("block", "head").collect()


def least_concentration(score: np.ndarray, tokens: int) -> np.ndarray:
    """Give C_min, the ColSum concentration of a head whose other columns all get the same.

    Example:
        A score of 1 leaves 1; one of 1/T leaves 0.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        sink, rest = (
            np.nan_to_num(part * np.log(part / share)) for part, share in ((score, 1), (1 - score, tokens - 1))
        )
    return 1 + (sink + rest) / np.log(tokens)


def _against_concentration(pair: Pair, heads: pl.DataFrame, tokens: int) -> Panel:
    at = np.linspace(0, 1, 201)
    curve = pl.DataFrame({"at": at, "mean": least_concentration(at, tokens)})
    whole = (heads["score"] - heads["sink_score"]).abs().max() < 1e-3  # type: ignore[operator] - there is one head or more
    return Panel(
        f"{title('sink_score')} against {title('colsum_concentration')}",
        "sink score" if whole else "sink score / attention paid to tokens",
        "ColSum concentration [no unit]",
        (Line(f"C_min, T = {tokens}", curve, INK, "--", band=False),),
        points=(_points(heads, "score", "colsum_concentration"),),
        share=True,
        scale=_scale(pair),
        heads=pair.key,
    )


def _against_itself(pair: Pair, heads: pl.DataFrame) -> Panel:
    return Panel(
        "SVI against attention to the sink or to itself",
        "SVI = B / (B + D)",
        "B + D [no unit]",
        points=(_points(heads, "svi", "both"),),
        scale=_scale(pair),
        heads=pair.key,
    )


def _points(heads: pl.DataFrame, at: str, mean: str) -> Points:
    prompts = heads["prompts"].unique()
    of = counted(prompts[0], "prompt") if len(prompts) == 1 else "{prompts} prompts"
    rows = heads.select("block", "head", "prompts", at=at, mean=mean, shade="block").with_columns(
        sinking=pl.Series(map(percent, heads["sinking"]), dtype=pl.String)
    )
    return Points("heads", rows, named=False, said=f"block {{block}}, head {{head}}: sinks in {{sinking}} of {of}")


def _scale(pair: Pair) -> Scale:
    last = pair.blocks - 1
    places = sorted({round(last * share) for share in (0, 0.25, 0.5, 0.75, 1)})
    return Scale("block", 0.0, float(last), Ticks(places, list(map(str, places))), DEPTHS)


def _elsewhere(run: Run, heads: pl.DataFrame) -> str:
    """Name the heads that concentrate their attention as a sink does, and not on the sink position."""
    tau, sink = run.header.thresholds.tau, run.header.thresholds.sink_position
    above = heads.filter(pl.col("colsum_concentration") >= tau)
    rows = above.filter(pl.col("sink_score") < tau, pl.col("place") != sink)
    if not rows.height:
        return (
            f"No head sinks elsewhere: none of the {counted(above.height, 'head')} whose ColSum concentration reaches "
            f"{tau} prefers a token other than position {sink}"
        )
    listed = rows.sort("colsum_concentration", descending=True).head(_NAMED).to_dicts()
    rest = f" and {rows.height - _NAMED} more" if rows.height > _NAMED else ""
    said = f"Sinks elsewhere, with a ColSum concentration of {tau} or more and a sink score below it"
    return f"{said}: {'; '.join(map(_named, listed))}{rest}"


def _named(head: dict[str, Any]) -> str:
    most = f"at position {head['place']} in {percent(head['placed'])} of prompts"
    numbers = f"{head['colsum_concentration']:.2f} against {head['sink_score']:.2f}"
    return f"head {head['head']} of block {head['block']} ({numbers}; top score {head['top_score']:.2f}, {most})"


def _turned(heads: pl.DataFrame) -> str:
    """Count the heads that give half of their attention, or more, to the sink and to themselves."""
    rows = heads.filter(pl.col("both") >= _HALF)
    sinks = rows.filter(pl.col("svi") >= _HALF).height
    said = (
        f"{rows.height} of {counted(heads.height, 'head')} give half of their attention or more to the sink or to the"
    )
    return f"{said} token itself (B + D): {sinks} rather to the sink, {rows.height - sinks} rather to themselves"
