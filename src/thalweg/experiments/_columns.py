"""Columns that tables of several experiments share, and those that hold a metric of the catalogue."""

from typing import Any

import polars as pl

from thalweg.catalogue import metric
from thalweg.store import Column, Table

TEXT, FLAG, SMALL, WHOLE, WHOLES = pl.String(), pl.Boolean(), pl.Int32(), pl.Int64(), pl.List(pl.Int64())
TEXTS = pl.List(pl.String())
NUMBER, HALF, NUMBERS = pl.Float64(), pl.Float32(), pl.List(pl.Float64())

BLOCK = Column("block", SMALL, "0..L-1", "block")
COMPRESS_FIRST = Column("compress_first", SMALL, "first state of the compress phase; null without one", "state")
COMPRESS_LAST = Column("compress_last", SMALL, "last state of the compress phase; null without one", "state")
DATA = Column("data", TEXT, "name of the data set: short name, hub name, or the file's name")
DIFFERENCE = Column(
    "difference", NUMBER, "mean of the paired differences from `intact`; where `geometric`, of the factor"
)
GEOMETRIC = Column("geometric", FLAG, "whether averages are of logarithms, as for ratios")
HAS_MASSIVE_ACTIVATIONS = Column("has_massive_activations", FLAG, "whether any state is massive for the model")
HEAD = Column("head", SMALL, "query head, from 0", "head")
HIGH = Column("high", NUMBER, "upper end of the interval that `low` begins")
INDEX = Column("index", SMALL, "number of the state or block, null for a prompt or a mean over depth")
LOSS = Column("loss", NUMBER, "mean next-token cross entropy of the prompt, in nats", "nats")
DIFFERENCE_LOW = Column("low", NUMBER, "lower end of the 95% interval of `difference`")
LOW = Column("low", NUMBER, "lower end of the 95% t interval of the mean")
MEAN = Column("mean", NUMBER, "over prompts with a finite value; where `geometric`, averaged as a logarithm")
COMPARED = Column("metric", TEXT, "what is compared")
MODEL = Column("model", TEXT, "hub id, directory or file, as given")
N = Column("n", WHOLE, "prompts that entered", "prompts")
PROMPT = Column("prompt", WHOLE, "0-based row number in the data as read")
PROMPTS = Column("prompts", WHOLE, "prompts measured", "prompts")
REASON = Column("reason", TEXT, "why numbers of this row are undefined, or what is missing; null without one")
REVISION = Column("revision", TEXT, "as asked for; `main` for the hub's default, `local` for a directory")
SITE = Column("site", TEXT, "`state`, `block` or `prompt`; a segment or `depth` for a mean over its states or blocks")
STATE = Column("state", SMALL, "0..L", "state")
STD = Column("std", NUMBER, "standard deviation over prompts (ddof 1); where `geometric`, that of the logarithm")
TOKENS = Column("tokens", SMALL, "T, the number of real tokens", "tokens")

AVERAGE = (MEAN, STD, LOW, HIGH, N, GEOMETRIC)
MODEL_KEY = (MODEL, REVISION)
DATA_KEY = (*MODEL_KEY, DATA)
KEY = (*DATA_KEY, PROMPT)


def metrics(dtype: Any, names: str) -> tuple[Column, ...]:
    """Columns that hold metrics: unit and meaning are those of the catalogue."""
    return tuple(Column(name, dtype, metric(name).title, metric(name).unit) for name in names.split())


FIRST = Column("first", SMALL, "first state of the segment", "state")
LAST = Column("last", SMALL, "last state of the segment", "state")
SEGMENT = Column("segment", TEXT, "`compress`, `wave`, `wave 2` ..., or `none` where no state is massive")
SEGMENT_SPAN = (
    *DATA_KEY,
    Column("name", TEXT, SEGMENT.meaning),
    FIRST,
    LAST,
    Column("peak", SMALL, "state of the largest mean `row_ratio`", "state"),
    Column("run_first", SMALL, "first state of its run of massive states, shoulders included", "state"),
    Column("until", SMALL, "last state that is counted as its own: means of mix and refine leave it out", "state"),
)
SEGMENT_ROW = (
    Column("peak_ratio", NUMBER, "geometric mean over prompts of `row_ratio` at the peak", "ratio"),
    Column("massive_prompts", NUMBER, "share of prompts that are massive at the peak", "share"),
    Column("position", WHOLE, "where its row, the largest one at the peak, is most often", "token"),
    Column("position_share", NUMBER, "share of prompts with the row there", "share"),
    Column("tokens", TEXTS, "texts of the token there, the most frequent first"),
)
SEGMENTS = Table(
    "one segment, in order of depth; where there is none, what takes its place",
    (
        *SEGMENT_SPAN,
        *SEGMENT_ROW,
        Column(
            "reference_state",
            SMALL,
            "the state of the segment at which the row is longest; without one, at which it stands out most",
            "state",
        ),
        Column(
            "sink_position", WHOLE, "the position that takes the place of its row in every prompt; else null", "token"
        ),
        Column("dims", WHOLES, "massive coordinates of the row: at least 1% of its squared norm", "dimensions"),
        Column("largest", NUMBER, "largest magnitude of the row's coordinates at states 1..L", "activation units"),
        Column("ordinary", NUMBER, "largest magnitude in any other row, at the segment's states", "activation units"),
    ),
)


INTERVENED_STATE = (
    *metrics(NUMBER, "entropy entropy_normalized entropy_without_massive"),
    *metrics(NUMBER, "sink_norm rest_norm norm_ratio row_ratio"),
    *metrics(WHOLE, "row_position"),
    Column("own_ratio", NUMBER, "norm of the sink's row over the median row norm", "ratio"),
    Column("other_ratio", NUMBER, "the same of the largest other row", "ratio"),
    Column("other_position", WHOLE, "where that row is", "token"),
)
"""Of a model that is changed or as it is; the entropy without massive rows of the latter alone."""
INTERVENED_BLOCK = (
    *metrics(NUMBER, "sink_rate"),
    Column("top_rate", NUMBER, "share of heads whose most attended token's score reaches tau", "share of heads"),
    Column("elsewhere_rate", NUMBER, "the same, where that token is not the sink", "share of heads"),
    *metrics(NUMBER, "sink_score top_score mixing_normalized"),
)
"""Scores and mixing are means over heads."""


def averaged(name: str, meaning: str) -> tuple[Column, ...]:
    """A mean over prompts with its standard deviation and its 95% interval."""
    return (
        Column(name, NUMBER, meaning),
        Column(f"{name}_std", NUMBER, f"standard deviation over prompts of `{name}`"),
        Column(f"{name}_low", NUMBER, f"lower end of the 95% interval of `{name}`"),
        Column(f"{name}_high", NUMBER, "upper end of it"),
    )
