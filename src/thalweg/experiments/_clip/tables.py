"""What clipping adds to a run: every column of its tables."""

import thalweg.experiments._columns as shared
from thalweg.experiments._columns import NUMBER, NUMBERS, WHOLES, averaged
from thalweg.store import Column, Table, Tables

GAMMA = Column("gamma", NUMBER, "largest magnitude that coordinates of the massive row may have", "activation units")
PLACE = (shared.SITE, shared.INDEX, shared.COMPARED)
INTACT = averaged("intact", "mean over prompts of the model as it is")
CLIPPED = averaged("clipped", "mean over the same prompts, clipped")
CHANGE = (shared.DIFFERENCE, shared.DIFFERENCE_LOW, shared.HIGH, shared.N)
PHASE = (shared.COMPRESS_FIRST, shared.COMPRESS_LAST)

TABLES = Tables(
    parts={
        "states": Table(
            "one prompt, gamma and state",
            (*shared.KEY, GAMMA, shared.STATE, *shared.INTERVENED_STATE),
            order=("prompt", "gamma", "state"),
        ),
        "blocks": Table(
            "one prompt, gamma and block",
            (*shared.KEY, GAMMA, shared.BLOCK, *shared.INTERVENED_BLOCK),
            order=("prompt", "gamma", "block"),
        ),
        "losses": Table(
            "one prompt and gamma", (*shared.KEY, GAMMA, shared.LOSS, shared.TOKENS), order=("prompt", "gamma")
        ),
    },
    wholes={
        "segments": shared.SEGMENTS,
        "sweeps": Table(
            "one model on one data set",
            (
                *shared.DATA_KEY,
                Column("gammas", NUMBERS, "every gamma of the sweep, smallest first", "activation units"),
                Column("dims", WHOLES, "the massive coordinates", "dimensions"),
                Column("peak", NUMBER, "largest magnitude of the massive coordinates; NaN without", "activation units"),
                Column(
                    "ordinary",
                    NUMBER,
                    "largest magnitude in the other rows, inside the compress phase",
                    "activation units",
                ),
            ),
        ),
        "curves": Table(
            "one gamma, place and metric",
            (*shared.DATA_KEY, GAMMA, *PLACE, *INTACT, *CLIPPED, *CHANGE, shared.GEOMETRIC, *PHASE),
        ),
    },
    plans=("segments", "sweeps"),
)
