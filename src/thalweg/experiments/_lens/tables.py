"""What a lens, and the training of one, adds to a run: every column of its tables."""

from pathlib import Path

import thalweg.experiments._columns as shared
from thalweg.experiments._columns import NUMBER, SMALL, TEXT, WHOLE
from thalweg.store import Column, Findings, Table, Tables

ROWS = (
    *shared.DATA_KEY,
    Column("prompt", WHOLE, "0-based row number in the data as read, or number of the block"),
    shared.STATE,
    Column("scored", SMALL, "tokens that entered: those that have a token before them", "tokens"),
    Column("loss_sum", NUMBER, "sum over them of the cross entropy, nats", "nats"),
    Column("output_entropy_sum", NUMBER, "sum of the entropy of the predicted distribution, nats", "nats"),
    Column("agreement_sum", NUMBER, "how many have the last state's most probable token", "tokens"),
    Column("kl_sum", NUMBER, "sum of KL(last || state), nats", "nats"),
)
CURVES = (
    *shared.DATA_KEY,
    shared.STATE,
    Column("metric", TEXT, "`loss`, `perplexity`, `output_entropy`, `agreement` or `kl`"),
    Column("value", NUMBER, "average over tokens, sum over sum; the perplexity is exp(loss)"),
    Column("low", NUMBER, "lower end of the 95% interval, over prompts or blocks"),
    shared.HIGH,
    Column("scored", WHOLE, "tokens that entered: those that have a token before them", "tokens"),
    Column(
        "n", WHOLE, "prompts or blocks that entered; one with a sum that is not finite is left out", "prompts or blocks"
    ),
)
TRAINING = (
    *shared.DATA_KEY,
    Column("step", WHOLE, "of the optimiser, from 0", "steps"),
    Column("state", SMALL, "whose translator it is, 0..L-1", "state"),
    Column("kl", NUMBER, "KL(last || state) of the tokens of a step, before it; nats", "nats"),
)
TABLES = Tables(
    parts={"lens": Table("one prompt, or block of the text, and state", ROWS, order=("prompt", "state"))},
    wholes={"curves": Table("one state and metric", CURVES, across="metric")},
)
TRAINING_TABLES = Tables(wholes={"training": Table("one step and state", TRAINING)})


def trained_lens(training: Findings) -> Path:
    """Where the lens of a training is: what ``tuned`` and ``--tuned`` take."""
    return training.directory / "lens"
