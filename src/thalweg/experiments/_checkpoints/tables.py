"""What a comparison of checkpoints adds to a run: every column of its tables."""

import thalweg.experiments._columns as shared
from thalweg.experiments._columns import NUMBER, SMALL, TEXT, WHOLE
from thalweg.store import Column, Table, Tables

REVISION = Column(
    "revision", TEXT, "checkpoint; in `emergence` the first from which the phenomenon stays to the last, null if none"
)
STEP = Column("step", WHOLE, "optimizer step that the revision's name says; null where it says none", "steps")
ORDER = Column("order", WHOLE, "place of the checkpoint in the training, from 0")
METRIC = Column("metric", TEXT, "what is looked at: an extreme over states or over blocks, or a ratio of two")

TABLES = Tables(
    wholes={
        "curves": Table(
            "one checkpoint and metric",
            (
                shared.MODEL,
                REVISION,
                shared.DATA,
                Column("parameters", WHOLE, "numbers in the weights of the model", "numbers"),
                STEP,
                ORDER,
                METRIC,
                Column("index", SMALL, "state or block where it is reached"),
                Column("value", NUMBER, "mean over prompts there; NaN where it is undefined"),
            ),
        ),
        "emergence": Table(
            "one phenomenon",
            (
                shared.MODEL,
                shared.DATA,
                Column("phenomenon", TEXT, "`massive activations`, `sinks` or `valley`"),
                REVISION,
                STEP,
                ORDER,
                METRIC,
                Column("threshold", NUMBER, "value from which the phenomenon is there"),
                Column("definition", TEXT, "the same in words"),
                Column(
                    "reason", TEXT, "why it never emerges, or what to know about it; null where there is nothing to say"
                ),
            ),
        ),
    }
)
