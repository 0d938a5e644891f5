"""What a contrast adds to a run: every column of its tables."""

import thalweg.experiments._columns as shared
from thalweg.experiments._columns import FLAG, NUMBER, SMALL, TEXT, WHOLE
from thalweg.store import Column, Table, Tables

PROMPTS = Column("prompts", WHOLE, "prompts that take part", "prompts")
PER_SIDE = Column("per_side", WHOLE, "prompts in the top, and as many in the bottom", "prompts")
BOTTOM = Column("bottom", NUMBER, "mean over the prompts that rank bottom without this head", "unit of the metric")
CHANCE = Column(
    "p", NUMBER, "chance of a difference of this magnitude if the ranking means nothing to the head", "share"
)
RATE = Column(
    "q", NUMBER, "least false-discovery rate at which the head counts as changed (Benjamini and Hochberg)", "share"
)
REASON = Column(
    "reason", TEXT, "why nothing is compared or tested, or what to know about it; null where there is nothing to say"
)

TABLES = Tables(
    wholes={
        "rankings": Table(
            "one model on one data set",
            (
                *shared.DATA_KEY,
                Column("by", TEXT, "metric of heads that prompts are ranked by"),
                Column("length", SMALL, "tokens that every compared prompt has; null where lengths differ", "tokens"),
                PROMPTS,
                PER_SIDE,
                Column("other_length", WHOLE, "prompts left out because they have another length", "prompts"),
                Column("undefined", WHOLE, "prompts left out because a head's value is undefined", "prompts"),
                Column("heads", WHOLE, "heads that take part in the ranking", "heads"),
                Column("changed", WHOLE, "heads that change in what prompts are ranked by", "heads"),
                Column("permutations", WHOLE, "random pairs of sets that p stands on"),
                Column("exact", FLAG, "whether these are all there are"),
                Column("least_p", NUMBER, "the smallest p that they can give", "share"),
                Column("fdr", NUMBER, "false-discovery rate allowed", "share"),
                REASON,
            ),
        ),
        "heads": Table(
            "one head and metric",
            (
                *shared.DATA_KEY,
                shared.BLOCK,
                shared.HEAD,
                Column("metric", TEXT, "metric of heads that is compared"),
                Column("top", NUMBER, "mean over the prompts that rank top without this head", "unit of the metric"),
                BOTTOM,
                Column("difference", NUMBER, "`top` - `bottom`"),
                shared.DIFFERENCE_LOW,
                Column("high", NUMBER, "upper end of it"),
                CHANCE,
                RATE,
                Column("changes", FLAG, "whether `q` is at most `fdr`"),
                Column("overall_top", NUMBER, "mean over the prompts that rank top by all heads"),
                Column("overall_bottom", NUMBER, "mean over the prompts that rank bottom by all heads"),
                Column("overall_difference", NUMBER, "their difference: what the maps show"),
                PER_SIDE,
                PROMPTS,
                REASON,
            ),
        ),
        "prompts": Table(
            "one prompt of either side",
            (
                *shared.DATA_KEY,
                Column("side", TEXT, "`top` or `bottom`"),
                Column("rank", SMALL, "place on its side, from 0: the strongest of the top, the weakest of the bottom"),
                shared.PROMPT,
                shared.TOKENS,
                Column("score", NUMBER, "mean of `by` over all heads"),
            ),
        ),
    },
    main="heads",
)
