"""What an attribution adds to a run: every column of its tables."""

import polars as pl

import thalweg.experiments._columns as shared
from thalweg.experiments._columns import FLAG, NUMBER, SMALL, TEXT, WHOLE, WHOLES, metrics
from thalweg.store import Column, Table, Tables

ALONG = Column(
    "along",
    NUMBER,
    "component along v, the row's direction at the reference state: of what is added, or of the row",
    "activation units",
)
PART = (shared.BLOCK, Column("part", TEXT, "`embedding`, `attention` or `mlp`; an embedding has no block"))
POSITION = Column("position", WHOLE, "where the segment's row is in the prompt; null where it is too short", "token")
REFERENCE_STATE = Column(
    "reference_state", SMALL, "state of the segment at which its row is longest: v is read there", "state"
)
SUM_ERROR = Column(
    "sum_error",
    NUMBER,
    "distance of the row from the sum of all that was added, over the largest norm on the way",
    "ratio",
)
SINK = (
    *metrics(NUMBER, "sink_norm rest_norm norm_ratio"),
    Column("sink_ratio", NUMBER, "norm of the segment's row over the median row norm", "ratio"),
    *metrics(NUMBER, "row_ratio"),
    *metrics(WHOLE, "row_position"),
)
AFTER_ATTENTION = tuple(
    Column(
        f"{name}_after_attention",
        NUMBER,
        f"`{name}` of what the block that reads this state is given plus what its attention adds, before its MLP; NaN "
        "where no module reads that, as in parallel blocks, and at the last state",
        "activation units",
    )
    for name in ("sink_norm", "rest_norm")
)
WRITTEN = (
    Column("rank", SMALL, "0 for the dimension in which the part writes most, and so on"),
    Column("dim", WHOLE, "dimension that is written to", "dimension"),
    Column("value", NUMBER, "what is written there, with its sign"),
)
ADDED = (
    Column("norm", NUMBER, "norm of what the part adds to the row", "activation units"),
    ALONG,
    Column("share", NUMBER, "`along` over the norm of the row at the reference state", "share of the row"),
    Column("cosine", NUMBER, "`along` over `norm`", "cosine"),
    Column("before", FLAG, "whether the part comes before the reference state; the shares of those that do sum to 1"),
)
AVERAGED = (
    Column("metric", TEXT, "`norm`, `along`, `share` or `cosine`"),
    *(shared.MEAN, shared.STD, shared.LOW, shared.HIGH, shared.N),
    Column("writes", FLAG, "whether it is the MLP of one of the writing blocks"),
    Column("erases", FLAG, "whether it is one of the erasing parts"),
    Column(
        "dims",
        WHOLES,
        "dimensions that hold at least 1% of the squared norm of what is added, on average, largest first",
        "dimensions",
    ),
)
WRITING = (
    Column(
        "writing_blocks",
        WHOLES,
        "smallest set of blocks whose MLPs write the threshold of the massive row; empty with a reason",
        "block",
    ),
    Column(
        "writing_share",
        NUMBER,
        "share of the massive row that their MLPs write; without a set, that of all MLPs that raise it",
        "share",
    ),
    Column("writing_threshold", NUMBER, "share that the set has to reach", "share"),
    Column("writing_agreement", NUMBER, "share of prompts whose own smallest set is this one", "share"),
    Column(
        "erasing_parts",
        pl.List(TEXT),
        "smallest set of parts, such as `mlp 28`, that take the threshold of all that is taken away between the "
        "reference state and the next segment",
    ),
    Column("erasing_share", NUMBER, "share of the massive row that they take away", "share"),
    Column("erased_share", NUMBER, "share of it that all parts there take away that lower it", "share"),
    Column("erasing_agreement", NUMBER, "share of prompts whose own smallest set is this one", "share"),
)
MASSIVE = (
    shared.PROMPTS,
    Column("massive_prompts", WHOLE, "prompts whose row is massive inside the segment", "prompts"),
)

TABLES = Tables(
    parts={
        "states": Table(
            "one prompt, segment and state",
            (*shared.KEY, shared.SEGMENT, shared.STATE, POSITION, *SINK, *AFTER_ATTENTION, ALONG, SUM_ERROR),
            order=("prompt", "segment", "state"),
        ),
        "dimensions": Table(
            "one prompt, segment, part and dimension",
            (*shared.KEY, shared.SEGMENT, *PART, *WRITTEN),
            order=("prompt", "segment", "block", "part", "rank"),
        ),
        "contributions": Table(
            "one prompt, segment and part",
            (*shared.KEY, shared.SEGMENT, *PART, *ADDED, shared.REASON),
            order=("prompt", "segment", "block", "part"),
        ),
    },
    wholes={
        "segments": shared.SEGMENTS,
        "attribution": Table(
            "one segment, part and metric, averaged over prompts",
            (*shared.DATA_KEY, shared.SEGMENT, *PART, *AVERAGED),
            across="metric",
        ),
        "writers": Table(
            "one segment of a model on one data set",
            (
                *shared.DATA_KEY,
                shared.SEGMENT,
                shared.FIRST,
                shared.LAST,
                REFERENCE_STATE,
                *WRITING,
                *MASSIVE,
                shared.REASON,
            ),
        ),
    },
    plans=("segments",),
)
