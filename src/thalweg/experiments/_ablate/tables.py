"""What an ablation adds to a run: every column of its tables."""

import polars as pl

import thalweg.experiments._columns as shared
from thalweg.experiments._columns import FLAG, NUMBER, SMALL, TEXT, WHOLE, WHOLES, averaged
from thalweg.store import Column, Table, Tables

CONDITION = (
    Column("condition", TEXT, "`intact`, the blocks that were ablated, or a control"),
    Column("seed", SMALL, "draw of a random control; null where nothing is drawn"),
)
DESCRIBED = (
    *CONDITION,
    Column(
        "control",
        TEXT,
        "`negative` if it must leave compression and sinks, `positive` if it must remove them, else null",
    ),
    Column("blocks", TEXT, "blocks whose MLPs add nothing to the segments' rows, such as `0,5-7`; empty for none"),
)
PLACE = (shared.SITE, shared.INDEX, shared.COMPARED)
INTACT = averaged("intact", "mean over prompts of the model as it is")
ABLATED = averaged("ablated", "mean over the same prompts under the condition")
CHANGE = (shared.DIFFERENCE, shared.DIFFERENCE_LOW, shared.HIGH, shared.N)
PHASE = (shared.COMPRESS_FIRST, shared.COMPRESS_LAST)
ROW_OF = Column("row_of", TEXT, "the segment whose row alone is changed; null for the rows of all")
DIMS = Column("dims", WHOLES, "massive coordinates that a control empties", "dimensions")
OTHER_TOKEN = Column("other_token", TEXT, "token of the largest row but the sink's, where it is massive, else null")
JUDGED = (
    shared.SEGMENT,
    Column("phenomenon", TEXT, "`compression` or `sinks`"),
    Column("first", SMALL, "first state of the segment that it can reach, for sinks the block that reads it", "state"),
    Column("last", SMALL, "last one", "state"),
    Column(
        "verdict",
        TEXT,
        "`removed`, `reduced`, `increased`, `unchanged`, `nothing to remove` or `cannot be told`",
    ),
    *(INTACT[0], ABLATED[0], *ABLATED[2:], *CHANGE),
    Column(
        "gone_from", SMALL, "first of its states or blocks from which on it is removed, at least half of them", "state"
    ),
    Column("before_intact", NUMBER, "mean before `gone_from` of the model as it is"),
    Column("before_ablated", NUMBER, "mean there under the condition"),
    Column("anywhere_intact", NUMBER, "share of heads that sink on any token, for sinks", "share of heads"),
    Column("anywhere_ablated", NUMBER, "the same under the condition", "share of heads"),
    Column("moved", FLAG, "whether heads sink on another token from `gone_from` on"),
)
REPLACED = (
    Column("still_states", WHOLES, "states at which the segment's row is massive for half of the prompts", "state"),
    Column(
        "other_states",
        WHOLES,
        "states at which another row has become massive for half of the prompts that had none",
        "state",
    ),
    Column("other_ratio", NUMBER, "its norm over the median row norm at their peak, geometric mean", "ratio"),
    Column("other_position", WHOLE, "where those rows are most often", "token"),
    Column("other_share", NUMBER, "share of them at that position", "share"),
    Column("other_tokens", pl.List(TEXT), "their tokens there, most frequent first"),
    Column("other_prompts", NUMBER, "share of prompts in which another row has become massive at some state", "share"),
)

TABLES = Tables(
    parts={
        "states": Table(
            "one prompt, condition and state",
            (*shared.KEY, *DESCRIBED, shared.STATE, *shared.INTERVENED_STATE, OTHER_TOKEN),
            order=("prompt", "condition", "seed", "state"),
        ),
        "blocks": Table(
            "one prompt, condition and block",
            (*shared.KEY, *CONDITION, shared.BLOCK, *shared.INTERVENED_BLOCK),
            order=("prompt", "condition", "seed", "block"),
        ),
        "losses": Table(
            "one prompt and condition",
            (*shared.KEY, *CONDITION, shared.LOSS, shared.TOKENS),
            order=("prompt", "condition", "seed"),
        ),
    },
    wholes={
        "segments": shared.SEGMENTS,
        "conditions": Table("one condition", (*shared.DATA_KEY, *DESCRIBED, ROW_OF, DIMS, shared.REASON)),
        "effects": Table(
            "one condition, place and metric",
            (*shared.DATA_KEY, *CONDITION, *PLACE, *INTACT, *ABLATED, *CHANGE, shared.GEOMETRIC, *PHASE),
        ),
        "verdicts": Table(
            "one condition, segment and phenomenon",
            (*shared.DATA_KEY, *DESCRIBED, *JUDGED, shared.REASON),
            brief=("condition", "seed", "segment", "phenomenon", "verdict", "intact", "ablated", "difference"),
        ),
        "replacements": Table("one condition", (*shared.DATA_KEY, *CONDITION, *REPLACED)),
    },
    plans=("segments", "conditions"),
    main="verdicts",
)
