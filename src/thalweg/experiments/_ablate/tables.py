"""What an ablation adds to a run: every column of its tables."""

from thalweg.experiments import _columns as shared
from thalweg.experiments._columns import NUMBER, SMALL, TEXT, WHOLE, WHOLES, averaged
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
    Column("blocks", TEXT, "blocks whose MLPs add nothing to the sink token's row, such as `0,5-7`; empty for none"),
)
PLACE = (shared.SITE, shared.INDEX, shared.COMPARED)
INTACT = averaged("intact", "mean over prompts of the model as it is")
ABLATED = averaged("ablated", "mean over the same prompts under the condition")
CHANGE = (shared.DIFFERENCE, shared.DIFFERENCE_LOW, shared.HIGH, shared.N)
PHASE = (shared.COMPRESS_FIRST, shared.COMPRESS_LAST)
COST = (
    Column("loss_intact", NUMBER, "mean loss of the model as it is, in nats a token", "nats"),
    Column("loss_ablated", NUMBER, "the same under the condition", "nats"),
    Column("loss_change", NUMBER, "mean of the paired differences of the loss", "nats"),
    Column("loss_low", NUMBER, "lower end of its 95% interval", "nats"),
    Column("loss_high", NUMBER, "upper end of that interval", "nats"),
)
LEFT = (
    Column(
        "massive_states",
        WHOLES,
        "states that are massive for at least half of the prompts under the condition",
        "state",
    ),
    Column("massive_position", WHOLE, "where the largest row of those states is most often", "token"),
    Column("massive_position_share", NUMBER, "share of prompts with the largest row there", "share"),
    Column(
        "replacement",
        TEXT,
        "whether another massive row took the place of the removed one, in words; null if none did",
    ),
)
JUDGED = (
    Column("phenomenon", TEXT, "`compression` or `sinks`"),
    Column("verdict", TEXT, "`removed`, `reduced`, `increased` or `unchanged`; null where it cannot be said"),
    *(INTACT[0], ABLATED[0], *ABLATED[2:], *CHANGE),
)
DIMS = Column("dims", WHOLES, "massive coordinates that a control empties", "dimensions")

TABLES = Tables(
    parts={
        "states": Table(
            "one prompt, condition and state",
            (*shared.KEY, *DESCRIBED, shared.STATE, *shared.INTERVENED_STATE),
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
        "conditions": Table("one condition", (*shared.DATA_KEY, *DESCRIBED, DIMS, shared.REASON)),
        "effects": Table(
            "one condition, place and metric",
            (*shared.DATA_KEY, *CONDITION, *PLACE, *INTACT, *ABLATED, *CHANGE, shared.GEOMETRIC, *PHASE),
        ),
        "verdicts": Table(
            "one condition and phenomenon",
            (*shared.DATA_KEY, *DESCRIBED, *JUDGED, *COST, *LEFT, *PHASE, shared.REASON),
        ),
    },
    plans=("segments", "conditions"),
)
