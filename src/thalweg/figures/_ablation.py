"""The model as it is against the model without the massive row's writers: the paper's Figures 4, 17 and 18."""

from collections import Counter
from textwrap import fill

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thalweg.figures._ablated import ablation_answers, ablation_curves
from thalweg.figures._drawing import GREY, PALETTE, Look, draw_band, finish, panels, shade, styled
from thalweg.figures._labels import from_zero_to_one, plain, title, unit
from thalweg.figures._pairs import Pair, labels
from thalweg.store import Findings, Run

ABLATION_METRICS = ("entropy_normalized", "sink_rate", "sink_norm")
ALONE = ("#E69F00", "#CC79A7", "#999933", "#882255", "#117733", "#661100")
NEGATIVE, POSITIVE = "#222222", "#009E73"
THICK, THIN = 3.4, 1.1
_DASHES = ("--", ":", "-.")


@styled
def ablation(run: Run, pair: Pair, experiment: Findings) -> Figure:
    """Draw normalized entropy, sink rate and the sink token's norm through depth under every condition.

    Args:
        run: the run that holds the ablation.
        pair: the model and the data set.
        experiment: the ablation.

    Returns:
        Three panels, the compress phase of the model as it is shaded: solid the model as it is and without the writers,
        dashed the controls, in grey the other tokens' mean norm; bands of one standard deviation for the first two.
    """
    rows = ablation_curves(experiment, pair, (*ABLATION_METRICS, "rest_norm"))
    looks = condition_looks(rows)
    ends = experiment.table("effects").filter(pair.rows).select("compress_first", "compress_last").head(1).collect()
    figure, axes = panels(len(ABLATION_METRICS), width=3.9, height=3.4)
    for panel, metric in zip(axes, ABLATION_METRICS, strict=True):
        if None not in ends.row(0):
            shade(panel, ends.row(0), label="compress phase")
        _draw(panel, rows, metric, looks)
    handles = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    said = f"{labels(run.header)[pair.model, pair.revision]} on {pair.data}: {_answer(experiment, pair)}"
    figure.suptitle(fill(plain(said), 140))
    return figure


def condition_looks(rows: pl.DataFrame) -> dict[str, Look]:
    """Give every series its look: draws of one control share it.

    Args:
        rows: what `ablation_curves` returned.

    Returns:
        By series, in order; a solid line is no control, a thick one is the comparison that it is all about.
    """
    looks, before = dict[str, Look](), Counter[str]()
    for series, role in rows.select("series", "role").unique(maintain_order=True).iter_rows():
        color, dash = {
            "intact": (PALETTE[0], "-"),
            "ablated": (PALETTE[1], "-"),
            "alone": (ALONE[before[role] % len(ALONE)], "-"),
            "negative": (NEGATIVE, _DASHES[before[role] % len(_DASHES)]),
            "positive": (POSITIVE, _DASHES[before[role] % len(_DASHES)]),
        }[role]
        before[role] += 1
        looks[series] = Look(color, dash, series, THICK if role in ("intact", "ablated") else THIN)
    return looks


def _draw(panel: Axes, rows: pl.DataFrame, metric: str, looks: dict[str, Look]) -> None:
    log = metric == "sink_norm"
    conditions = rows.select("series", "role", "condition", "seed").unique(maintain_order=True)
    # thin dashes on top of what is thick and solid: where a control agrees with a line, both are seen
    order = {role: place for place, role in enumerate(("intact", "ablated", "alone", "negative", "positive"))}
    for series, role, condition, seed in sorted(conditions.iter_rows(), key=lambda row: order[row[1]]):
        own = rows.filter(pl.col("condition") == condition, pl.col("seed").eq_missing(pl.lit(seed, pl.Int32)))
        look, strong = looks[series], role in ("intact", "ablated")
        if log:
            rest = own.filter(metric="rest_norm")
            draw_band(panel, rest, "index", Look(GREY, look.linestyle, width=THIN), log=True, band=False)
        named = Look(look.color, look.linestyle, plain(series), look.width)
        draw_band(panel, own.filter(metric=metric), "index", named, log=log, band=strong)
    site = "block" if metric == "sink_rate" else "state"
    heading = f"{title(metric)} (others in grey)" if log else title(metric)
    finish(panel, x=site, y=f"[{unit(metric)}]", title=heading, log=log, unit_range=from_zero_to_one(metric))


def _answer(experiment: Findings, pair: Pair) -> str:
    """The sentence on all blocks together."""
    effects = experiment.table("effects").select("model", "revision", "data").unique(maintain_order=True).collect()
    place = list(effects.iter_rows()).index((pair.model, pair.revision, pair.data))
    ablated = [one for one in ablation_answers(experiment)[place] if one.startswith("Without")]
    return ablated[-1] if ablated else "not judged yet"
